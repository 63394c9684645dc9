"""What the scope of ASGI and the environ of WSGI both derive from a request. Pure.

What follows from the head alone is kept in `RequestHead.memo`, since equal requests share a head; what
follows from its fields alone, in `fields_memo`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from msctl.hosting.forwarding import Forwarded, Trusts
from msctl.model.exchange import Exchange, Field, Fields, RequestHead

_MEMO = "hosting"


class Target:
    """A target, taken apart; `decoded` is the path without percent-encoding."""

    __slots__ = ("decoded", "path", "query")

    def __init__(self, target: str) -> None:
        raw = _origin_form(target.encode("utf-8", "surrogateescape")).partition(b"#")[0]
        self.path, _, self.query = raw.partition(b"?")
        self.decoded = unquote_to_bytes(self.path)

    @classmethod
    def of(cls, head: RequestHead) -> Target:
        found: Target | None = head.memo.get(_MEMO)
        if found is None:
            found = head.memo[_MEMO] = cls(head.target)
        return found


class _Head:
    """What follows from the fields of a head.

    `without_prefix` are its fields for an application that is told the prefix otherwise: one that adds the
    field to `root_path`, as NiceGUI does, would have it twice.
    """

    __slots__ = ("fields", "forwarded", "version", "without_prefix")

    def __init__(self, head: RequestHead) -> None:
        self.version = f"{head.version[0]}.{head.version[1]}"
        self.fields = lower_cased(head.fields)
        self.forwarded = Forwarded(self.fields)
        self.without_prefix = [field for field in self.fields if field[0] != b"x-forwarded-prefix"]


class Request(NamedTuple):
    """A request as its application is told."""

    fields: Fields
    """Names in lower case; a list of its own."""
    version: str
    target: Target
    client: tuple[str, int]
    scheme: str
    prefix: bytes
    """The path that the gateway stripped (`strip_prefix`), decoded."""


def request_of(exchange: Exchange, trusts: Trusts) -> Request:
    head = exchange.head
    shared: _Head | None = head.fields_memo.get(_MEMO)
    if shared is None:
        shared = head.fields_memo[_MEMO] = _Head(head)
    fields = shared.fields
    client, scheme, prefix = exchange.client, exchange.scheme, b""
    forwarded = shared.forwarded
    if forwarded.believed(exchange, trusts):
        fields, prefix, scheme = shared.without_prefix, forwarded.prefix, forwarded.scheme or scheme
        client = forwarded.client(exchange, trusts)
    fields = [*fields, *lower_cased(exchange.extra)] if exchange.extra else fields.copy()
    return Request(fields, shared.version, Target.of(head), client, scheme, prefix)


def lower_cased(fields: Sequence[Field]) -> Fields:
    return [(name.lower(), value) for name, value in fields]


def _origin_form(target: bytes) -> bytes:
    """Return path and query of a target in absolute form (RFC 9112 §3.2.2)."""
    if target.startswith((b"/", b"*")):
        return target
    _, separator, rest = target.partition(b"://")
    if not separator:
        return target
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
    return rest[cut:] if rest[cut : cut + 1] == b"/" else b"/" + rest[cut:]
