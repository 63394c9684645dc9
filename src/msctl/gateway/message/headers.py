"""What happens to header fields on their way through: hop-by-hop, forwarding and identity fields.

Pure: lists of (name, value) bytes in, lists out, order and repetition kept (RFC 9110 §5.3, §7.6).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msctl.model.project import HeaderEdit

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
"""Fields that end at the next hop (RFC 9110 §7.6.1), whatever Connection says."""

_KEPT = frozenset({b"host", b"content-length"})
"""Never dropped because Connection names them: the message would mean something else without them."""

FORWARDING = frozenset(
    {b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port"}
)
"""What a peer says about who it asks for: believed only from peers that the user trusts."""

_REBUILT = HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id", b"traceparent"}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@\-]{1,128}")
_FORWARDED_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+\-.^_`|~]+")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def connection_options(fields: Iterable[Field]) -> frozenset[bytes]:
    """The options of every Connection line together, in lower case."""
    lines = [value for name, value in fields if name.lower() == b"connection"]
    if not lines:
        return frozenset()
    return frozenset(
        option for option in (o.strip(b" \t").lower() for o in b",".join(lines).split(b",")) if option
    )


def end_to_end(fields: Sequence[Field]) -> Fields:
    """`fields` without the hop-by-hop ones and those that Connection names."""
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
    """Which peers' forwarding fields are believed."""

    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, peers: Iterable[str]) -> Trust:
        """From addresses and CIDR networks; raises ValueError for one that is neither."""
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
    """The connection that a request came in on, and who we are on its way.

    `peer` is the address of the socket's other end, `scheme` what the listener speaks, `host` the
    Host that the client asked for, `pseudonym` our name in Via, `version` the protocol version of
    the request. `forwarded` adds the RFC 7239 field beside the X-Forwarded-* ones.
    """

    peer: str
    scheme: str
    host: str
    pseudonym: str
    version: str = "1.1"
    trusted: bool = False
    forwarded: bool = False


def request_fields(fields: Sequence[Field], hop: Hop, *, keep_trace: bool) -> Fields:
    """The fields to forward: end to end, with what this hop has to say of itself.

    Without Host and framing, which belong to the connection they go out on, and X-Request-Id and
    traceparent, which are new with every request. `keep_trace` keeps tracestate.
    """
    out: Fields = []
    via: list[bytes] = []
    seen: dict[bytes, list[bytes]] = {}
    named = connection_options(fields) - _KEPT
    for name, value in fields:
        lower = name.lower()
        if lower == b"via":
            via.append(value)
        elif lower in _REBUILT or lower in named:
            continue
        elif lower in FORWARDING:
            if hop.trusted:
                seen.setdefault(lower, []).append(value)
        elif lower != b"tracestate" or keep_trace:
            out.append((name, value))
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


def _forwarded(peer: bytes, host: bytes, scheme: str) -> bytes:
    """One element of RFC 7239; an IPv6 address goes in brackets, whatever is no token in quotes."""
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
    """Whether a request has been through the gateway of that pseudonym already (RFC 9110 §7.6.3)."""
    ours = pseudonym.lower().encode()
    for name, value in fields:
        if name.lower() == b"via":
            for element in value.split(b","):
                words = element.split()
                if len(words) >= 2 and words[1].lower() == ours:
                    return True
    return False


def valid_request_id(value: bytes) -> bool:
    """Whether a client's X-Request-Id may be kept: short, and of characters that are safe in a log."""
    return _REQUEST_ID.fullmatch(value) is not None


def values(fields: Iterable[Field], name: bytes) -> list[bytes]:
    """All values of the field `name` (lower case), in order."""
    return [value for key, value in fields if key.lower() == name]


def first(fields: Iterable[Field], name: bytes) -> bytes | None:
    for key, value in fields:
        if key.lower() == name:
            return value
    return None


def edit(fields: Sequence[Field], change: HeaderEdit) -> Fields:
    """`fields` with a user's changes made to them."""
    gone = {name.lower().encode() for name in (*change.remove, *change.set)}
    out = [(name, value) for name, value in fields if name.lower() not in gone]
    for table in (change.set, change.add):
        out += [(name.encode("latin-1"), value.encode("utf-8")) for name, value in table.items()]
    return out


def text(value: bytes) -> str:
    """A field's bytes as aiohttp decodes them, so that they can be encoded back without loss."""
    return value.decode("utf-8", "surrogateescape")
