"""The AMQP server: its listeners, and the broker behind them from its start to its end.

Connections and their share of the event loop are in `turns`, the log in `broker_log`. Of the broker, only the
modules of this folder and the management API import asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from msctl import ports
from msctl.broker.broker_log import BrokerLog
from msctl.broker.client_connection import ClientConnection
from msctl.broker.core.broker import Broker
from msctl.broker.core.browse import browse
from msctl.broker.core.definitions.document import Definitions
from msctl.broker.core.definitions.entries import Problems
from msctl.broker.core.definitions.exporter import export_definitions
from msctl.broker.core.definitions.importer import import_definitions, remove_what_is_gone, report
from msctl.broker.core.limits import BrokerLimits
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.listeners import TlsListener, bound, listen
from msctl.broker.session.faults import BrokerFaults
from msctl.broker.session.session import Session
from msctl.broker.statistics import BrokerStats, queue_snapshots
from msctl.broker.storage.settings import Settings
from msctl.broker.storage.storage import Storage, StorageSpec
from msctl.broker.turns import Turns
from msctl.clock import Clock
from msctl.errors import BrokerError, PortTakenError
from msctl.model.address import LOOPBACK
from msctl.model.queue_messages import QueueLook
from msctl.model.snapshots import QueueSnapshot
from msctl.secret import Secret

MEMORY_LIMIT = 512 * 1024 * 1024
MAX_MESSAGE = 128 * 1024 * 1024
TICK_SECONDS = 0.25
STOPPING = "broker forced connection closure with reason 'shutdown'"


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
        self._definitions = definitions
        self._storage_spec = storage
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
        self._turns = Turns(self._broker, clock, tick)
        self._log = BrokerLog(
            self._broker, self._settings, clock, flush=self._turns.flush, open_storage=open_storage
        )
        self._servers: list[asyncio.Server] = []
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

    async def start(self, host: str = LOOPBACK, port: int = 5672) -> tuple[str, int]:
        """Recover what is stored, listen, and return the bound address; port 0 asks for a free port.

        The address is that of the port for TLS where there is no other. Raises OSError, and BrokerError or
        UntrustedPathError for a log that cannot be used.
        """
        servers = await self._listen(host, port)
        if self.tls is not None:
            self.tls_port = bound(servers[-1])[1]
            self._broker.log("info", f"AMQPS is served on port {self.tls_port}")
        try:
            if self._storage_spec is not None:
                await self._log.open(self._storage_spec)
                self._turns.storage = self._log.storage
            if self._definitions is not None:
                await self._import(self._definitions)
            self._broker.check_memory()
            for server in servers:
                await ports.serve(server)
        except BaseException:
            for server in servers:
                server.close()
            await self._close_log()
            raise
        self._servers = servers
        self._turns.start()
        if self.management is not None:
            await self.management.start()
        return bound(servers[0])

    async def stop(self, timeout: float = 5.0) -> None:
        """Close every connection with 320 and stop; wait up to `timeout` seconds for close-ok."""
        if self.management is not None:
            await self.management.stop()
        servers, self._servers = self._servers, []
        if not servers:
            return
        for server in servers:
            server.close()
        self._turns.stop()
        if self._log.storage is not None:
            self._log.storage.settle()
        self._turns.force_close(STOPPING)
        self._turns.flush()
        await self._turns.wait_closed(timeout)
        await self._close_log()

    async def _listen(self, host: str, port: int) -> list[asyncio.Server]:
        return await listen(lambda: ClientConnection(self._turns), host, port, self.tls)

    async def _close_log(self) -> None:
        self._turns.storage = None
        await self._log.close()

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
            await self._turns.imported()

    def export_definitions(self) -> dict[str, Any]:
        """The users, permissions, policies and topology that the broker has now, in RabbitMQ's format."""
        return export_definitions(self._broker)

    # --- for the management API ---

    @property
    def broker(self) -> Broker:
        """The state behind the sockets; who changes it calls `changed`."""
        return self._broker

    @property
    def sessions(self) -> list[Session]:
        """The connections, those that are not open yet included."""
        return self._turns.sessions

    @property
    def address(self) -> tuple[str, int] | None:
        """Where the server listens."""
        return bound(self._servers[0]) if self._servers and self._servers[0].sockets else None

    def changed(self) -> None:
        """Carry out what follows from a change over the management API: deliveries, alarms, output."""
        self._settings.save()
        self._broker.check_memory()
        self._turns.work()

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
        self._turns.force_close(reason)
        self._turns.work()

    async def resume(self) -> bool:
        """Listen again at the same address; return whether that is possible."""
        address = self._suspended
        if address is None or not self._servers:
            return True
        servers: list[asyncio.Server] = []
        try:
            servers = await self._listen(*address)
            for server in servers:
                await ports.serve(server)
        except (OSError, PortTakenError):
            for server in servers:
                server.close()
            return False
        self._servers, self._suspended = servers, None
        return True

    # --- statistics and queue operations ---

    def stats(self) -> BrokerStats:
        broker = self._broker
        memory = broker.memory
        return BrokerStats(
            connections=self._turns.open_sessions,
            channels=broker.channels,
            messages=memory.messages,
            memory_bytes=memory.used,
            memory_limit=broker.memory_limit,
            published=memory.published,
            delivered=memory.delivered,
            acked=memory.acked,
            blocked=broker.blocked,
            alarms={alarm.value: reason for alarm, reason in broker.alarms.items()},
            storage=None if self._log.storage is None else self._log.storage.snapshot(),
            management=None if self.management is None else self.management.url,
        )

    async def queues(self) -> tuple[QueueSnapshot, ...]:
        """All queues by virtual host and name, collected over several turns of the loop."""
        return await queue_snapshots(self._broker)

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
