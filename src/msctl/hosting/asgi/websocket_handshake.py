"""The opening handshake of a WebSocket (RFC 6455 §4.2): what it asks for, the fields that accept it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from msctl.hosting.asgi.permessage_deflate import Agreement, agreement
from msctl.hosting.asgi.websocket_frames import accept_key
from msctl.hosting.response_fields import response_head
from msctl.model.exchange import Field, Fields, RequestHead

_OF_THE_SERVER = frozenset({b"sec-websocket-accept", b"sec-websocket-extensions"})


class HandshakeError(Exception):
    """The client's handshake is invalid: `status` and `reason` answer it."""

    def __init__(self, status: int, reason: bytes) -> None:
        super().__init__(reason.decode())
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a valid handshake agrees on, once the application accepts it."""

    accept: bytes
    compression: Agreement | None

    def fields(self, subprotocol: str | None, headers: Iterable[tuple[bytes, bytes]]) -> Fields:
        """Return the fields of the response. Raises RuntimeError for those of the server's."""
        own = [*headers]
        if subprotocol:
            own.append((b"sec-websocket-protocol", subprotocol.encode()))
        checked = response_head(200, own).fields
        for name, _ in checked:
            if name in _OF_THE_SERVER:
                raise RuntimeError(f"{name.decode()} is a field of the server's.")
        fields: Fields = [(b"sec-websocket-accept", self.accept)]
        if self.compression is not None:
            fields.append((b"sec-websocket-extensions", self.compression.field()))
        return [*fields, *checked]


def handshake(head: RequestHead, *, compression: bool) -> Handshake:
    """Return what the handshake asks for, without compression if it may not. Raises HandshakeError."""
    version = _value(head.fields, b"sec-websocket-version")
    if version not in (b"", b"13"):
        raise HandshakeError(426, b"Upgrade Required")
    accept = accept_key(_value(head.fields, b"sec-websocket-key"))
    if head.method != "GET" or head.version < (1, 1) or not version or accept is None:
        raise HandshakeError(400, b"Bad Request")
    try:
        offers = _value(head.fields, b"sec-websocket-extensions") if compression else b""
        return Handshake(accept, agreement(offers))
    except ValueError as error:
        raise HandshakeError(400, b"Bad Request") from error


def _value(fields: Sequence[Field], wanted: bytes) -> bytes:
    """Return the values of a field as one list."""
    return b",".join(value.strip() for name, value in fields if name.lower() == wanted)
