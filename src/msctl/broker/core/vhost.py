"""A virtual host: its queues, dead-lettering between them, and their timers. Pure.

Declaring and deleting follow RabbitMQ's rules and texts. Exchanges and bindings are in `routing`.
"""

from __future__ import annotations

import heapq
import secrets
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from msctl.broker.core.access import UNRESTRICTED, Access, Operation
from msctl.broker.core.arguments import (
    QUEUE_ARGUMENTS,
    QUORUM,
    check_equivalent,
    check_same,
    read_dead_letter_exchange,
    read_queue_arguments,
)
from msctl.broker.core.dead_letter import dead_lettered, is_cycle
from msctl.broker.core.exchanges import Exchange
from msctl.broker.core.journal import Entries
from msctl.broker.core.limits import BrokerLimits, too_many_queues
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import Message
from msctl.broker.core.policies import Policies, Policy
from msctl.broker.core.queues import EXPIRED_PER_STEP, Queue
from msctl.broker.core.quorum import check_declaration, refuse_conditional_delete
from msctl.broker.core.routing import Routing, refuse_reserved, strip_name
from msctl.broker.protocol.properties import is_persistent, priority_of
from msctl.broker.protocol.replies import not_found, precondition_failed, resource
from msctl.broker.protocol.tables import Table
from msctl.broker.protocol.wire import route_of
from msctl.clock import Clock

REPLY_QUEUE = "amq.rabbitmq.reply-to"
_CYCLES_KEPT = 1000
APPLIED_AT_ONCE = 500
"""Queues and exchanges to which a changed policy applies in the same step."""


@dataclass(frozen=True, slots=True)
class VhostInfo:
    """What an operator notes about a virtual host; it has no effect on messages."""

    description: str = ""
    tags: tuple[str, ...] = ()


Work = Callable[[int], bool]
"""Does up to a limit of what waits, and returns whether there is more."""


class Timed(Protocol):
    """What asks to be called at a time: a queue, or the delayed messages."""

    @property
    def deleted(self) -> bool: ...

    def tick(self, now: float, limit: int) -> int:
        """Do what is due, for up to `limit` messages; return their number."""
        ...


class VirtualHost:
    """One virtual host. `pump_later` is called with each queue that has messages to deliver, `later` with
    work to be done in steps: call that with a limit until it returns False."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        memory: MemoryAccount,
        *,
        limits: BrokerLimits | None = None,
        make_queue: Callable[..., Queue] = Queue,
        pump_later: Callable[[Queue], None] = lambda _queue: None,
        later: Callable[[Work], None] = lambda _work: None,
        log: Callable[[str, str], None] = lambda _level, _text: None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.memory = memory
        self.limits = limits or BrokerLimits()
        self.info = VhostInfo()
        self.connections = 0
        self.queues: dict[str, Queue] = {}
        self.policies = Policies()
        self.routing = Routing(
            name,
            self.queues,
            self.policies,
            self.limits,
            self,
            unbind_later=lambda: later(self.routing.bindings.remove_more),
        )
        self._make_queue = make_queue
        self._exclusive: dict[object, dict[Queue, None]] = {}
        self._pump_later = pump_later
        self._later = later
        self._unapplied: list[Queue | Exchange] = []
        self._log = log
        self._reminders: list[tuple[float, int, Timed]] = []
        self._numbers = count()
        self._dead: deque[tuple[Queue, Message, str]] = deque()
        self._dead_lettering = False
        self._cycles: set[tuple[str, str]] = set()

    # --- queues ---

    def queue(self, name: str) -> Queue:
        """Raises AmqpError 404."""
        queue = self.queues.get(name)
        if queue is None:
            raise not_found("queue", name, self.name)
        return queue

    def queue_for(self, name: str, owner: object) -> Queue:
        """A queue that the connection `owner` may use. Raises AmqpError 404, 405."""
        queue = self.queue(name)
        queue.check_access(owner)
        return queue

    def declare_queue(
        self,
        name: str,
        owner: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Table,
        access: Access = UNRESTRICTED,
    ) -> Queue:
        """Return the existing equivalent queue or a new one; an empty name asks for a generated one.

        Raises AmqpError 403, 405, 406.
        """
        name = strip_name(name)
        if name:
            refuse_reserved("queue", name)
        else:
            name = generate_name("amq.gen")
        durable = durable and not exclusive
        access.check(Operation.CONFIGURE, "queue", name)
        shown = resource("queue", name, self.name)
        queue = self.queues.get(name)
        if queue is None:
            if len(self.queues) >= self.limits.queues:
                raise too_many_queues(name, self.name, self.limits.queues)
            target = read_dead_letter_exchange(arguments, shown)
            if target is not None:
                access.check(Operation.READ, "queue", name)
                access.check(Operation.WRITE, "exchange", target)
            options = read_queue_arguments(arguments, shown)
            if options.kind == QUORUM:
                check_declaration(shown, durable=durable, exclusive=exclusive, auto_delete=auto_delete)
            queue = self.queues[name] = self._make_queue(
                name,
                self,
                options,
                durable=durable,
                auto_delete=auto_delete,
                owner=owner if exclusive else None,
                arguments=arguments,
                applied=self.policies.for_queue(name, options.kind),
            )
            journal = self.memory.journal
            if durable and journal is not None:
                queue.entry = journal.put_queue(self.name, name, auto_delete=auto_delete, arguments=arguments)
            if exclusive:
                self._exclusive.setdefault(owner, {})[queue] = None
            self.routing.changed()
            return queue
        queue.check_access(owner if exclusive else None, strict=True)
        check_same("durable", shown, queue.durable, durable)
        check_same("auto_delete", shown, queue.auto_delete, auto_delete)
        check_equivalent(queue.arguments, arguments, QUEUE_ARGUMENTS, shown, absent_type=True)
        queue.touch()
        return queue

    def delete_queue_named(
        self, name: str, owner: object, *, if_unused: bool, if_empty: bool, access: Access = UNRESTRICTED
    ) -> int:
        """Delete a queue and return its number of ready messages, 0 for a missing one.

        Raises AmqpError 403, 405, 406, 540.
        """
        name = strip_name(name)
        access.check(Operation.CONFIGURE, "queue", name)
        queue = self.queues.get(name)
        if queue is None:
            return 0
        queue.check_access(owner)
        shown = resource("queue", queue.name, self.name)
        if queue.options.kind == QUORUM and (if_unused or if_empty):
            raise refuse_conditional_delete(shown, "if-unused" if if_unused else "if-empty")
        if if_empty and queue.ready.count:
            raise precondition_failed(f"{shown} not empty")
        if if_unused and queue.consumers:
            raise precondition_failed(f"{shown} in use")
        return self.delete_queue(queue)

    def delete_queue(self, queue: Queue) -> int:
        if self.queues.get(queue.name) is not queue:
            return 0
        del self.queues[queue.name]
        if queue.owner is not None:
            self._exclusive.get(queue.owner, {}).pop(queue, None)
        if queue.entry and self.memory.journal is not None:
            self.memory.journal.drop(queue.entry)
        self.routing.changed()
        self.routing.unbind_destination(queue)
        return queue.close()

    def recover_queue(self, entry: int, name: str, *, auto_delete: bool, arguments: Table) -> Queue:
        """Add a durable queue that the log has. Raises AmqpError for arguments that are not accepted."""
        options = read_queue_arguments(arguments, resource("queue", name, self.name))
        queue = self.queues[name] = self._make_queue(
            name,
            self,
            options,
            durable=True,
            auto_delete=auto_delete,
            arguments=arguments,
            applied=self.policies.for_queue(name, options.kind),
        )
        queue.entry = entry
        self.routing.changed()
        return queue

    def close(self) -> None:
        """Delete all queues; their consumers are cancelled and nothing is dead-lettered."""
        for queue in list(self.queues.values()):
            self.delete_queue(queue)
        self.routing.close()
        self._reminders.clear()

    # --- policies ---

    def set_policy(self, policy: Policy, *, operator: bool = False) -> None:
        """Add or replace a policy, and apply it to existing queues and exchanges."""
        self.policies.table(operator=operator)[policy.name] = policy
        self.apply_policies()

    def clear_policy(self, name: str, *, operator: bool = False) -> bool:
        """Remove a policy; False if it does not exist."""
        if self.policies.table(operator=operator).pop(name, None) is None:
            return False
        self.apply_policies()
        return True

    def apply_policies(self) -> None:
        """Apply the present policies to exchanges and queues: to some at once, to others by `apply_more`."""
        self._unapplied = [*self.queues.values(), *self.routing.exchanges.values()]
        if self.apply_more(APPLIED_AT_ONCE):
            self._later(self.apply_more)

    def apply_more(self, limit: int) -> bool:
        """Apply the present policies to up to `limit` queues and exchanges, of many policies to fewer.

        Returns whether there are more.
        """
        for _ in range(min(self.policies.bounded(limit), len(self._unapplied))):
            each = self._unapplied.pop()
            if each.deleted:
                continue
            if isinstance(each, Queue):
                each.apply(self.policies.for_queue(each.name, each.declared.kind))
            else:
                self.routing.apply_policies(each)
        return bool(self._unapplied)

    def delete_exclusive(self, owner: object) -> None:
        """Delete the exclusive queues of a connection."""
        for queue in list(self._exclusive.get(owner, ())):
            self.delete_queue(queue)
        self._exclusive.pop(owner, None)

    # --- services for queues ---

    def pump_later(self, queue: Queue) -> None:
        self._pump_later(queue)

    def remind(self, timed: Timed, when: float) -> None:
        heapq.heappush(self._reminders, (when, next(self._numbers), timed))

    def next_reminder(self) -> float | None:
        """The time (monotonic) at which `tick` is due; None for never."""
        return self._reminders[0][0] if self._reminders else None

    def tick(self, limit: int = EXPIRED_PER_STEP) -> int:
        """Call `tick` on what is due, for up to about `limit` queues and messages; return the number of
        both."""
        now = self.clock.monotonic()
        handled = 0
        while self._reminders and self._reminders[0][0] <= now and handled < limit:
            _, _, timed = heapq.heappop(self._reminders)
            handled += 1 if timed.deleted else max(1, timed.tick(now, limit - handled))
        return handled

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Send a message of `queue` to the queue's dead-letter exchange, if that exists.

        This can dead-letter further messages; they are handled in a loop, not recursively.
        """
        if queue.options.dead_letter_exchange not in self.routing.exchanges:
            return
        self._dead.append((queue, message, reason))
        if self._dead_lettering:
            return
        self._dead_lettering = True
        try:
            while self._dead:
                self._dead_letter(*self._dead.popleft())
        finally:
            self._dead_lettering = False

    def _dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        exchange = self.routing.exchanges.get(queue.options.dead_letter_exchange or "")
        if exchange is None:
            return
        keys, raw, headers = dead_lettered(
            message, reason, queue.name, self.clock.time(), queue.options.dead_letter_key
        )
        priority = priority_of(raw)
        route = route_of(exchange.name, keys[0])
        journal = self.memory.journal
        entries: Entries = []
        persistent = is_persistent(raw)
        for target in self.routing.route(exchange, keys, headers, raw):
            if is_cycle(target.name, reason, headers):
                self._report_cycle(queue.name, target.name)
            else:
                stored = journal is not None and (persistent or target.stores_transient)
                target.publish(route, raw, message[2], None, priority, entries if stored else None)
        if entries and journal is not None:
            journal.store(route, raw, message[2], entries)

    def _report_cycle(self, source: str, target: str) -> None:
        if (source, target) not in self._cycles and len(self._cycles) < _CYCLES_KEPT:
            self._cycles.add((source, target))
            self._log(
                "warning",
                f"messages dead-lettered by queue {source!r} return to queue {target!r} in a cycle and are "
                "dropped; this cycle is reported once",
            )


def generate_name(prefix: str) -> str:
    """A unique name such as `amq.gen-…` or `amq.ctag-…`."""
    return f"{prefix}-{urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"
