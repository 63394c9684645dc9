"""Finds a publisher confirm in what a broker writes. Pure."""

from __future__ import annotations

from struct import Struct

_FRAME = Struct(">BHL")
_METHOD_FRAME = 1
_ACK = bytes((0, 60, 0, 80))
"""basic.ack, which a broker sends for a confirm only."""


def confirm_in(data: bytes) -> int | None:
    """Where the first basic.ack begins in whole AMQP frames; None without one, and for other data."""
    at = 0
    while at + _FRAME.size < len(data):
        kind, _, size = _FRAME.unpack_from(data, at)
        body = at + _FRAME.size
        end = body + size
        if kind not in (1, 2, 3, 8) or end >= len(data) or data[end] != 0xCE:
            return None
        if kind == _METHOD_FRAME and data[body : body + 4] == _ACK:
            return at
        at = end + 1
    return None
