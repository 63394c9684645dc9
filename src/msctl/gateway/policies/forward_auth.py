"""What a forward authenticator is asked, and what its answer changes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msctl.gateway.message.headers import Field, Fields
from msctl.model.route_policies import ForwardAuthSpec

MAX_ANSWER = 1024 * 1024
"""The longest body of an answer that is relayed, in bytes."""

ABOUT_THE_BODY = frozenset(
    {b"content-type", b"content-encoding", b"content-md5", b"content-digest", b"range", b"if-range"}
    | {b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since", b"digest"}
)
"""Fields of a request that mean another thing in the question, which is a GET without a body."""


_OWN = frozenset({b"x-forwarded-method", b"x-forwarded-uri"})
"""Fields that say which request it is: nobody else may say so, a trusted peer neither."""


def question_fields(spec: ForwardAuthSpec, forwarded: Sequence[Field], method: str, target: str) -> Fields:
    """Return the fields of the question: the request's own, and which request it is.

    `forwarded` are those that a service would get, so who the client is is said in X-Forwarded-For; but
    without the changes of the route. A route that keeps credentials from its service still has them checked,
    and the prefix that it removes leads to no authenticator.
    """
    wanted = {name.lower().encode() for name in spec.request_headers}
    out = [
        (name, value)
        for name, value in forwarded
        if (lower := name.lower()) not in ABOUT_THE_BODY
        and lower not in _OWN
        and (not wanted or lower in wanted or lower.startswith(b"x-forwarded-") or lower == b"via")
    ]
    uri = target.encode("utf-8", "surrogateescape")
    return [*out, (b"X-Forwarded-Method", method.encode()), (b"X-Forwarded-Uri", uri)]


def allows(status: int) -> bool:
    return 200 <= status < 300


def admitted_fields(spec: ForwardAuthSpec, fields: Sequence[Field], answer: Sequence[Field]) -> Fields:
    """Return the fields of an allowed request: those that the answer may set are the answer's alone."""
    names = {name.lower().encode() for name in spec.response_headers}
    kept = [field for field in fields if field[0].lower().replace(b"_", b"-") not in names]
    return [*kept, *(field for field in answer if field[0].lower() in names)]


def relayed_fields(answer: Sequence[Field]) -> Fields:
    """Return the fields of a refusal that is relayed, whose length is counted again."""
    return [field for field in answer if field[0].lower() not in (b"content-length", b"x-request-id")]
