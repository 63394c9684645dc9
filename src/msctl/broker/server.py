"""The broker's sockets: reads into sessions, writes their output, and shares the event loop.

Of the broker, only this module and `client_connection` import asyncio. Work is cut into bounded slices,
one per turn of the event loop, so that services and the gateway on the same loop are served in between.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from msctl.broker.client_connection import ClientConnection, with_closed_peer
from msctl.broker.core.broker import Alarm, Broker, Client
from msctl.broker.core.browse import browse
from msctl.broker.core.definitions.document import Definitions
from msctl.broker.core.definitions.entries import Problems
from msctl.broker.core.definitions.exporter import export_definitions
from msctl.broker.core.definitions.importer import import_definitions, remove_what_is_gone, report
from msctl.broker.core.limits import BrokerLimits
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.heap import HeapTrimmer, LongLived, malloc_trim
from msctl.broker.listeners import TlsListener, bound, listen
from msctl.broker.session.faults import BrokerFaults
from msctl.broker.session.session import Session
from msctl.broker.storage.folder import has_log
from msctl.broker.storage.restore import restore
from msctl.broker.storage.settings import Settings
from msctl.broker.storage.storage import Storage, StorageSpec
from msctl.clock import Clock
from msctl.errors import BrokerError
from msctl.garbage import collections_paused
from msctl.model.address import LOOPBACK
from msctl.model.queue_messages import QueueLook
from msctl.model.snapshots import QueueSnapshot, StorageSnapshot
from msctl.secret import Secret

MEMORY_LIMIT = 512 * 1024 * 1024
MAX_MESSAGE = 128 * 1024 * 1024

MESSAGES_PER_TURN = 500
SLICES_PER_TURN = 2
"""Connections that may have a full slice of input processed in one turn; others have theirs later."""
FREED_PER_TURN = 5_000
WORK_PER_TURN = 500
"""Queues to which changed policies are applied, or bindings of deleted ones that are removed."""
QUEUES_PER_TURN = 1_000
HANDSHAKES = 1_000
"""Sockets that may be open beyond the limit of connections: those before connection.open."""
TICK_SECONDS = 0.25
STOPPING = "broker forced connection closure with reason 'shutdown'"


@dataclass(frozen=True, slots=True)
class BrokerStats:
    """Statistics of the broker. Counters start when the server is built.

    `memory_bytes` counts the messages. `blocked` is whether publishers wait, because messages take more than
    `memory_limit` or for another alarm: `alarms` has each that is on, with its reason.
    `storage` is None without a log.
    """

    connections: int
    channels: int
    messages: int
    memory_bytes: int
    memory_limit: int
    published: int
    delivered: int
    acked: int
    blocked: bool
    alarms: Mapping[str, str]
    storage: StorageSnapshot | None = None
    management: str | None = None
    """The URL of the management API."""


class Management(Protocol):
    """The management API, which starts after the broker and stops before it."""

    @property
    def url(self) -> str | None:
        """Where it answers; None if it does not run."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class BrokerServer:
    """An AMQP 0-9-1 server on this event loop. Its state is in memory; what is durable is in the log that
    `storage` describes, too, and is there again after a restart.

    `log` takes a level and a text. `memory_limit` is in bytes of queued messages; above it publishers
    are blocked. `tick` are the seconds between two looks at heartbeats and the log. A simulation replaces
    `open_storage` and `make_queue`. `browse`, `purge` and `delete` look queues up in the first virtual host.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: Callable[[str, str], None],
        users: Mapping[str, Secret] | None = None,
        vhosts: Sequence[str] = ("/",),
        memory_limit: int = MEMORY_LIMIT,
        max_message_size: int = MAX_MESSAGE,
        limits: BrokerLimits | None = None,
        storage: StorageSpec | None = None,
        definitions: Definitions | None = None,
        open_storage: Callable[..., Storage] = Storage,
        make_queue: Callable[..., Queue] = Queue,
        tick: float = TICK_SECONDS,
    ) -> None:
        self._open_log = open_storage
        self._tick_seconds = tick
        self._definitions = definitions
        self._storage_spec = storage
        self._storage: Storage | None = None
        self._broker = Broker(
            clock=clock,
            log=log,
            users={"guest": Secret("guest")} if users is None else users,
            vhosts=vhosts,
            memory_limit=memory_limit,
            max_message_size=max_message_size,
            limits=limits,
            make_queue=make_queue,
        )
        self._settings = Settings(self._broker)
        if definitions is not None:
            self._settings.configure(definitions)
        self._clock = clock
        self._servers: list[asyncio.Server] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._protocols: dict[Client, ClientConnection] = {}
        self._turn: asyncio.Handle | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._reminder: asyncio.TimerHandle | None = None
        self._reminder_at = 0.0
        self._waiting: dict[ClientConnection, None] = {}
        self._slices = 0
        """Full slices of input that were processed since the last turn."""
        self._ended: asyncio.Event | None = None
        self.management: Management | None = None
        """Set before `start`."""
        self.touched: Callable[[Sequence[str], str], None] = lambda _faults, _traceparent: None
        """Called for each message that faults hit; set before `start`."""
        self._faults: BrokerFaults | None = None
        self._suspended: tuple[str, int] | None = None
        self.tls: TlsListener | None = None
        """Set before `start`."""
        self.tls_port: int | None = None
        """The bound port for TLS."""
        self._heap = HeapTrimmer(malloc_trim(), self._run_in_thread)
        self._long_lived = LongLived()

    async def start(self, host: str = LOOPBACK, port: int = 5672) -> tuple[str, int]:
        """Recover what is stored, listen, and return the bound address; port 0 asks for a free port.

        The address is that of the port for TLS where there is no other. Raises OSError, and BrokerError or
        UntrustedPathError for a log that cannot be used.
        """
        loop = asyncio.get_running_loop()
        servers = await listen(lambda: ClientConnection(self), host, port, self.tls)
        if self.tls is not None:
            self.tls_port = bound(servers[-1])[1]
            self._broker.log("info", f"AMQPS is served on port {self.tls_port}")
        try:
            if self._storage_spec is not None:
                await asyncio.to_thread(self._open_storage, self._storage_spec, loop)
            if self._definitions is not None:
                await self._import(self._definitions)
            self._broker.check_memory()
            for server in servers:
                await server.start_serving()
        except BaseException:
            for server in servers:
                server.close()
            await self._close_storage()
            raise
        self._servers = servers
        self._loop = loop
        self._ended = asyncio.Event()
        self._ticker = loop.call_later(self._tick_seconds, self._tick)
        if self.management is not None:
            await self.management.start()
        return bound(servers[0])

    async def stop(self, timeout: float = 5.0) -> None:
        """Close every connection with 320 and stop; wait up to `timeout` seconds for close-ok."""
        if self.management is not None:
            await self.management.stop()
        servers, self._servers = self._servers, []
        if not servers or self._loop is None or self._ended is None:
            return
        for server in servers:
            server.close()
        for handle in (self._turn, self._ticker, self._reminder):
            if handle is not None:
                handle.cancel()
        self._turn = self._ticker = self._reminder = None
        if self._storage is not None:
            self._storage.settle()
        for session in list(self._protocols):
            session.force_close(STOPPING)
        self.flush()
        if self._protocols:
            try:
                await asyncio.wait_for(self._ended.wait(), timeout)
            except TimeoutError:
                pass
        for protocol in list(self._protocols.values()):
            protocol.abort()
        await asyncio.sleep(0)
        await self._close_storage()

    # --- definitions ---

    async def import_definitions(self, definitions: Definitions) -> list[str]:
        """Import other definitions; remove users, permissions and policies that only the previous ones had.

        Returns what was removed.
        """
        before, self._definitions = self._definitions, definitions
        removed = [] if before is None else remove_what_is_gone(self._broker, before, definitions)
        self._settings.configure(definitions)
        await self._import(definitions)
        self.changed()
        return removed

    async def _import(self, definitions: Definitions) -> None:
        problems = Problems()
        await self.apply(definitions, problems)
        report(self._broker, definitions, problems)

    async def apply(self, definitions: Definitions, problems: Problems) -> None:
        """Import definitions in steps, each in a turn of the loop; `problems` gets what could not be."""
        for _ in import_definitions(self._broker, definitions, problems):
            self._long_lived.check(self._broker.things)
            self.work()
            await asyncio.sleep(0)

    def export_definitions(self) -> dict[str, Any]:
        """The users, permissions, policies and topology that the broker has now, in RabbitMQ's format."""
        return export_definitions(self._broker)

    # --- the log ---

    def _open_storage(self, spec: StorageSpec, loop: asyncio.AbstractEventLoop) -> None:
        """Open the log and restore what it holds. Runs in a thread, before anything uses the broker."""
        with collections_paused():
            self._restore(spec, loop)

    def _restore(self, spec: StorageSpec, loop: asyncio.AbstractEventLoop) -> None:

        def report(level: str, text: str) -> None:
            loop.call_soon_threadsafe(self._broker.log, level, text)

        try:
            storage = self._storage = self._open_log(
                spec, self._clock, report, post=loop.call_soon_threadsafe, changed=self._storage_changed
            )
        except OSError as error:
            if spec.optional and not has_log(spec.folder):
                reason = (error.strerror or str(error)).lower()
                report("warning", f"cannot create {spec.folder}: {reason}; all messages are kept in memory")
                return
            raise BrokerError(
                f"cannot open the broker's log in {spec.folder}: {(error.strerror or str(error)).lower()}",
                hint="set MSCTL_STATE_DIR to a folder that you can write to; or keep messages in memory: "
                "[broker] durable = false",
            ) from error
        recovered = storage.recovered
        self._broker.memory.journal = storage.journal
        problems = [*recovered.problems, *restore(self._broker, recovered.replay)]
        problems += self._settings.restore(storage)
        if recovered.cut:
            report("info", f"the broker's log ended with an incomplete block of {recovered.cut} bytes: cut")
        for problem in problems:
            report("error", f"the broker's log: {problem}")
        storage.release_recovered()

    async def _close_storage(self) -> None:
        storage, self._storage = self._storage, None
        if storage is None:
            return
        delivered = [
            message[4]
            for vhost in self._broker.vhosts.values()
            for queue in vhost.queues.values()
            if queue.entry
            for message in queue.ready.redelivered()
            if message[4]
        ]
        await asyncio.to_thread(storage.close, delivered)

    def _storage_changed(self) -> None:
        storage = self._storage
        if storage is not None:
            self._broker.stored(storage.journal.durable)
            if storage.stall:
                self._broker.raise_alarm(Alarm.DISK, storage.stall)
            else:
                self._broker.clear_alarm(Alarm.DISK)
            self.flush()

    @property
    def broker(self) -> Broker:
        """The state behind the sockets; who changes it calls `changed`."""
        return self._broker

    @property
    def sessions(self) -> list[Session]:
        """The connections, those that are not open yet included."""
        return [session for session in self._protocols if isinstance(session, Session)]

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server listens."""
        return bound(self._servers[0]) if self._servers and self._servers[0].sockets else None

    def changed(self) -> None:
        """Carry out what follows from a change over the management API: deliveries, alarms, output."""
        self._settings.save()
        self._broker.check_memory()
        self.work()

    # --- faults ---

    @property
    def faults(self) -> BrokerFaults:
        """The faults of messages and connections; who changes them calls `changed`."""
        if self._faults is None:
            self._faults = BrokerFaults(self._broker, self.touched)
        return self._faults

    def suspend(self, reason: str) -> None:
        """Close every connection with 320, and refuse new ones until `resume`; what is stored stays."""
        self._suspended = self.address
        for server in self._servers:
            server.close()
        for session in list(self._protocols):
            session.force_close(reason)
        self.work()

    async def resume(self) -> bool:
        """Listen again at the same address; return whether that is possible."""
        address = self._suspended
        if address is None or not self._servers:
            return True
        try:
            servers = await listen(lambda: ClientConnection(self), *address, self.tls)
        except OSError:
            return False
        for server in servers:
            await server.start_serving()
        self._servers, self._suspended = servers, None
        return True

    # --- statistics and queue operations ---

    def stats(self) -> BrokerStats:
        broker = self._broker
        memory = broker.memory
        return BrokerStats(
            connections=sum(session.open for session in self._protocols),
            channels=broker.channels,
            messages=memory.messages,
            memory_bytes=memory.used,
            memory_limit=broker.memory_limit,
            published=memory.published,
            delivered=memory.delivered,
            acked=memory.acked,
            blocked=broker.blocked,
            alarms={alarm.value: reason for alarm, reason in broker.alarms.items()},
            storage=None if self._storage is None else self._storage.snapshot(),
            management=None if self.management is None else self.management.url,
        )

    async def queues(self) -> tuple[QueueSnapshot, ...]:
        """All queues by virtual host and name, collected over several turns of the loop."""
        found: list[QueueSnapshot] = []
        for vhost in self._broker.vhosts.values():
            parts = []
            queues = list(vhost.queues.values())
            for at in range(0, len(queues), QUEUES_PER_TURN):
                parts.append(sorted(queues[at : at + QUEUES_PER_TURN], key=_name))
                await asyncio.sleep(0)
            for at, queue in enumerate(heapq.merge(*parts, key=_name), 1):
                if not queue.deleted:
                    found.append(_queue_snapshot(queue))
                if at % QUEUES_PER_TURN == 0:
                    await asyncio.sleep(0)
        return tuple(found)

    def browse(self, queue: str) -> QueueLook:
        """The messages at the head of a queue; changes nothing. Raises BrokerError for an unknown queue."""
        return browse(self._named(queue))

    def purge(self, queue: str) -> int:
        """Drop the ready messages of a queue and return their number. Raises BrokerError."""
        return self._changed(self._named(queue).purge())

    def delete(self, queue: str) -> int:
        """Delete a queue, in use or not, and return the number of ready messages. Raises BrokerError."""
        return self._changed(self._first_vhost.delete_queue(self._named(queue)))

    @property
    def _first_vhost(self) -> VirtualHost:
        return next(iter(self._broker.vhosts.values()))

    def _named(self, queue: str) -> Queue:
        found = self._first_vhost.queues.get(queue)
        if found is None:
            raise BrokerError(f"the broker has no queue {queue!r}", hint="list the queues with: msctl queues")
        return found

    def _changed(self, count: int) -> int:
        self.changed()
        return count

    # --- turns of the loop ---

    def connected(self, protocol: ClientConnection) -> Session | None:
        """The session of a new connection; None if there are too many sockets."""
        if len(self._protocols) >= self._broker.limits.connections + HANDSHAKES:
            return None
        session = Session(
            self._broker, protocol.peer, loopback=protocol.loopback, addresses=protocol.addresses
        )
        self._protocols[session] = protocol
        return session

    def disconnected(self, session: Session) -> None:
        self._protocols.pop(session, None)
        session.lost()
        self._broker.check_memory()
        if not self._servers:
            if self._ended is not None and not self._protocols:
                self._ended.set()
            return
        self.work()

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
        if not self._servers:
            self.flush()
            return
        self._broker.pump(MESSAGES_PER_TURN)
        self._broker.do_work(WORK_PER_TURN)
        self.flush()
        self._arm()
        storing = self._storage is not None and self._storage.waits
        if self._waiting or self._broker.busy or self._can_free or storing:
            self._next_turn()

    def _next_turn(self) -> None:
        if self._turn is None and self._loop is not None and self._servers:
            self._turn = self._loop.call_soon(self._run_turn)

    def _run_turn(self) -> None:
        self._turn = None
        self._slices = 0
        waiting = self._waiting
        for protocol in list(islice(waiting, SLICES_PER_TURN)):
            del waiting[protocol]
            protocol.process()
        if self._storage is not None and self._storage.turn(tidy=not self._broker.memory.has_discarded):
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
            protocol = self._protocols.get(session)
            if protocol is not None:
                protocol.write()

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
        for session in list(self._protocols):
            session.tick(now)
        self._watch_paused()
        self._heap.check(self._broker.memory.used)
        self._long_lived.check(self._broker.things)
        if self._storage is not None:
            self._storage.tick()
        self.work()
        if self._loop is not None and self._servers:
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
            for connection in with_closed_peer(self._protocols.values()):
                connection.read_to_the_end()


def _name(queue: Queue) -> str:
    return queue.name


def _queue_snapshot(queue: Queue) -> QueueSnapshot:
    return QueueSnapshot(
        queue.name,
        queue.ready.count,
        queue.unacked,
        len(queue.consumers),
        published=queue.published,
        delivered=queue.delivered,
        vhost=queue.host.name,
    )
