"""Whether the server rests before it reads more of a connection that floods. No sockets.

A client that writes each frame by itself, as Go's does, has three writes a message. A server that reads at
once is woken by each of them, reads one frame, and is ready for the next before it is written: client and
server spend twice the time of a core on the way through the kernel that the message itself takes. While the
server rests for a moment, the writes add up in the client's own socket and arrive as one.

Whether they do depends on the client's congestion control, which the server does not see. So it tries: a
rest that does not raise the rate is not worth its delay. Between windows of WINDOW_SECONDS the meter moves
through

    WATCHING -> FLOODING -> TRYING -> RATING -> RESTING -> WATCHING
                                        \\______ no gain, for RETRY_SECONDS ______/

WATCHING, FLOODING: no rests; two windows in a row at FLOOD_RATE begin a trial. TRYING: the client's socket
adapts, which is not rated. RATING, RESTING: the rate has to stay GAIN times that of FLOODING.

A rest delays what the client waits for, so there is none for a client that has asked for deliveries,
confirms or transactions (`Session.rests`), and FLOOD_RATE is more than a client reaches that publishes the
next message when the last one has arrived somewhere.
"""

from __future__ import annotations

from enum import Enum, auto

WINDOW_SECONDS = 0.008
FLOOD_RATE = 20_000
"""Messages a second."""
GAIN = 1.1
RETRY_SECONDS = 10.0


class _Phase(Enum):
    WATCHING = auto()
    FLOODING = auto()
    TRYING = auto()
    RATING = auto()
    RESTING = auto()


_WITH_RESTS = (_Phase.TRYING, _Phase.RATING, _Phase.RESTING)


class FloodMeter:
    """Rates the messages of one connection; `rests` is whether the server is to rest after a read."""

    __slots__ = ("_messages", "_phase", "_rate", "_retry_at", "_since", "rests")

    def __init__(self, now: float) -> None:
        self.rests = False
        self._phase = _Phase.WATCHING
        self._since = self._retry_at = now
        self._messages = 0
        self._rate = 0.0
        """Messages a second without rests."""

    def add(self, now: float, messages: int) -> None:
        """Count `messages` that have been published up to `now` (monotonic)."""
        self._messages += messages
        elapsed = now - self._since
        if elapsed >= WINDOW_SECONDS:
            self._phase = self._next(now, self._messages / elapsed)
            self.rests = self._phase in _WITH_RESTS
            self._since = now
            self._messages = 0

    def _next(self, now: float, rate: float) -> _Phase:
        phase, flooding = self._phase, rate >= FLOOD_RATE
        if phase is _Phase.WATCHING:
            return _Phase.FLOODING if flooding and now >= self._retry_at else phase
        if phase is _Phase.FLOODING:
            self._rate = rate
            return _Phase.TRYING if flooding else _Phase.WATCHING
        if phase is _Phase.TRYING:
            return _Phase.RATING
        if flooding and rate >= self._rate * GAIN:
            return _Phase.RESTING
        if flooding or phase is _Phase.RATING:
            self._retry_at = now + RETRY_SECONDS
        return _Phase.WATCHING
