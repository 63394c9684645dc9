"""The broker's connections, and how they share the event loop with everything else on it.

Work is cut into bounded slices, one per turn of the loop, so that services and the gateway are served in
between. Each turn: a slice of input for a few connections, a slice of the log, of freeing, of pumping queues;
then the output of each session once. Another turn is scheduled as long as any work remains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from msctl.broker.client_connection import ClientConnection, with_closed_peer
from msctl.broker.core.broker import Broker, Client
from msctl.broker.heap import HeapTrimmer, LongLived, malloc_trim
from msctl.broker.session.session import Session
from msctl.broker.storage.storage import Storage
from msctl.clock import Clock

MESSAGES_PER_TURN = 500
SLICES_PER_TURN = 2
"""Connections that may have a full slice of input processed in one turn; others have theirs later."""
FREED_PER_TURN = 5_000
WORK_PER_TURN = 500
"""Queues to which changed policies are applied, or bindings of deleted ones that are removed."""
HANDSHAKES = 1_000
"""Sockets that may be open beyond the limit of connections: those before connection.open."""


class Turns:
    """Works for the connections of one broker between `start` and `stop`. Implements `ConnectionHost`."""

    def __init__(self, broker: Broker, clock: Clock, tick_seconds: float) -> None:
        """`tick_seconds` are between two looks at heartbeats and the log."""
        self.storage: Storage | None = None
        """The open log, which gets a slice of each turn."""
        self._broker = broker
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._connections: dict[Client, ClientConnection] = {}
        self._turn: asyncio.Handle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._reminder: asyncio.TimerHandle | None = None
        self._reminder_at = 0.0
        self._waiting: dict[ClientConnection, None] = {}
        self._slices = 0
        """Full slices of input that were processed since the last turn."""
        self._all_closed = asyncio.Event()
        self._heap = HeapTrimmer(malloc_trim(), self._run_in_thread)
        self._long_lived = LongLived()

    def start(self) -> None:
        """Begin: the broker is restored and listens."""
        self._loop = asyncio.get_running_loop()
        self._all_closed = asyncio.Event()
        self._running = True
        self._ticker = self._loop.call_later(self._tick_seconds, self._tick)

    def stop(self) -> None:
        """Do nothing more but write output."""
        self._running = False
        for handle in (self._turn, self._ticker, self._reminder):
            if handle is not None:
                handle.cancel()
        self._turn = self._ticker = self._reminder = None

    # --- connections ---

    @property
    def sessions(self) -> list[Session]:
        """The connections, those that are not open yet included."""
        return [session for session in self._connections if isinstance(session, Session)]

    @property
    def open_sessions(self) -> int:
        return sum(session.open for session in self._connections)

    def connected(self, protocol: ClientConnection) -> Session | None:
        """The session of a new connection; None if there are too many sockets."""
        if len(self._connections) >= self._broker.limits.connections + HANDSHAKES:
            return None
        session = Session(
            self._broker, protocol.peer, loopback=protocol.loopback, addresses=protocol.addresses
        )
        self._connections[session] = protocol
        return session

    def disconnected(self, session: Session) -> None:
        self._connections.pop(session, None)
        session.lost()
        self._broker.check_memory()
        if not self._running:
            if not self._connections:
                self._all_closed.set()
            return
        self.work()

    def force_close(self, reason: str) -> None:
        """Begin to close every connection with 320."""
        for session in list(self._connections):
            session.force_close(reason)

    async def wait_closed(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for clients to answer `force_close`, then close their sockets."""
        if self._connections:
            try:
                await asyncio.wait_for(self._all_closed.wait(), timeout)
            except TimeoutError:
                pass
        for connection in list(self._connections.values()):
            connection.abort()
        await asyncio.sleep(0)

    # --- turns of the loop ---

    def more_to_read(self, protocol: ClientConnection) -> None:
        """Process the connection's remaining input in the next turn, or one of those after it."""
        self._slices += 1
        self._waiting[protocol] = None
        self._next_turn()

    @property
    def turn_is_full(self) -> bool:
        """Whether as many connections have had a full slice in this turn of the loop as may have one."""
        return self._slices >= SLICES_PER_TURN

    def work(self) -> None:
        """Deliver to consumers, write output, and schedule another turn if work remains."""
        if not self._running:
            self.flush()
            return
        self._broker.pump(MESSAGES_PER_TURN)
        self._broker.do_work(WORK_PER_TURN)
        self.flush()
        self._arm()
        storing = self.storage is not None and self.storage.waits
        if self._waiting or self._broker.busy or self._can_free or storing:
            self._next_turn()

    async def imported(self) -> None:
        """A step of an import is done: carry out what follows from it, and let the loop go on."""
        self._long_lived.check(self._broker.things)
        self.work()
        await asyncio.sleep(0)

    def _next_turn(self) -> None:
        if self._turn is None and self._loop is not None and self._running:
            self._turn = self._loop.call_soon(self._run_turn)

    def _run_turn(self) -> None:
        self._turn = None
        self._slices = 0
        waiting = self._waiting
        for protocol in list(islice(waiting, SLICES_PER_TURN)):
            del waiting[protocol]
            protocol.process()
        if self.storage is not None and self.storage.turn(tidy=not self._broker.memory.has_discarded):
            self._next_turn()
        if self._can_free:
            self._broker.free(FREED_PER_TURN)
            self._heap.check(self._broker.memory.used)
        self.work()

    @property
    def _can_free(self) -> bool:
        """Whether discarded messages wait to be freed, and no thread holds the allocator."""
        return self._broker.memory.has_discarded and not self._heap.running

    def flush(self) -> None:
        """Write the output of each session once, so that no single connection occupies the loop."""
        dirty, self._broker.dirty = self._broker.dirty, {}
        for session in dirty:
            protocol = self._connections.get(session)
            if protocol is not None:
                protocol.write()

    # --- timers ---

    def _arm(self) -> None:
        """Set the timer for the first message or queue to expire."""
        when = self._broker.next_reminder()
        if when is None or self._loop is None:
            return
        if self._reminder is not None:
            if self._reminder_at <= when:
                return
            self._reminder.cancel()
        self._reminder_at = when
        delay = max(0.0, when - self._clock.monotonic())
        self._reminder = self._loop.call_later(delay, self._remind)

    def _remind(self) -> None:
        self._reminder = None
        self._broker.tick()
        self._broker.check_memory()
        self.work()

    def _tick(self) -> None:
        now = self._clock.monotonic()
        for session in list(self._connections):
            session.tick(now)
        self._watch_paused()
        self._heap.check(self._broker.memory.used)
        self._long_lived.check(self._broker.things)
        if self.storage is not None:
            self.storage.tick()
        self.work()
        if self._loop is not None and self._running:
            self._ticker = self._loop.call_later(self._tick_seconds, self._tick)

    def _run_in_thread(self, work: Callable[[], None]) -> None:
        if self._loop is not None:
            self._loop.run_in_executor(None, work).add_done_callback(self._trimmed)

    def _trimmed(self, _done: object) -> None:
        self._heap.finished()
        if self._broker.memory.has_discarded:
            self._next_turn()

    def _watch_paused(self) -> None:
        """Find the peers that have closed or reset a connection that is not read during the alarm."""
        if self._broker.blocked:
            paused = [connection for connection in self._connections.values() if connection.paused]
            for connection in with_closed_peer(paused):
                connection.read_to_the_end()
            for connection in paused:
                connection.read_on()
