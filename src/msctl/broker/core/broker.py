"""What all connections share: users, virtual hosts, the memory alarm, and pending work. Pure.

The server feeds sessions, then carries out the pending work: it pumps queues, writes the output of
sessions and calls `tick` when a reminder is due.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol

from msctl.broker.core.arguments import MAX_NAME
from msctl.broker.core.limits import BrokerLimits, too_many_connections_of
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import Message
from msctl.broker.core.queues import EXPIRED_PER_STEP, Queue
from msctl.broker.core.users import ADMINISTRATOR, PasswordHash, Permissions, User, Users
from msctl.broker.core.vhost import VhostInfo, VirtualHost, Work
from msctl.clock import Clock
from msctl.faults.messages import PublishEffect
from msctl.secret import Secret

LogFunction = Callable[[str, str], None]
"""Called with a level ("debug", "info", "warning", "error") and a text."""

MEMORY_LOW = 0.9
"""The part of the memory limit below which blocked publishers are unblocked."""


class Alarm(StrEnum):
    """Why publishers are blocked."""

    MEMORY = "memory"
    DISK = "disk"


_UNTIL = {
    Alarm.MEMORY: "until messages are consumed or purged",
    Alarm.DISK: "until it can be written",
}


class Client(Protocol):
    """A connection, as the broker and the server see it."""

    @property
    def open(self) -> bool:
        """Whether neither side has begun to close the connection."""
        ...

    @property
    def channel_count(self) -> int: ...

    @property
    def user(self) -> str:
        """The name of the user that has logged in; empty before."""
        ...

    @property
    def vhost(self) -> VirtualHost | None:
        """The virtual host that the connection has open."""
        ...

    def unblock(self) -> None:
        """Process the peer's publishes again."""
        ...

    def force_close(self, detail: str) -> None:
        """Close with 320 CONNECTION_FORCED for the reason `detail`."""
        ...

    def tick(self, now: float) -> None:
        """Send a heartbeat that is due; close a peer that is silent or too slow."""
        ...


class Deferring(Protocol):
    """A channel with answers that wait for the log."""

    def stored(self, position: int) -> bool:
        """Send what has waited for the log up to `position`; return whether more waits."""
        ...


class ReplyTarget(Protocol):
    """A consumer of direct replies."""

    def deliver(self, message: Message) -> None: ...


class FaultPoint(Protocol):
    """The faults of messages and connections, where the broker asks for them: see session.faults."""

    def publish(
        self, outbox: Any, exchange: str, queues: Sequence[str], headers: Any, *, confirming: bool
    ) -> PublishEffect | None:
        """Draw what happens to a publish; None leaves it alone."""
        ...

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` after so many seconds, or when the fault ends."""
        ...

    def sink(self, deliveries: Any, outbox: Any) -> Any:
        """What the messages of a new consumer go to."""
        ...

    def opened(self, session: Any) -> None:
        """A connection has been opened."""
        ...

    def next_due(self) -> float | None:
        """When `tick` is due (monotonic); None for never."""
        ...

    def tick(self, now: float) -> None:
        """Do what is due."""
        ...


class Broker:
    """The state that connections share.

    `users` are names and passwords of administrators with all permissions; `memory_limit` is in bytes.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        log: LogFunction,
        users: Mapping[str, Secret],
        vhosts: Sequence[str],
        memory_limit: int,
        max_message_size: int,
        limits: BrokerLimits | None = None,
        make_queue: Callable[..., Queue] = Queue,
    ) -> None:
        self._make_queue = make_queue
        self.clock = clock
        self.log = log
        self.memory = MemoryAccount()
        self.memory_limit = memory_limit
        self.max_message_size = max_message_size
        self.limits = limits or BrokerLimits()
        self.alarms: dict[Alarm, str] = {}
        """The alarms that are on, each with its reason for an operator."""
        self.blocked = False
        """Whether an alarm is on: publishers wait."""
        self.deferring: dict[Deferring, None] = {}
        """Channels with answers that wait for the log."""
        self.faults: FaultPoint | None = None
        """None while no fault concerns a message or connection."""
        self.alarm_held = False
        """Whether a fault keeps the memory alarm on."""
        self.channels = 0
        """Open channels of all connections."""
        self.parked = 0
        """Bytes of input that blocked connections have received and not processed."""
        self.vhosts: dict[str, VirtualHost] = {}
        self.parameters: dict[tuple[str, str, str], Any] = {}
        """Runtime parameters by component, virtual host and name, without policies."""
        self.global_parameters: dict[str, Any] = {}
        self.users = Users(self._permissions_changed)
        for name in vhosts:
            self.add_vhost(name)
        for name, password in users.items():
            self.users.put(User(name, PasswordHash.make(password), tags=(ADMINISTRATOR,)))
            for vhost in self.vhosts:
                self.users.permit(name, vhost, Permissions.of())
        self.sessions: set[Client] = set()
        self.dirty: dict[Client, None] = {}
        """Sessions with unwritten output."""
        self.reply_consumers: dict[str, ReplyTarget] = {}
        """Consumers of direct replies, by the secret part of their address."""
        self._pending: dict[Queue, None] = {}
        self._work: dict[Work, None] = {}

    # --- virtual hosts ---

    def add_vhost(self, name: str, info: VhostInfo | None = None) -> VirtualHost:
        """Return the virtual host `name`, created if it does not exist; `info` replaces what is noted.

        Raises ValueError for a name that cannot be one.
        """
        if not 0 < len(name.encode(errors="surrogateescape")) <= MAX_NAME:
            raise ValueError(f"a virtual host's name takes 1 to {MAX_NAME} bytes")
        vhost = self.vhosts.get(name)
        if vhost is None:
            vhost = self.vhosts[name] = VirtualHost(
                name,
                self.clock,
                self.memory,
                limits=self.limits,
                make_queue=self._make_queue,
                pump_later=self._pump_later,
                later=self._do_later,
                log=self.log,
            )
        if info is not None:
            vhost.info = info
        return vhost

    def delete_vhost(self, name: str) -> bool:
        """Delete a virtual host with its queues and exchanges, and close the connections that use it.

        Returns False if it does not exist.
        """
        vhost = self.vhosts.pop(name, None)
        if vhost is None:
            return False
        for session in list(self.sessions):
            if session.vhost is vhost:
                session.force_close(f"vhost '{name}' is deleted")
        vhost.close()
        self.users.forget_vhost(name)
        return True

    @property
    def things(self) -> int:
        """How many queues, exchanges and bindings there are."""
        return sum(
            len(vhost.queues) + len(vhost.routing.exchanges) + vhost.routing.bindings.count
            for vhost in self.vhosts.values()
        )

    # --- users ---

    def delete_user(self, name: str) -> bool:
        """Delete a user and close its connections; False if it does not exist."""
        if not self.users.delete(name):
            return False
        for session in list(self.sessions):
            if session.user == name:
                session.force_close(f"user '{name}' is deleted")
        return True

    def check_user_limit(self, name: str) -> None:
        """Raises AmqpError 530 if a user has as many open connections as it may have."""
        user = self.users.get(name)
        limit = -1 if user is None else user.limits.get("max-connections", -1)
        if limit >= 0:
            used = sum(each.user == name and each.vhost is not None for each in self.sessions)
            if used >= limit:
                raise too_many_connections_of(name, limit)

    def _permissions_changed(self) -> None:
        """Publish plans contain the result of permission checks: make them all stale."""
        for vhost in self.vhosts.values():
            vhost.routing.changed()

    def _do_later(self, work: Work) -> None:
        self._work[work] = None

    def do_work(self, limit: int) -> None:
        """Apply changed policies to, or remove bindings of, up to `limit` more things."""
        if self._work:
            work = next(iter(self._work))
            if not work(limit):
                del self._work[work]

    def _pump_later(self, queue: Queue) -> None:
        self._pending[queue] = None

    @property
    def busy(self) -> bool:
        """Whether messages wait for delivery, output to be written, or other work to be done."""
        return bool(self._pending or self.dirty or self._work)

    def pump(self, limit: int) -> bool:
        """Deliver about `limit` waiting messages; return whether more wait."""
        while self._pending and limit > 0:
            queue = next(iter(self._pending))
            del self._pending[queue]
            limit -= 1 + queue.pump(limit)
        return bool(self._pending)

    def free(self, limit: int) -> None:
        """Free up to `limit` messages of purged and deleted queues."""
        if self.memory.free(limit):
            self.check_memory()

    def check_memory(self) -> None:
        """Raise or clear the memory alarm."""
        used, limit = self.memory.used, self.memory_limit
        if used > limit:
            if Alarm.MEMORY not in self.alarms:
                self.raise_alarm(Alarm.MEMORY, f"messages take {used} bytes, the limit is {limit}")
        elif self.blocked and used <= limit * MEMORY_LOW and not self.alarm_held:
            self.clear_alarm(Alarm.MEMORY)

    def raise_alarm(self, alarm: Alarm, reason: str) -> None:
        """Block publishers until the alarm is cleared; a raised alarm only gets a new reason."""
        if alarm not in self.alarms:
            self.log("warning", f"{alarm} alarm: {reason}; publishers are blocked {_UNTIL[alarm]}")
        self.alarms[alarm] = reason
        self.blocked = True

    def clear_alarm(self, alarm: Alarm) -> None:
        """Unblock publishers if no other alarm is on."""
        if self.alarms.pop(alarm, None) is None:
            return
        self.blocked = bool(self.alarms)
        if self.blocked:
            self.log("info", f"{alarm} alarm cleared: publishers still wait")
            return
        self.log("info", f"{alarm} alarm cleared: publishers are unblocked")
        for session in list(self.sessions):
            session.unblock()

    @property
    def blocked_by(self) -> str:
        """What clients are told in connection.blocked, as by RabbitMQ."""
        return "low on " + " & ".join(alarm.value for alarm in Alarm if alarm in self.alarms)

    def stored(self, position: int) -> None:
        """Send the answers that have waited for the log up to `position`."""
        for channel in list(self.deferring):
            if not channel.stored(position):
                del self.deferring[channel]

    def next_reminder(self) -> float | None:
        """The time (monotonic) at which `tick` is due; None for never."""
        due = [when for vhost in self.vhosts.values() if (when := vhost.next_reminder()) is not None]
        if self.faults is not None and (held_until := self.faults.next_due()) is not None:
            due.append(held_until)
        return min(due, default=None)

    def tick(self, limit: int = EXPIRED_PER_STEP) -> None:
        """Expire messages and queues that are due, about `limit` at a time."""
        if self.faults is not None:
            self.faults.tick(self.clock.monotonic())
        for vhost in self.vhosts.values():
            limit -= vhost.tick(limit)
