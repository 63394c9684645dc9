"""What all connections share: users, virtual hosts, memory in use, and who has work waiting. Pure.

The server feeds sessions, then does what they leave here: pumps queues, writes what is to be sent,
and looks at the clock.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from msctl.broker.core.messages import Message
from msctl.broker.core.queues import MemoryAccount, Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.clock import Clock

LogFunction = Callable[[str, str], None]
"""Called with a level ("debug", "info", "warning", "error") and a text."""

MEMORY_LOW = 0.9
"""Publishers go on when the queues are down to this part of the limit."""


class Client(Protocol):
    """A connection, as the broker and its server see it."""

    @property
    def open(self) -> bool:
        """Whether the peer still counts as connected."""
        ...

    @property
    def channel_count(self) -> int: ...

    def unblock(self) -> None:
        """Let the peer publish again."""
        ...

    def force_close(self, detail: str) -> None:
        """The server stops: 320 CONNECTION_FORCED, and nothing is delivered after."""
        ...

    def tick(self, now: float) -> None:
        """Send a heartbeat that is due, and close a peer that is silent or too slow."""
        ...


class ReplyTarget(Protocol):
    """Who waits for direct replies."""

    def deliver(self, message: Message) -> None: ...


class Broker:
    """The state behind the sockets. `memory_limit` is in bytes of queued messages."""

    def __init__(
        self,
        *,
        clock: Clock,
        log: LogFunction,
        users: Mapping[str, str],
        vhosts: Sequence[str],
        memory_limit: int,
        max_message_size: int,
    ) -> None:
        self.clock = clock
        self.log = log
        self.users = dict(users)
        self.memory = MemoryAccount()
        self.memory_limit = memory_limit
        self.max_message_size = max_message_size
        self.blocked = False
        self.vhosts = {
            name: VirtualHost(name, clock, self.memory, pump_later=self._pump_later, log=log)
            for name in vhosts
        }
        self.sessions: set[Client] = set()
        self.dirty: dict[Client, None] = {}
        """Sessions that have something to send."""
        self.reply_consumers: dict[str, ReplyTarget] = {}
        """Who waits for direct replies, by the secret part of the reply address."""
        self._pending: dict[Queue, None] = {}

    def authenticate(self, user: str, password: str) -> bool:
        expected = self.users.get(user)
        if expected is None:
            return False
        return hmac.compare_digest(expected.encode(), password.encode(errors="surrogateescape"))

    def _pump_later(self, queue: Queue) -> None:
        self._pending[queue] = None

    @property
    def busy(self) -> bool:
        """Whether messages wait to be handed out, or bytes to be sent."""
        return bool(self._pending or self.dirty)

    def pump(self, limit: int) -> bool:
        """Hand out up to about `limit` waiting messages; whether more of them wait."""
        while self._pending and limit > 0:
            queue = next(iter(self._pending))
            del self._pending[queue]
            limit -= 1 + queue.pump(limit)
        return bool(self._pending)

    def check_memory(self) -> None:
        """Block or unblock publishers, where the queues' memory calls for it."""
        used = self.memory.used
        if not self.blocked and used > self.memory_limit:
            self.blocked = True
            self.log(
                "warning",
                f"The broker's queues hold {used} bytes of a limit of {self.memory_limit}: "
                "publishers wait until consumers have caught up.",
            )
        elif self.blocked and used <= self.memory_limit * MEMORY_LOW:
            self.blocked = False
            self.log("info", "The broker's queues have room again: publishers go on.")
            for session in list(self.sessions):
                session.unblock()

    def next_reminder(self) -> float | None:
        """When `tick` is due (monotonic); None while nothing waits for time."""
        due = [when for vhost in self.vhosts.values() if (when := vhost.next_reminder()) is not None]
        return min(due, default=None)

    def tick(self) -> None:
        """Expire what is due."""
        for vhost in self.vhosts.values():
            vhost.tick()
