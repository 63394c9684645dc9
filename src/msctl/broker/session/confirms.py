"""The publisher confirms of one channel, and when they may leave. No sockets.

The invariant: a confirm or commit-ok leaves only when `Journal.durable` has reached `stored_at`, the position
of the last message that the channel has stored, and answers leave in their order. So every answer that says
"safe" goes through `send_when_stored`.

Confirms are collected: `send` confirms everything since the last time in one frame, at the end of a turn, or
before another answer of the channel.
"""

from __future__ import annotations

from collections import deque

from msctl.broker.core.broker import Broker
from msctl.broker.protocol.wire import ACK_FRAME, BASIC_ACK, BASIC_NACK, FRAME_END, METHOD
from msctl.broker.session.buffers import Outbox

_ACK_SIZE = 13


class Confirms:
    """What a channel has published in confirm mode, by number, and what of it is confirmed.

    While `published` and `confirmed` differ, `send` has something to do.
    """

    __slots__ = (
        "_broker",
        "_closed",
        "_deferred",
        "_number",
        "_outbox",
        "_withheld",
        "confirmed",
        "published",
        "stored_at",
    )

    def __init__(self, number: int, broker: Broker, outbox: Outbox) -> None:
        """`number` is the channel's."""
        self.published = 0
        self.confirmed = 0
        self.stored_at = 0
        """The position in the log at which all that the channel has stored is safe."""
        self._number = number
        self._broker = broker
        self._outbox = outbox
        self._deferred: deque[tuple[int, bytes]] = deque()
        self._withheld: set[int] | None = None
        """Publishes that a fault leaves unconfirmed; from the first one on each is confirmed by itself."""
        self._closed = False

    def send(self) -> None:
        """Confirm everything published since the last confirm, in one frame."""
        if self.confirmed != self.published:
            if self._withheld is not None:
                self._send_each(self._withheld)
                return
            multiple = self.published - self.confirmed > 1
            self.confirmed = self.published
            self._send(BASIC_ACK, self.published, multiple=multiple)

    def _send_each(self, withheld: set[int]) -> None:
        """Confirm one by one: a confirm of several would include those that are withheld."""
        for tag in range(self.confirmed + 1, self.published + 1):
            if tag in withheld:
                withheld.discard(tag)
            else:
                self._send(BASIC_ACK, tag, multiple=False)
        self.confirmed = self.published

    def nack(self) -> None:
        """Send a nack for the last publish, after confirming those before it."""
        last = self.published
        self.published = last - 1
        self.send()
        self.published = self.confirmed = last
        self._send(BASIC_NACK, last, multiple=False)

    def withhold(self, tag: int) -> None:
        """Leave a publish unconfirmed."""
        self._withheld = self._withheld or set()
        self._withheld.add(tag)

    def send_late(self, tag: int) -> None:
        """Confirm a publish that was withheld, if the channel is still open."""
        if not self._closed:
            self.send()  # passes it over, as it is withheld
            self._send(BASIC_ACK, tag, multiple=False)

    def _send(self, method: int, tag: int, *, multiple: bool) -> None:
        self.send_when_stored(
            ACK_FRAME.pack(METHOD, self._number, _ACK_SIZE, method, tag, multiple, FRAME_END)
        )

    def acknowledged(self) -> None:
        """Acknowledgements of the channel have been recorded, which its commit-ok must wait for."""
        journal = self._broker.memory.journal
        if journal is not None:
            self.stored_at = journal.recorded()

    def send_when_stored(self, frame: bytes) -> None:
        """Send a confirm or commit-ok as soon as all that the channel has published is safe."""
        journal = self._broker.memory.journal
        if journal is None or self.stored_at <= journal.durable:
            self._outbox.send(frame)
        else:
            self._deferred.append((self.stored_at, frame))
            self._broker.deferring[self] = None

    def stored(self, position: int) -> bool:
        """Send what has waited for the log up to `position`; return whether more waits."""
        deferred = self._deferred
        while deferred and deferred[0][0] <= position:
            self._outbox.send(deferred.popleft()[1])
        return bool(deferred)

    def close(self) -> None:
        """Forget the answers that wait for the log."""
        self._closed = True
        self._deferred.clear()
        self._broker.deferring.pop(self, None)
