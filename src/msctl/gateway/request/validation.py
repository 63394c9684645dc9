"""Whether a request may go any further: the checks before routing (RFC 9112 §3.2, §6; RFC 9110 §10.1.1).

Pure. The listener's parser has refused most malformed requests already; what it lets through and two
readers could read differently is refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from msctl.gateway.message.headers import Field, connection_options, loops, valid_request_id, values
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.message.target import BadTargetError, Target, is_authority, parse_target
from msctl.gateway.message.trace_context import Trace, continued

LIMITED = frozenset({"OPTIONS", "TRACE"})
"""The methods for which Max-Forwards counts hops."""

MOST_FORWARDS = 255
"""The highest Max-Forwards that is passed on."""


class Admitted(NamedTuple):
    """A request that can be routed. `host` is what it was sent to, by its target or its Host field.

    `length` is None where there is no Content-Length. `upgrade` is "websocket" where the client asks
    for that, and None for every other protocol, which is then simply not switched to; `close`
    is true then, because aiohttp's parser loses what follows such a request on its connection.
    `max_forwards` is how many more hops an OPTIONS or TRACE request may take, None for any number.
    """

    target: Target
    host: str
    length: int | None
    chunked: bool
    expects_continue: bool
    upgrade: str | None
    request_id: str | None
    trace: Trace | None
    close: bool
    max_forwards: int | None = None


def admit(
    method: str, raw_target: str, version: tuple[int, int], fields: Sequence[Field], pseudonym: str
) -> Admitted:
    """Raises ProblemError: 400, 405, 417, 501, 505 or 508."""
    if version[0] != 1:
        raise _problem(505, "This server speaks HTTP/1.1 and HTTP/1.0.")
    if method == "CONNECT":
        raise _problem(405, "This server is no forward proxy: it does not open tunnels.")
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    codings: list[bytes] = []
    expectations: list[bytes] = []
    upgrades: list[bytes] = []
    request_ids: list[bytes] = []
    traceparents: list[bytes] = []
    has_via = False
    for name, value in fields:
        collected = None
        lower = name.lower()
        if lower == b"host":
            collected = hosts
        elif lower == b"content-length":
            collected = lengths
        elif lower == b"transfer-encoding":
            collected = codings
        elif lower == b"expect":
            collected = expectations
        elif lower == b"upgrade":
            collected = upgrades
        elif lower == b"x-request-id":
            collected = request_ids
        elif lower == b"traceparent":
            collected = traceparents
        elif lower == b"via":
            has_via = True
        if collected is not None:
            collected.append(value)
    try:
        target = parse_target(raw_target)
    except BadTargetError as error:
        raise _problem(400, f"The request cannot be routed: {error}.") from error
    if target.asterisk and method != "OPTIONS":
        raise _problem(400, "Only OPTIONS can ask about the server as a whole.")
    if method == "OPTIONS" and raw_target.partition("://")[2] == target.authority:
        # With nothing behind its host, a URL asks the same as the asterisk (RFC 9112 §3.2.4).
        target = target._replace(path="*", asterisk=True)
    host = _host(hosts, target, version)
    length, chunked = _framing(lengths, codings, version)
    if has_via and loops(fields, pseudonym):
        raise ProblemError(
            Problem(508, "The request has been through this gateway already.", error="proxy_loop_detected")
        )
    upgrade = _upgrade(method, upgrades, fields, version) if upgrades else None
    return Admitted(
        target,
        host,
        length,
        chunked,
        bool(expectations) and _expects_continue(expectations, version) and (chunked or bool(length)),
        upgrade,
        request_ids[0].decode() if len(request_ids) == 1 and valid_request_id(request_ids[0]) else None,
        continued(traceparents) if traceparents else None,
        bool(upgrades) and upgrade is None,
        _max_forwards(fields) if method in LIMITED else None,
    )


def _host(hosts: list[bytes], target: Target, version: tuple[int, int]) -> str:
    if len(hosts) > 1:
        raise _problem(400, "The request has more than one Host field.")
    if not hosts:
        if version >= (1, 1):
            raise _problem(400, "The request has no Host field.")
        return target.authority or ""
    host = hosts[0].decode("latin-1")
    if not is_authority(host):
        raise _problem(400, "The Host field is not a host name with an optional port.")
    return target.authority or host


def _framing(lengths: list[bytes], codings: list[bytes], version: tuple[int, int]) -> tuple[int | None, bool]:
    if codings:
        if lengths:
            raise _problem(400, "The request has both Content-Length and Transfer-Encoding.")
        if version < (1, 1):
            raise _problem(400, "HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or not codings[0]:
            raise _problem(400, "The Transfer-Encoding field is empty or repeated.")
        if codings[0].lower() != b"chunked":
            raise _problem(501, "The only transfer coding that this server knows is chunked.")
        return None, True
    if not lengths:
        return None, False
    if len(set(lengths)) > 1 or len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise _problem(400, "The Content-Length field is not one number.")
    return int(lengths[0]), False


def _expects_continue(expectations: list[bytes], version: tuple[int, int]) -> bool:
    if any(value.lower() != b"100-continue" for value in expectations):
        raise _problem(417, "The only expectation that this server can meet is 100-continue.")
    return version >= (1, 1)


def _max_forwards(fields: Sequence[Field]) -> int | None:
    """RFC 9110 §7.6.2."""
    given = values(fields, b"max-forwards")
    if not given:
        return None
    if len(given) > 1 or not given[0].isdigit():
        raise _problem(400, "The Max-Forwards field is not one number.")
    digits = given[0].lstrip(b"0") or b"0"
    return min(int(digits[:9]), MOST_FORWARDS + 1)


def _upgrade(
    method: str, upgrades: list[bytes], fields: Sequence[Field], version: tuple[int, int]
) -> str | None:
    """Only WebSockets are relayed; a client that asks for another protocol gets HTTP/1.1 (RFC 9110 §7.8)."""
    if method != "GET" or version < (1, 1) or b"upgrade" not in connection_options(fields):
        return None
    offered = {protocol.strip(b" \t").lower() for value in upgrades for protocol in value.split(b",")}
    return "websocket" if b"websocket" in offered else None


def _problem(status: int, detail: str) -> ProblemError:
    return ProblemError(Problem(status, detail, error="http_request_error", close=True))
