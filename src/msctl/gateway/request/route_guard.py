"""What a route may want before a request goes on: CORS, credentials, its rate limit, a redirect.

Pure: a plan and fields in; out come the edits of the response, or the answer itself.
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
from msctl.gateway.request.plan import Plan
from msctl.gateway.routing.redirects import location
from msctl.model.project import RateLimitKey

_RATE_FIELDS = frozenset({b"ratelimit", b"ratelimit-policy"})
_PHRASES = {301: b"Moved Permanently", 302: b"Found", 303: b"See Other", 307: b"Temporary Redirect"}


class Answer(NamedTuple):
    """A response without a body that the gateway gives by itself."""

    status: int
    reason: bytes
    fields: Fields


class Passage(Protocol):
    """One request's way past its guards.

    `edits` grow as guards are passed, so that an answer in between carries what it should (a browser
    can read a 401 only with the fields of CORS on it).
    """

    edits: Edits | None


def guard(
    plan: Plan, fields: Sequence[Field], edits: Edits, passage: Passage, observer: Observer | None
) -> Answer | Edits:
    """The edits of the response to a request that may go on, or the answer to one that need not.

    Raises ProblemError (401, 429) for one that may not.
    """
    known, route = plan.settings, plan.settings.route
    if route.cors is not None:
        if cors.is_preflight(plan.head.method, fields):
            return Answer(204, b"No Content", cors.preflight(route.cors, fields))
        extra = (*edits.extra, *cors.response_fields(route.cors, fields))
        passage.edits = edits = edits._replace(owned=edits.owned | cors.OWNED, extra=extra)
    credential = ""
    for check in known.guards:
        credential = check(fields)
    if known.limiter is not None:
        key = _client(known.limiter, plan, fields, credential)
        edits = _limit(known.limiter, key, edits, plan, passage, observer)
    if plan.own is not None:
        return Answer(200, b"OK", list(plan.own))
    if route.redirect is not None:
        where = location(
            route.redirect, plan.match.rule, plan.target, scheme=plan.scheme, host=plan.head.host
        )
        status = route.redirect.status
        found: Fields = [(b"Location", where.encode("utf-8", "surrogateescape"))]
        return Answer(status, _PHRASES.get(status, b"Permanent Redirect"), found)
    return edits


def _limit(
    limiter: RateLimiter, key: str, edits: Edits, plan: Plan, passage: Passage, observer: Observer | None
) -> Edits:
    verdict = limiter.take(key)
    extra = (*edits.extra, *limiter.fields(verdict))
    passage.edits = edits = edits._replace(owned=edits.owned | _RATE_FIELDS, extra=extra)
    if not verdict.allowed:
        path = plan.settings.route.path
        if observer is not None:
            observer.rate_limited(path)
        raise ProblemError(
            Problem(
                429,
                f"Too many requests to {path}: the next one is let through in {verdict.retry_after:.1f} s.",
                error="http_request_denied",
                retry_after=verdict.retry_after,
            )
        )
    return edits


def _client(limiter: RateLimiter, plan: Plan, fields: Sequence[Field], credential: str) -> str:
    """Whose bucket it is. Keys of different kinds never meet."""
    spec = limiter.spec
    if spec.key is RateLimitKey.ROUTE:
        return ""
    if spec.key is RateLimitKey.CREDENTIAL and credential:
        return f"credential {credential}"
    if spec.key is RateLimitKey.HEADER and spec.header is not None:
        value = first(fields, spec.header.lower().encode())
        if value is not None:
            return f"header {text(value[:256])}"
    return f"client {plan.client}"
