"""A route with everything about it that does not depend on the request: limits, guards, edits.

Pure. Three levels of configuration become one: the route's, its service's, the gateway's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

from msctl.clock import Clock
from msctl.gateway.policies.auth import Guard, api_keys, bearer_token
from msctl.gateway.policies.limits import RateLimiter
from msctl.model.project import Balance, GatewaySpec, RouteSpec, UpstreamPolicy

T = TypeVar("T")


class Limits(NamedTuple):
    """What holds for one route to one service; times in seconds, sizes in bytes (0 = no limit)."""

    connect_timeout: float
    response_timeout: float
    idle_timeout: float
    max_body: int
    retries: int


class Settings(NamedTuple):
    """How requests that a route takes are dealt with."""

    route: RouteSpec
    limits: Limits
    balance: Balance
    guards: tuple[Guard, ...]
    limiter: RateLimiter | None
    guarded: bool
    """Whether anything is to be done before a request is forwarded, or instead."""


def settings(
    spec: GatewaySpec, route: RouteSpec, service: UpstreamPolicy, clock: Clock, environ: Mapping[str, str]
) -> Settings:
    """Raises ConfigError where a guard's key is not in `environ`."""
    own = route.policy
    limits = Limits(
        first(own.connect_timeout, service.connect_timeout, spec.connect_timeout),
        first(own.response_timeout, service.response_timeout, spec.response_timeout),
        first(own.idle_timeout, service.idle_timeout, spec.idle_timeout),
        first(own.max_body, service.max_body, spec.max_body),
        first(own.retries, service.retries, spec.retries),
    )
    guards: list[Guard] = []
    if route.api_key is not None:
        guards.append(api_keys(route.api_key, environ))
    if route.jwt is not None:
        guards.append(bearer_token(route.jwt, environ))
    limiter = None if route.rate_limit is None else RateLimiter(route.rate_limit, clock)
    guarded = bool(guards or limiter is not None or route.cors or route.redirect or route.compose)
    balance = first(own.balance, service.balance, spec.balance)
    return Settings(route, limits, balance, tuple(guards), limiter, guarded)


def unrouted(spec: GatewaySpec, route: RouteSpec) -> Settings:
    """For requests that the gateway answers by itself."""
    limits = Limits(spec.connect_timeout, spec.response_timeout, spec.idle_timeout, spec.max_body, retries=0)
    return Settings(route, limits, spec.balance, (), None, guarded=True)


def first(*values: T | None) -> T:
    """The first that is set; the last always is."""
    return next(value for value in values if value is not None)
