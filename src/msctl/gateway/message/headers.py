"""Header fields of forwarded messages: hop-by-hop, forwarding and identity fields.

Pure: lists of (name, value) bytes in and out; order and repetition are kept (RFC 9110 §5.3, §7.6).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msctl.gateway.message.trace_context import is_tracestate
from msctl.model.route_spec import HeaderEdit

Field = tuple[bytes, bytes]
Fields = list[Field]

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"proxy-connection",
        b"keep-alive",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"proxy-authenticate",
        b"proxy-authorization",
    }
)
"""Fields that are never forwarded (RFC 9110 §7.6.1), whether Connection names them or not."""

_KEPT = frozenset({b"host", b"content-length"})
"""Fields kept even if Connection names them: without them the message would change its meaning."""

_APPENDED = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"}
)
"""Fields that this hop writes itself, after what a trusted peer says."""

IDENTITY = frozenset(
    {b"forwarded", b"x-real-ip", b"x-client-ip", b"true-client-ip", b"x-cluster-client-ip", b"x-rewrite-url"}
)
"""Fields that describe the original client or request, besides X-Forwarded-* and X-Original-*."""

_IDENTITY_PREFIXES = (b"x-forwarded-", b"x-original-")

_REBUILT = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id", b"traceparent"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@\-]{1,128}")
_FORWARDED_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def connection_options(fields: Iterable[Field]) -> frozenset[bytes]:
    """Return the options of all Connection lines, in lower case."""
    lines = [value for name, value in fields if name.lower() == b"connection"]
    if not lines:
        return frozenset()
    return frozenset(
        option for option in (o.strip(b" \t").lower() for o in b",".join(lines).split(b",")) if option
    )


def describes_client(name: bytes) -> bool:
    """Return whether the field `name` (lower case) says who the client is or what it asked for.

    With underscores for hyphens too: CGI, WSGI and PHP read both spellings as one variable.
    """
    if not name.startswith((b"x", b"f", b"t")):
        return False
    if b"_" in name:
        name = name.replace(b"_", b"-")
    return name in IDENTITY or name == b"x-forwarded" or name.startswith(_IDENTITY_PREFIXES)


def end_to_end(fields: Sequence[Field]) -> Fields:
    """Return `fields` without hop-by-hop fields and those that Connection names."""
    out: Fields = []
    has_connection = False
    for field in fields:
        lower = field[0].lower()
        if lower not in HOP_BY_HOP:
            out.append(field)
        elif lower == b"connection":
            has_connection = True
    if has_connection and (named := connection_options(fields) - _KEPT - HOP_BY_HOP):
        return [field for field in out if field[0].lower() not in named]
    return out


@dataclass(frozen=True, slots=True)
class Trust:
    """The peers that may set forwarding fields."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, peers: Iterable[str]) -> Trust:
        """Parse addresses and CIDR networks; raises ValueError for anything else."""
        return cls(tuple(ipaddress.ip_network(peer, strict=False) for peer in peers))

    def trusts(self, peer: str) -> bool:
        if not self.networks:
            return False
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.networks)


class Hop(NamedTuple):
    """The connection on which a request arrived, and the gateway's own identity.

    `peer` is the client's socket address, `scheme` that of the listener, `host` the requested Host,
    `pseudonym` the gateway's name in Via, `version` the request's protocol version. `forwarded` adds
    the RFC 7239 field to the X-Forwarded-* ones.
    """

    peer: str
    scheme: str
    host: str
    pseudonym: str
    version: str = "1.1"
    trusted: bool = False
    forwarded: bool = False


def request_fields(fields: Sequence[Field], hop: Hop, *, keep_trace: bool) -> Fields:
    """Return the fields to forward: the end-to-end ones and those that this hop adds.

    Fields about the original client go on only from a trusted peer, and those with underscores never: a
    proxy that overwrites X-Forwarded-For passes X_Forwarded_For on as its client sent it. Host and framing
    are left out because they belong to the outgoing connection; X-Request-Id and traceparent because they
    differ with every request. `keep_trace` keeps a valid tracestate.
    """
    out: Fields = []
    via: list[bytes] = []
    states: Fields = []
    seen: dict[bytes, list[bytes]] = {}
    named = connection_options(fields) - _KEPT
    for name, value in fields:
        lower = name.lower()
        if lower == b"via":
            via.append(value)
        elif lower in _REBUILT or lower in named:
            continue
        elif describes_client(lower):
            if not hop.trusted or b"_" in lower:
                continue
            if lower in _APPENDED:
                seen.setdefault(lower, []).append(value)
            else:
                out.append((name, value))
        elif lower == b"tracestate":
            states.append((name, value))
        else:
            out.append((name, value))
    if keep_trace and states and is_tracestate([value for _, value in states]):
        out += states
    host, peer = hop.host.encode("latin-1", "replace"), hop.peer.encode("ascii", "replace")
    out.append((b"Via", b", ".join([*via, f"{hop.version} {hop.pseudonym}".encode()])))
    out.append((b"X-Forwarded-For", b", ".join([*seen.get(b"x-forwarded-for", ()), peer or b"unknown"])))
    out.append((b"X-Forwarded-Proto", seen.get(b"x-forwarded-proto", [hop.scheme.encode()])[0]))
    if host or b"x-forwarded-host" in seen:
        out.append((b"X-Forwarded-Host", seen.get(b"x-forwarded-host", [host])[0]))
    if port := seen.get(b"x-forwarded-port"):
        out.append((b"X-Forwarded-Port", port[0]))
    if hop.forwarded:
        out.append(
            (b"Forwarded", b", ".join([*seen.get(b"forwarded", ()), _forwarded(peer, host, hop.scheme)]))
        )
    elif b"forwarded" in seen:
        out.append((b"Forwarded", b", ".join(seen[b"forwarded"])))
    return out


def with_prefix(fields: Fields, stripped: str) -> Fields:
    """Return `fields` with X-Forwarded-Prefix: what a trusted peer stripped, then the bytes stripped here."""
    before = b"".join(values(fields, b"x-forwarded-prefix")).rstrip(b"/")
    out = [field for field in fields if field[0].lower() != b"x-forwarded-prefix"]
    out.append((b"X-Forwarded-Prefix", before + stripped.encode("utf-8", "surrogateescape")))
    return out


def _forwarded(peer: bytes, host: bytes, scheme: str) -> bytes:
    """Return one element of RFC 7239: IPv6 addresses in brackets, anything but a token in quotes."""
    node = b"[" + peer + b"]" if b":" in peer else peer or b"unknown"
    pairs = [b"for=" + _quoted(node)]
    if host:
        pairs.append(b"host=" + _quoted(host))
    return b";".join([*pairs, b"proto=" + scheme.encode()])


def _quoted(value: bytes) -> bytes:
    if _FORWARDED_TOKEN.fullmatch(value):
        return value
    return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def loops(fields: Iterable[Field], pseudonym: str) -> bool:
    """Return whether Via says that the request already passed `pseudonym` (RFC 9110 §7.6.3)."""
    ours = pseudonym.lower().encode()
    for name, value in fields:
        if name.lower() == b"via":
            for element in value.split(b","):
                words = element.split()
                if len(words) >= 2 and words[1].lower() == ours:
                    return True
    return False


def valid_request_id(value: bytes) -> bool:
    """Return whether a client's X-Request-Id may be kept: short, with characters that are safe in logs."""
    return _REQUEST_ID.fullmatch(value) is not None


def values(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """Return all values of the field `name` (lower case), in order."""
    return [value for key, value in fields if key.lower() == name]


def first(fields: Iterable[Field], name: bytes) -> bytes | None:
    """Return the first value of the field `name` (lower case)."""
    for key, value in fields:
        if key.lower() == name:
            return value
    return None


def edit(fields: Sequence[Field], change: HeaderEdit) -> Fields:
    """Return `fields` with the configured changes applied."""
    removed = {name.lower().encode() for name in (*change.remove, *change.set)}
    out = [(name, value) for name, value in fields if name.lower() not in removed]
    for table in (change.set, change.add):
        out += [(name.encode("latin-1"), value.encode("utf-8")) for name, value in table.items()]
    return out


def text(value: bytes) -> str:
    """Decode a field's bytes as aiohttp does, so that encoding them again loses nothing."""
    return value.decode("utf-8", "surrogateescape")
