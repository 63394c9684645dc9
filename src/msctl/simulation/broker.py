"""The embedded broker in a simulation: it crashes and starts again with its log; its messages go astray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from msctl.broker.core.arguments import QueueOptions
from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.core.messages import Message
from msctl.broker.core.queues import Queue, QueueHost
from msctl.broker.server import BrokerServer
from msctl.broker.storage.storage import Storage, StorageSpec
from msctl.clock import Clock
from msctl.model.broker_spec import BrokerSpec
from msctl.model.snapshots import Durability, QueueSnapshot
from msctl.simulation.disk import Disk
from msctl.simulation.ledger import Ledger
from msctl.simulation.queues import SimulatedQueue

if TYPE_CHECKING:
    from msctl.simulation.spans import Spans

AMQP_PORT = 5672
SEGMENT_SIZE = 16 * 1024
"""Small, so that segments are sealed, emptied and removed within a run."""
TICK_S = 1.0
"""Seconds between two looks at heartbeats and the log, which are every quarter of one in a real broker."""


@dataclass(frozen=True)
class Surroundings:
    """What a broker needs of its world: time, chance, and where it says what happens."""

    clock: Clock
    random: Random
    later: Callable[[float, Callable[[], None]], object]
    note: Callable[[str], None]
    log: Callable[[str, str], None]
    spans: Callable[[], Spans | None]
    party_at: Callable[[str], str]
    """Who has an address."""
    ended: Callable[[], None]
    """The broker's code stops here: end its life."""


class SimulatedBroker:
    """The broker of a run, over its lives. Implements `queues.MessageFaults`."""

    def __init__(self, spec: BrokerSpec, around: Surroundings) -> None:
        self._around = around
        self._durability = spec.durable
        self._disk = Disk(around.random, self._crashed, around.later)
        self._server: BrokerServer | None = None
        self._queues: list[SimulatedQueue] = []
        self._storage: Storage | None = None
        self.ledger = Ledger()
        self.holding = False
        self._shuffling = False
        self._duplicate_until = 0.0

    # --- lives -----------------------------------------------------------------------------------------

    async def start(self, host: str) -> None:
        """Start in a new life, with what the disk has."""
        self._queues = []
        spec = StorageSpec(Path("/broker"), self._durability, segment_size=SEGMENT_SIZE)
        stored = self._durability is not Durability.NONE
        self._server = BrokerServer(
            clock=self._around.clock,
            log=self._around.log,
            storage=spec if stored else None,
            open_storage=self._open,
            make_queue=self._make_queue,
            tick=TICK_S,
        )
        await self._server.start(host, AMQP_PORT)

    def crash_soon(self) -> None:
        """End in one of the next operations on the log's disk."""
        self._disk.crash_soon()

    def crash(self) -> None:
        """End now."""
        self._crashed("")

    @property
    def is_running(self) -> bool:
        return self._server is not None

    def _crashed(self, when: str) -> None:
        self._server = None
        self._around.note(f"the broker crashes {when}".rstrip())
        durable = 0 if self._storage is None else self._storage.journal.durable
        self.ledger.crashed(durable)
        self._storage = None
        self._disk.restarted(power_lost=self._durability is Durability.DISK)
        self._around.ended()

    def _open(self, *args: object, **options: object) -> Storage:
        worker = self._disk.start_worker()
        options |= {"post": worker.post, "open_files": self._disk.open, "start_worker": lambda: worker}
        self._storage = Storage(*args, **options)  # type: ignore[arg-type]  # passed on as they are
        return self._storage

    def _make_queue(self, name: str, host: QueueHost, options: QueueOptions, **rest: object) -> Queue:
        queue = SimulatedQueue(name, host, options, self, **rest)
        self._queues.append(queue)
        return queue

    # --- messages --------------------------------------------------------------------------------------

    def duplicate_until(self, until: float) -> None:
        """Let the next message that a queue gets until then arrive twice."""
        self._duplicate_until = until

    def hold(self, seconds: float, *, shuffle: bool) -> None:
        """Let all queues keep their messages for a while, and deliver them then, or in another order."""
        self._shuffling = shuffle
        self.holding = True
        self._around.later(seconds, self._let_go)

    def _let_go(self) -> None:
        self.holding = False
        for queue in self._queues:
            if not queue.deleted:
                queue.let_go()
        if self._server is not None:
            self._server.changed()

    def duplicates(self, queue: str) -> bool:
        if self._around.clock.monotonic() >= self._duplicate_until:
            return False
        self._duplicate_until = 0.0
        self._around.note(f"a message arrives twice in the queue {queue}")
        return True

    def delivered(self, queue: str, consumer: QueueConsumer, message: Message) -> None:
        spans = self._around.spans()
        if spans is not None and consumer.channel is not None:
            party = self._around.party_at(consumer.channel.connection.peer.split()[-1].rpartition(":")[0])
            spans.delivered(queue, party, message[1], message[2])

    def settled(self, queue: str, message: Message, problem: str = "") -> None:
        spans = self._around.spans()
        if spans is not None:
            spans.settled(queue, message[1], message[2], problem)

    def shuffle(self, queue: str, messages: list[Message]) -> None:
        if self._shuffling and len(messages) > 1:
            self._around.random.shuffle(messages)
            self._around.note(f"{len(messages)} messages of the queue {queue} change their order")

    # --- for invariants --------------------------------------------------------------------------------

    async def queues(self) -> tuple[QueueSnapshot, ...]:
        return () if self._server is None else await self._server.queues()

    def lost(self, name: str) -> list[bytes]:
        """The bodies of the messages that a queue took, that nobody acknowledged, and that are gone."""
        waiting = [
            content
            for queue in self._queues
            if queue.name == name and not queue.deleted
            for content in queue.contents()
        ]
        return self.ledger.lost(name, waiting)
