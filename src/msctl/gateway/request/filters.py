"""The filters that run before a request is forwarded: CORS, authentication, rate limit, redirect.

Pure: they take a plan and fields, and return edits of the response or a response.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from msctl.gateway.message.headers import Field, Fields, first, text
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.response_fields import Edits
from msctl.gateway.observer import Observer
from msctl.gateway.policies import cors
from msctl.gateway.policies.limits import RateLimiter
from msctl.gateway.request.forwarded import Plan
from msctl.gateway.routing.redirects import location
from msctl.model.route_spec import RateLimitKey

_RATE_FIELDS = frozenset({b"ratelimit", b"ratelimit-policy"})
_PHRASES = {301: b"Moved Permanently", 302: b"Found", 303: b"See Other", 307: b"Temporary Redirect"}


class DirectResponse(NamedTuple):
    """A response of the gateway's own, without a body."""

    status: int
    reason: bytes
    fields: Fields


class EditsHolder(Protocol):
    """Holds the edits made so far.

    If a filter refuses the request, its response still carries the edits of the filters before it: a
    browser can read a 401 only if it has the CORS fields.
    """

    edits: Edits | None


def cors_filter(
    plan: Plan, fields: Sequence[Field], edits: Edits, holder: EditsHolder
) -> DirectResponse | Edits:
    """Return the response to a preflight, else the edits of the response. The first filter of all."""
    route = plan.settings.route
    if route.cors is None:
        return edits
    if cors.preflight_for(plan.head.method, fields) is not None:
        return DirectResponse(204, b"No Content", cors.preflight(route.cors, fields))
    extra = (*edits.extra, *cors.response_fields(route.cors, fields))
    holder.edits = edits = edits._replace(owned=edits.owned | cors.OWNED, extra=extra)
    return edits


def apply_filters(
    plan: Plan, fields: Sequence[Field], edits: Edits, holder: EditsHolder, observer: Observer | None
) -> DirectResponse | Edits:
    """Return the edits of the response if the request is to be forwarded, else the response.

    `cors_filter` comes before. Raises ProblemError (401, 429) for a request that is refused.
    """
    settings, route = plan.settings, plan.settings.route
    credential = ""
    for check in settings.authenticators:
        credential = check(fields)
    if settings.limiter is not None:
        key = _bucket_key(settings.limiter, plan, fields, credential)
        edits = _limit(settings.limiter, key, edits, plan, holder, observer)
    if plan.gateway_response is not None:
        return DirectResponse(200, b"OK", list(plan.gateway_response))
    if route.redirect is not None:
        where = location(
            route.redirect, plan.match.rule, plan.target, scheme=plan.scheme, host=plan.head.host
        )
        status = route.redirect.status
        found: Fields = [(b"Location", where.encode("utf-8", "surrogateescape"))]
        return DirectResponse(status, _PHRASES.get(status, b"Permanent Redirect"), found)
    return edits


def _limit(
    limiter: RateLimiter, key: str, edits: Edits, plan: Plan, holder: EditsHolder, observer: Observer | None
) -> Edits:
    allowance = limiter.take(key)
    extra = (*edits.extra, *limiter.fields(allowance))
    holder.edits = edits = edits._replace(owned=edits.owned | _RATE_FIELDS, extra=extra)
    if not allowance.allowed:
        path = plan.settings.route.path
        if observer is not None:
            observer.rate_limited(path)
        raise ProblemError(
            Problem(
                429,
                f"Too many requests to {path}: the next one is allowed in {allowance.retry_after:.1f} s.",
                error="http_request_denied",
                retry_after=allowance.retry_after,
            )
        )
    return edits


def _bucket_key(limiter: RateLimiter, plan: Plan, fields: Sequence[Field], credential: str) -> str:
    """Return the key of the client's bucket, prefixed by its kind."""
    spec = limiter.spec
    if spec.key is RateLimitKey.ROUTE:
        return ""
    if spec.key is RateLimitKey.CREDENTIAL and credential:
        return f"credential {credential}"
    if spec.key is RateLimitKey.HEADER and spec.header is not None:
        value = first(fields, spec.header.lower().encode())
        if value is not None:
            return f"header {text(value[:256])}"
    return f"client {plan.client_address}"
