"""The settings of a route: its own configuration over its service's over the gateway's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from msctl.clock import Clock
from msctl.gateway.policies.api_keys import api_keys
from msctl.gateway.policies.auth import Authenticator
from msctl.gateway.policies.basic_auth import BasicAuth, basic_auth
from msctl.gateway.policies.bearer_token import bearer_token
from msctl.gateway.policies.jwks import PublicKey
from msctl.gateway.policies.limits import RateLimiter
from msctl.gateway.policies.split import split_of
from msctl.gateway.policies.traffic import Traffic, traffic_of
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_policies import JwtSpec
from msctl.model.route_spec import RouteSpec
from msctl.model.upstream_policy import Balance, FailureKind, UpstreamPolicy, first_set
from msctl.secret import Secret


class KeySource(Protocol):
    """The public keys of an issuer."""

    def current(self) -> Sequence[PublicKey]:
        """Return the keys fetched last."""
        ...

    async def prepare(self, token: bytes) -> None:
        """Fetch keys if this token calls for it; raises ProblemError (503) if there are none to be had."""
        ...


class Limits(NamedTuple):
    """The limits of one route to one service. Times in seconds, sizes in bytes (0 = no limit)."""

    connect_timeout: float
    response_timeout: float
    idle_timeout: float
    stream_idle_timeout: float
    max_body: int
    retries: int
    breaker_on: tuple[FailureKind, ...]


class RouteSettings(NamedTuple):
    """How the gateway handles the requests of a route."""

    route: RouteSpec
    limits: Limits
    balance: Balance
    authenticators: tuple[Authenticator, ...]
    limiter: RateLimiter | None
    users: BasicAuth | None
    keys: KeySource | None
    """What is waited for before the authenticators can tell (gateway/access.py)."""
    traffic: Traffic | None
    filtered: bool
    """Whether filters run before a request is forwarded (see request/filters.py)."""


def settings(
    spec: GatewaySpec,
    route: RouteSpec,
    service: UpstreamPolicy,
    clock: Clock,
    secrets: Mapping[str, Secret],
    key_source: Callable[[JwtSpec], KeySource],
) -> RouteSettings:
    """Merge the three levels; raises ConfigError for a secret missing from `secrets`.

    `key_source` returns the keys of an issuer.
    """
    own = route.policy
    limits = Limits(
        first_set(own.connect_timeout, service.connect_timeout, spec.connect_timeout),
        first_set(own.response_timeout, service.response_timeout, spec.response_timeout),
        first_set(own.idle_timeout, service.idle_timeout, spec.idle_timeout),
        first_set(own.stream_idle_timeout, service.stream_idle_timeout, spec.stream_idle_timeout),
        first_set(own.max_body, service.max_body, spec.max_body),
        first_set(own.retries, service.retries, spec.retries),
        first_set(own.breaker_on, service.breaker_on, spec.breaker_on),
    )
    where = f"services.{route.service}.routes: {route.path}:" if route.service else f"routes: {route.path}:"
    authenticators: list[Authenticator] = []
    if route.api_key is not None:
        authenticators.append(api_keys(route.api_key, f"{where} api_key.env", secrets))
    keys = users = None
    if route.jwt is not None:
        keys = key_source(route.jwt) if route.jwt.fetches_keys else None
        key_set = None if keys is None else keys.current
        authenticators.append(bearer_token(route.jwt, f"{where} jwt.key_env", secrets, key_set))
    if route.basic_auth is not None:
        users = basic_auth(route.basic_auth, f"{where} basic_auth", secrets)
        authenticators.append(users.user)
    limiter = None if route.rate_limit is None else RateLimiter(route.rate_limit, clock)
    answers = route.redirect or route.compose or route.static
    filtered = bool(authenticators or limiter is not None or route.cors or route.forward_auth or answers)
    sticky = own.sticky or service.sticky
    traffic = None if answers else traffic_of(split_of(route), sticky, route.mirror)
    balance = first_set(own.balance, service.balance, spec.balance)
    return RouteSettings(
        route, limits, balance, tuple(authenticators), limiter, users, keys, traffic, filtered
    )


def unrouted(spec: GatewaySpec, route: RouteSpec) -> RouteSettings:
    """Return the settings of requests that the gateway answers itself."""
    limits = Limits(
        spec.connect_timeout,
        spec.response_timeout,
        spec.idle_timeout,
        spec.stream_idle_timeout,
        spec.max_body,
        retries=0,
        breaker_on=(),
    )
    return RouteSettings(route, limits, spec.balance, (), None, None, None, None, filtered=True)
