"""Confirms and returns as they arrive on a publisher's channel. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

from pamqp.header import ContentHeader

from msctl.amqp.frame_stream import HEADER, METHOD, short_string

_BASIC = 60 << 16
_RETURN, _ACK, _NACK = _BASIC | 50, _BASIC | 80, _BASIC | 120
_METHOD = struct.Struct(">I")
_TAG = struct.Struct(">QB")
_CODE = struct.Struct(">H")
_SIZE_AT = 4


@dataclass(frozen=True, slots=True)
class Returned:
    """A message that reached no queue, as the broker sent it back."""

    message_id: str | None
    exchange: str
    routing_key: str
    code: int
    text: str


@dataclass(slots=True)
class Confirms:
    """The sink of a publisher's channel.

    `answered` gets a delivery tag, whether it stands for all before it too, and whether the broker took them;
    `returned` a message that came back, before its tag is answered; `done` is called once after a read.
    """

    answered: Callable[[int, bool, bool], None]
    returned: Callable[[Returned], None]
    done: Callable[[], None]
    _return: tuple[str, str, int, str] | None = field(init=False, default=None)
    _message_id: str | None = field(init=False, default=None)
    _missing: int = field(init=False, default=0)

    def __hash__(self) -> int:
        return id(self)

    def frame(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take confirms, and basic.return with its content; leave everything else."""
        if kind == METHOD:
            method = _METHOD.unpack_from(data, start)[0]
            if method == _ACK:
                tag, bits = _TAG.unpack_from(data, start + 4)
                self.answered(tag, bool(bits & 1), True)
                return True
            if method == _NACK:
                tag, bits = _TAG.unpack_from(data, start + 4)
                self.answered(tag, bool(bits & 1), False)
                return True
            if method != _RETURN:
                return False
            code = _CODE.unpack_from(data, start + 4)[0]
            text, at = short_string(data, start + 6)
            exchange, at = short_string(data, at)
            key, _ = short_string(data, at)
            self._return = (_text(exchange), _text(key), code, _text(text))
            return True
        if self._return is None:
            return False
        if kind == HEADER:
            header = ContentHeader()
            try:
                header.unmarshal(data[start:end])
                self._message_id = header.properties.message_id
            except (ValueError, TypeError, LookupError, struct.error):
                self._message_id = None
            self._missing = header.body_size
        else:
            self._missing -= end - start
        if self._missing <= 0:
            exchange_name, routing_key, code, reason = self._return
            self._return = None
            self.returned(Returned(self._message_id, exchange_name, routing_key, code, reason))
        return True

    def flush(self) -> None:
        self.done()


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
