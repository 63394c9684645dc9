"""A broker with a log, without sockets: what one run of it does, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from msctl.broker.core.broker import Alarm, Broker
from msctl.broker.core.journal import Entries
from msctl.broker.core.messages import Message
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.properties import is_persistent, priority_of
from msctl.broker.protocol.tables import FieldValue
from msctl.broker.storage.folder import LogFolder
from msctl.broker.storage.restore import restore
from msctl.broker.storage.storage import Storage, StorageSpec
from msctl.model.snapshots import Durability
from tests.support.clock import FakeClock
from tests.unit.broker.client import make_broker

PERSISTENT = b"\x10\x00\x02"
ROUTE = b"\x00\x01q"
SMALL = 600
"""Bytes of a segment, so that a few messages fill it."""


class Run:
    """One run on the log in `folder`; `reports` are the texts of everything that was wrong.

    What the worker's thread posts is done in a turn, as on an event loop: never beside the test's own thread.
    """

    def __init__(
        self,
        folder: Path,
        clock: FakeClock | None = None,
        *,
        segment_size: int = SMALL,
        durability: Durability = Durability.PROCESS,
        post: Callable[[Callable[[], None]], object] | None = None,
        open_files: Callable[[Path, str], LogFolder] = LogFolder,
    ) -> None:
        self.clock = clock or FakeClock()
        self.reports: list[str] = []
        self._posted: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.broker: Broker = make_broker(self.clock)
        self.storage = Storage(
            StorageSpec(folder, durability, "a test", segment_size),
            self.clock,
            lambda _level, text: self.reports.append(text),
            post=post or self._posted.put,
            changed=self._changed,
            open_files=open_files,
        )
        recovered = self.storage.recovered
        self.cut = recovered.cut
        self.broker.memory.journal = self.storage.journal
        self.problems = [*recovered.problems, *restore(self.broker, recovered.replay)]
        self.storage.turn(tidy=True)

    def _changed(self) -> None:
        self.broker.stored(self.storage.journal.durable)
        if self.storage.stall:
            self.broker.raise_alarm(Alarm.DISK, self.storage.stall)
        else:
            self.broker.clear_alarm(Alarm.DISK)

    @property
    def vhost(self) -> VirtualHost:
        return self.broker.vhosts["/"]

    def declare(self, name: str = "q", *, durable: bool = True, **arguments: FieldValue) -> Queue:
        table = {f"x-{key.replace('_', '-')}".encode(): value for key, value in arguments.items()}
        return self.vhost.declare_queue(
            name, None, durable=durable, exclusive=False, auto_delete=False, arguments=table
        )

    def publish(
        self, body: bytes, *queues: str, properties: bytes = PERSISTENT, ttl: int | None = None
    ) -> None:
        """Publish to queues by their names, in a block of its own."""
        entries: Entries = []
        for name in queues or ("q",):
            queue = self.vhost.queues[name]
            kept = entries if is_persistent(properties) or queue.stores_transient else None
            queue.publish(ROUTE, properties, body, ttl, priority_of(properties), kept)
        if entries:
            self.storage.journal.store(ROUTE, properties, body, entries)
        self.turn()

    def take(self, name: str = "q") -> tuple[int, Message]:
        """Take the first message, unacknowledged."""
        got = self.vhost.queues[name].get(no_ack=False)
        assert got is not None
        return got[0], got[1]

    def ack(self, name: str = "q") -> bytes:
        """Take and acknowledge the first message; return its body."""
        _, message = self.take(name)
        self.vhost.queues[name].ack(message)
        self.turn()
        return message[2]

    def turn(self) -> None:
        while not self._posted.empty():
            self._posted.get()()
        while self.broker.memory.has_discarded:
            self.broker.free(3)
        while self.storage.turn(tidy=True):
            pass

    def bodies(self, name: str = "q") -> list[bytes]:
        return [message[2] for message, _ in self.vhost.queues[name].ready.waiting()]

    def shown(self, name: str = "q") -> list[tuple[bytes, bool]]:
        """The bodies of the ready messages, and whether they count as redelivered."""
        return [(message[2], again) for message, again in self.vhost.queues[name].ready.waiting()]

    def kill(self) -> None:
        """End as a killed process does: what was written is there, and nothing says that it is complete."""
        self.storage.abandon()

    def stop(self) -> None:
        """End as a stack does."""
        queues = [queue for vhost in self.broker.vhosts.values() for queue in vhost.queues.values()]
        delivered = [each[4] for queue in queues for each in queue.ready.redelivered() if each[4]]
        self.storage.close(delivered)
