"""What a client sends after a 101, for the receiver that took the connection over.

The client may have sent bytes, and have left, before the handler upgraded the connection: the receiver gets
those bytes first, and the end once, whenever it came.
"""

from __future__ import annotations

from msctl.model.exchange import RawReceiver


class RawInput:
    """The client's side of an upgraded connection."""

    __slots__ = ("_early", "_ended", "_receiver")

    def __init__(self, receiver: RawReceiver, early: bytes) -> None:
        """`early` came with the head; the loop's next turn delivers it, once the handler has its stream."""
        self._receiver = receiver
        self._early = early
        self._ended = False

    def deliver_early(self) -> None:
        early, self._early = self._early, b""
        if early:
            self._receiver.data_received(early)

    def data_received(self, data: bytes) -> None:
        if self._early:
            self.deliver_early()
        self._receiver.data_received(data)

    def end(self) -> None:
        self.deliver_early()
        if not self._ended:
            self._ended = True
            self._receiver.eof_received()
