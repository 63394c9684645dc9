"""Validation of a request before routing (RFC 9112 §3.2, §6; RFC 9110 §10.1.1). Pure.

The listener's parser refuses most malformed requests. Those that it accepts but two readers could
understand differently are refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msctl.gateway.message.headers import Field, connection_options, loops, valid_request_id, values
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.target import BadTargetError, Target, is_authority, parse_target
from msctl.gateway.message.trace_context import Trace, continued

LIMITED = frozenset({"OPTIONS", "TRACE"})
"""The methods that Max-Forwards applies to."""

MAX_MAX_FORWARDS = 255
"""The highest Max-Forwards that is forwarded."""


class FieldFacts(NamedTuple):
    """What the method, version and fields of a valid request say, whatever its target.

    `host` is the Host field, empty without one. `length` is None without Content-Length. `upgrade` is
    "websocket" if the client asks for it, and None for any other protocol, to which the gateway does not
    switch. `max_forwards` is the number of further hops that an OPTIONS or TRACE request may take, None
    for any.
    """

    host: str
    length: int | None
    chunked: bool
    expects_continue: bool
    upgrade: str | None
    request_id: str | None
    trace: Trace | None
    max_forwards: int | None = None


class Validated(NamedTuple):
    """A valid request. `host` is the authority of its target, or its Host field."""

    target: Target
    host: str
    facts: FieldFacts


def validate(
    method: str, raw_target: str, version: tuple[int, int], fields: Sequence[Field], pseudonym: str
) -> Validated:
    """Validate a request head; raises ProblemError: 400, 405, 417, 501, 505 or 508."""
    facts = validate_fields(method, version, fields, pseudonym)
    target = validate_target(method, raw_target)
    return Validated(target, target.authority or facts.host, facts)


def validate_target(method: str, raw_target: str) -> Target:
    """Parse a target; raises ProblemError (400)."""
    try:
        target = parse_target(raw_target)
    except BadTargetError as error:
        raise _problem(400, f"The request cannot be routed: {error}.") from error
    if target.asterisk and method != "OPTIONS":
        raise _problem(400, "The target * is allowed only with OPTIONS.")
    if method == "OPTIONS" and raw_target.partition("://")[2] == target.authority:
        # A URL without a path means the same as the asterisk (RFC 9112 §3.2.4).
        target = target._replace(path="*", asterisk=True)
    return target


def validate_fields(
    method: str, version: tuple[int, int], fields: Sequence[Field], pseudonym: str
) -> FieldFacts:
    """Validate all of a head but its target; raises ProblemError: 400, 405, 417, 501, 505 or 508."""
    if version[0] != 1:
        raise _problem(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
    if method == "CONNECT":
        detail = "This server is not a forward proxy: it does not support CONNECT."
        # An authority has no methods: an empty Allow (RFC 9110 §10.2.1).
        raise _problem(405, detail, ((b"Allow", b""),))
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    expectations: list[bytes] = []
    upgrades: list[bytes] = []
    request_ids: list[bytes] = []
    traceparents: list[bytes] = []
    authorizations: list[bytes] = []
    types: list[bytes] = []
    has_via = False
    for name, value in fields:
        collect = None
        lower = name.lower()
        if lower == b"host":
            collect = hosts
        elif lower == b"content-length":
            collect = lengths
        elif lower == b"transfer-encoding":
            collect = codings
        elif lower == b"expect":
            collect = expectations
        elif lower == b"upgrade":
            collect = upgrades
        elif lower == b"x-request-id":
            collect = request_ids
        elif lower == b"traceparent":
            collect = traceparents
        elif lower == b"authorization":
            collect = authorizations
        elif lower == b"content-type":
            collect = types
        elif lower == b"via":
            has_via = True
        if collect is not None:
            collect.append(value)
    if len(authorizations) > 1:
        raise _problem(400, "The request has more than one Authorization field.")
    if len(types) > 1:
        raise _problem(400, "The request has more than one Content-Type field.")
    host = _host(hosts, version)
    length, chunked = _framing(lengths, codings, version)
    if has_via and loops(fields, pseudonym):
        raise ProblemError(
            Problem(508, "The request has already passed this gateway.", error="proxy_loop_detected")
        )
    return FieldFacts(
        host,
        length,
        chunked,
        bool(expectations) and _expects_continue(expectations, version) and (chunked or bool(length)),
        # The listener does not switch protocols behind a body.
        _upgrade(method, upgrades, fields, version) if upgrades and not (chunked or length) else None,
        request_ids[0].decode() if len(request_ids) == 1 and valid_request_id(request_ids[0]) else None,
        continued(traceparents) if traceparents else None,
        _max_forwards(fields) if method in LIMITED else None,
    )


def _host(hosts: list[bytes], version: tuple[int, int]) -> str:
    if len(hosts) > 1:
        raise _problem(400, "The request has more than one Host field.")
    if not hosts:
        if version >= (1, 1):
            raise _problem(400, "The request has no Host field.")
        return ""
    host = hosts[0].decode("latin-1")
    if not is_authority(host):
        raise _problem(400, "The Host field is not a host name with an optional port.")
    return host


def _framing(lengths: list[bytes], codings: list[bytes], version: tuple[int, int]) -> tuple[int | None, bool]:
    if codings:
        if lengths:
            raise _problem(400, "The request has both Content-Length and Transfer-Encoding.")
        if version < (1, 1):
            raise _problem(400, "HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or not codings[0]:
            raise _problem(400, "The Transfer-Encoding field is empty or repeated.")
        if codings[0].lower() != b"chunked":
            raise _problem(501, "The only supported transfer coding is chunked.")
        return None, True
    if not lengths:
        return None, False
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise _problem(400, "The Content-Length field is not a single number.")
    return int(lengths[0]), False


def _expects_continue(expectations: list[bytes], version: tuple[int, int]) -> bool:
    if any(value.lower() != b"100-continue" for value in expectations):
        raise _problem(417, "The only supported expectation is 100-continue.")
    return version >= (1, 1)


def _max_forwards(fields: Sequence[Field]) -> int | None:
    """Parse Max-Forwards (RFC 9110 §7.6.2)."""
    given = values(fields, b"max-forwards")
    if not given:
        return None
    if len(given) > 1 or not given[0].isdigit():
        raise _problem(400, "The Max-Forwards field is not a single number.")
    digits = given[0].lstrip(b"0") or b"0"
    return min(int(digits[:9]), MAX_MAX_FORWARDS + 1)


def _upgrade(
    method: str, upgrades: list[bytes], fields: Sequence[Field], version: tuple[int, int]
) -> str | None:
    """Return "websocket" if requested; other upgrades are ignored, as RFC 9110 §7.8 allows."""
    if method != "GET" or version < (1, 1) or b"upgrade" not in connection_options(fields):
        return None
    offered = {protocol.strip(b" \t").lower() for value in upgrades for protocol in value.split(b",")}
    return "websocket" if b"websocket" in offered else None


def _problem(status: int, detail: str, fields: tuple[tuple[bytes, bytes], ...] = ()) -> ProblemError:
    return ProblemError(Problem(status, detail, error="http_request_error", close=True, fields=fields))
