"""How long the server rests before it reads more of a connection that floods. No sockets.

A client that writes each frame by itself, as Go's does, has three writes a message. A server that reads at
once takes each of them through the kernel alone, and client and server spend more of two cores on that than
on the messages. While the server rests, the writes add up in the client's own socket and arrive as one.

How long a rest that takes depends on the client's congestion control, which the server does not see: where it
allows few packets under way, the first millisecond does; else only what is written beyond the receive window
adds up. So the meter tries RESTS in turn, and keeps the first that raises the rate. Between windows of time
it moves through

    WATCHING -> FLOODING -> TRYING -> RATING -> RESTING -> WATCHING
        ^                     ^          |
        |                     +----------+ no gain: the next of RESTS, if there is one
        +---- no rests gain anything: then not again for RETRY_SECONDS

WATCHING, FLOODING: no rests; two windows in a row at FLOOD_RATE, whose reads bring but a FEW messages each,
begin a trial. TRYING: the client's socket adapts, which is not rated. RATING, RESTING: the rate has to stay
GAIN times that of the best window before. A rest in which more than MOST_BYTES would come is not tried: the
client would wait for room in the sockets.

A rest delays what the client waits for, so there is none after a read that is answered, none for a client
that has asked for deliveries, confirms or transactions (`Session.rest`), and FLOOD_RATE is more than a
client reaches that publishes the next message when the last one has arrived somewhere.
"""

from __future__ import annotations

from enum import Enum, auto

WINDOW_SECONDS = 0.008
RESTS = (0.002, 0.02)
"""Seconds of rest after a read."""
RESTS_PER_WINDOW = 4
FLOOD_RATE = 20_000
"""Messages a second."""
FEW = 8
"""Messages."""
MOST_BYTES = 512 * 1024
"""Less than the buffers of two sockets."""
GAIN = 1.25
RETRY_SECONDS = 30.0


class _Phase(Enum):
    WATCHING = auto()
    FLOODING = auto()
    TRYING = auto()
    RATING = auto()
    RESTING = auto()


class FloodMeter:
    """Rates the messages of one connection. `rest` is how long the server is to rest after a read."""

    __slots__ = (
        "_bytes",
        "_messages",
        "_phase",
        "_rate",
        "_reads",
        "_received",
        "_retry_at",
        "_since",
        "_tried",
        "_window",
        "rest",
    )

    def __init__(self, now: float) -> None:
        self.rest = 0.0
        self._phase = _Phase.WATCHING
        self._tried = 0
        """Index of the present or next of RESTS."""
        self._window = WINDOW_SECONDS
        self._since = self._retry_at = now
        self._messages = 0
        self._reads = 0
        self._received = 0
        self._bytes = 0.0
        """Bytes a second without rests."""
        self._rate = 0.0
        """Messages a second without rests."""

    def add(self, now: float, messages: int, received: int) -> None:
        """Count one read and the `messages` that it brought by `now` (monotonic).

        `received` are the bytes of all reads so far.
        """
        self._messages += messages
        self._reads += 1
        elapsed = now - self._since
        if elapsed >= self._window:
            if not self.rest:
                self._bytes = (received - self._received) / elapsed
            self._phase = self._next(now, self._messages / elapsed)
            rests = self._phase in (_Phase.TRYING, _Phase.RATING, _Phase.RESTING)
            self.rest = RESTS[self._tried] if rests else 0.0
            self._window = max(WINDOW_SECONDS, RESTS_PER_WINDOW * self.rest)
            self._since = now
            self._received = received
            self._messages = self._reads = 0

    def _next(self, now: float, rate: float) -> _Phase:
        phase, flooding = self._phase, rate >= FLOOD_RATE
        trickles = flooding and self._messages < self._reads * FEW
        if phase is _Phase.WATCHING:
            self._rate, self._tried = rate, 0
            return _Phase.FLOODING if trickles and now >= self._retry_at else phase
        if phase is _Phase.FLOODING:
            self._rate = max(self._rate, rate)
            return _Phase.TRYING if trickles and self._fits(0) else _Phase.WATCHING
        if phase is _Phase.TRYING:
            return _Phase.RATING
        if flooding and rate >= self._rate * GAIN:
            return _Phase.RESTING
        if phase is _Phase.RATING:
            if flooding and self._fits(self._tried + 1):
                self._tried += 1
                return _Phase.TRYING
            self._retry_at = now + RETRY_SECONDS
        return _Phase.WATCHING

    def _fits(self, rest: int) -> bool:
        return rest < len(RESTS) and self._bytes * RESTS[rest] <= MOST_BYTES
