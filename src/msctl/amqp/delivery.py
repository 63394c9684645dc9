"""Deliveries as they arrive: methods and content of one channel, put together. Pure."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable

from pamqp.commands import Basic
from pamqp.header import ContentHeader

from msctl.amqp.frame_stream import HEADER, METHOD, short_string

BASIC = 60
_DELIVER = (BASIC << 16) | 60
_METHOD = struct.Struct(">I")
_SIZE_AT = 4
"""The position of the body size in a content header: after class and weight."""
_SIZE = struct.Struct(">Q")
_PROPERTIES_AT = 12


class Delivery:
    """One message and its routing. Its properties are decoded when they are asked for."""

    __slots__ = ("_header", "_properties", "body", "exchange", "redelivered", "routing_key")

    def __init__(
        self,
        body: bytes,
        properties: Basic.Properties | bytes,
        exchange: str,
        routing_key: str,
        redelivered: bool,
    ) -> None:
        """`properties` may be an encoded content header."""
        self.body = body
        self._header = self._properties = properties
        self.exchange = exchange
        self.routing_key = routing_key
        self.redelivered = redelivered

    @property
    def encoded_properties(self) -> bytes:
        """The properties as they arrived; empty for a delivery that was made of decoded ones."""
        return self._header[_PROPERTIES_AT:] if isinstance(self._header, bytes) else b""

    @property
    def properties(self) -> Basic.Properties:
        if isinstance(self._properties, bytes):
            header = ContentHeader()
            try:
                header.unmarshal(self._properties)
                self._properties = header.properties
            except (ValueError, TypeError, LookupError, struct.error):
                self._properties = Basic.Properties()  # the broker passed on what no client can read
        return self._properties


class Deliveries:
    """The sink of a consumer's channel: frames in, deliveries out, in `arrived`."""

    def __init__(self) -> None:
        self.arrived: deque[Delivery] = deque()
        self.wake: Callable[[], None] = lambda: None
        self._deliver: tuple[str, str, bool] | None = None
        self._header = b""
        self._missing = 0
        self._parts: list[bytes] = []
        self._route = b""
        self._names = ("", "")

    def frame(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take basic.deliver and its content; leave everything else."""
        if kind == METHOD:
            if _METHOD.unpack_from(data, start)[0] != _DELIVER:
                return False
            at = start + 4
            at += 1 + data[at] + 8  # consumer tag, delivery tag
            self.begin(data, at, end)
            return True
        if self._deliver is None:
            return False
        if kind == HEADER:
            self._header = data[start:end]
            self._missing = _SIZE.unpack_from(data, start + _SIZE_AT)[0]
        else:
            part = data[start:end]
            self._missing -= len(part)
            if self._missing > 0 or self._parts:
                self._parts.append(part)
            else:
                self._finish(part)
                return True
        if self._missing <= 0:
            self._finish(b"".join(self._parts))
        return True

    def begin(self, data: bytes, at: int, end: int) -> None:
        """A message follows; `data[at:end]` has redelivered, exchange and routing key."""
        route = data[at + 1 : end]
        if route != self._route:
            exchange, after = short_string(route, 0)
            key, _ = short_string(route, after)
            self._names = _text(exchange), _text(key)
            self._route = route
        self._deliver = (*self._names, data[at] == 1)

    def _finish(self, body: bytes) -> None:
        if self._deliver is None:
            return
        exchange, key, redelivered = self._deliver
        self.arrived.append(Delivery(body, self._header, exchange, key, redelivered))
        self._deliver = None
        self._parts = []

    def flush(self) -> None:
        self.wake()


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
