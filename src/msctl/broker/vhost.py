"""A virtual host: its exchanges, queues and bindings, and the way of a message through them. Pure.

Every rule about declaring, deleting and binding is here, with RabbitMQ's texts; sessions only ask.
"""

from __future__ import annotations

import heapq
import secrets
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count

from msctl.broker.arguments import (
    QUEUE_ARGUMENTS,
    QueueOptions,
    check_equivalent,
    check_same,
    read_queue_arguments,
)
from msctl.broker.deadletter import bury, goes_in_circles
from msctl.broker.exchanges import (
    Binding,
    Exchange,
    ExchangeType,
    binding_identity,
    check_headers_binding,
    resolve,
)
from msctl.broker.messages import Message
from msctl.broker.properties import read_properties
from msctl.broker.queues import Ledger, Queue
from msctl.broker.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    not_found,
    precondition_failed,
    resource,
)
from msctl.broker.tables import TYPE_NAMES, Table
from msctl.broker.wire import route_of
from msctl.clock import Clock

REPLY_QUEUE = "amq.rabbitmq.reply-to"
_DEFAULT_EXCHANGE = "operation not permitted on the default exchange"
_ROUTES_KEPT = 4096


class VirtualHost:
    """One virtual host. `generation` changes with everything that can change where messages go."""

    def __init__(
        self,
        name: str,
        clock: Clock,
        ledger: Ledger,
        *,
        pump_later: Callable[[Queue], None] = lambda _queue: None,
        log: Callable[[str, str], None] = lambda _level, _text: None,
    ) -> None:
        self.name = name
        self.clock = clock
        self.ledger = ledger
        self.generation = 0
        self.queues: dict[str, Queue] = {}
        self.exchanges: dict[str, Exchange] = {}
        self._pump_later = pump_later
        self._log = log
        self._routes: dict[tuple[str, str], tuple[Queue, ...]] = {}
        self._inbound: dict[Exchange | Queue, dict[tuple[object, ...], Exchange]] = {}
        self._reminders: list[tuple[float, int, Queue]] = []
        self._numbers = count()
        self._dead: deque[tuple[Queue, Message, str]] = deque()
        self._burying = False
        self._circles: set[tuple[str, str]] = set()
        for exchange in ExchangeType:
            self._create_exchange(Exchange(f"amq.{exchange}", exchange))
        self._create_exchange(Exchange("amq.match", ExchangeType.HEADERS))
        self._create_exchange(Exchange("", ExchangeType.DIRECT))

    # --- routing ---

    def exchange(self, name: str) -> Exchange:
        """Raises AmqpError 404."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found("exchange", name, self.name)
        return exchange

    def route(self, exchange: Exchange, keys: Iterable[str], headers: Table) -> tuple[Queue, ...]:
        """The queues that a message goes to, each once."""
        if exchange.name == "":
            found = {self.queues[key]: None for key in keys if key in self.queues}
        else:
            found = resolve(exchange, keys, headers, self.exchanges.get)
        return tuple(found)

    def route_key(self, exchange: Exchange, key: str) -> tuple[Queue, ...]:
        """`route` for a message with one key and no headers: remembered until something changes."""
        found = self._routes.get((exchange.name, key))
        if found is None:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            found = self._routes[exchange.name, key] = self.route(exchange, (key,), {})
        return found

    def _changed(self) -> None:
        self.generation += 1
        self._routes.clear()

    # --- exchanges ---

    def declare_exchange(
        self,
        name: str,
        kind: str,
        *,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
    ) -> None:
        """Raises AmqpError 403, 404, 406, or 503 for a type that does not exist."""
        name = _strip(name)
        if passive:
            self._refuse_default(name)
            self.exchange(name)
            return
        if kind not in tuple(ExchangeType):
            raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{kind}'")
        self._refuse_default(name)
        found = self.exchanges.get(name)
        if found is None:
            _refuse_reserved("exchange", name)
            alternate = arguments.get(b"alternate-exchange")
            if alternate is not None and alternate[0] != "S":
                raise precondition_failed(
                    f"invalid type '{TYPE_NAMES[alternate[0]]}' for arg 'alternate-exchange' "
                    f"in {resource('exchange', name, self.name)}"
                )
            self._create_exchange(
                Exchange(
                    name,
                    ExchangeType(kind),
                    durable=durable,
                    auto_delete=auto_delete,
                    internal=internal,
                    arguments=arguments,
                )
            )
            return
        shown = resource("exchange", name, self.name)
        check_same("type", shown, found.type.value, kind)
        check_same("durable", shown, found.durable, durable)
        check_same("auto_delete", shown, found.auto_delete, auto_delete)
        check_same("internal", shown, found.internal, internal)
        check_equivalent(found.arguments, arguments, (b"alternate-exchange",), shown)

    def _create_exchange(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self._changed()

    def delete_exchange(self, name: str, *, if_unused: bool) -> None:
        """Deleting what is not there is no error. Raises AmqpError 403, 406."""
        name = _strip(name)
        self._refuse_default(name)
        shown = resource("exchange", name, self.name)
        if name.startswith("amq."):
            raise access_refused(f"deletion of system {shown} not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f"{shown} in use")
        self._remove_exchange(exchange)

    def _remove_exchange(self, exchange: Exchange) -> None:
        if self.exchanges.pop(exchange.name, None) is None:
            return
        self._changed()
        for identity, binding in list(exchange.bindings.items()):
            exchange.unbind(identity)
            self._forget_inbound(binding.destination, exchange, identity)
        self._unbind_destination(exchange)

    # --- bindings ---

    def bind(
        self, source: str, destination: str, kind: str, key: str, arguments: Table, owner: object
    ) -> None:
        """Bind a queue or an exchange (`kind`). Raises AmqpError 403, 404, 405, 406."""
        source, destination = _strip(source), _strip(destination)
        self._refuse_default(source)
        if kind == "exchange":
            self._refuse_default(destination)
        exchange = self.exchange(source)
        target = self._destination(kind, destination)
        if target is None:
            raise not_found(kind, destination, self.name)
        if exchange.type is ExchangeType.HEADERS:
            check_headers_binding(arguments)
        if isinstance(target, Queue):
            self.check_access(target, owner)
        binding = Binding(exchange, target, key, arguments)
        if exchange.bind(binding):
            identity = binding.identity
            self._inbound.setdefault(target, {})[exchange.name, *identity] = exchange
            self._changed()

    def unbind(
        self, source: str, destination: str, kind: str, key: str, arguments: Table, owner: object
    ) -> None:
        """Removing what is not there is no error. Raises AmqpError 403, 405."""
        source, destination = _strip(source), _strip(destination)
        self._refuse_default(source)
        if kind == "exchange":
            self._refuse_default(destination)
        exchange = self.exchanges.get(source)
        target = self._destination(kind, destination)
        if exchange is None or target is None:
            return
        identity = binding_identity(target, key, arguments)
        if identity not in exchange.bindings:
            return
        if isinstance(target, Queue):
            self.check_access(target, owner)
        exchange.unbind(identity)
        self._forget_inbound(target, exchange, identity)
        self._changed()
        self._auto_delete(exchange)

    def _destination(self, kind: str, name: str) -> Exchange | Queue | None:
        return self.queues.get(name) if kind == "queue" else self.exchanges.get(name)

    def _forget_inbound(
        self, target: Exchange | Queue, exchange: Exchange, identity: tuple[object, ...]
    ) -> None:
        known = self._inbound.get(target)
        if known is not None:
            known.pop((exchange.name, *identity), None)
            if not known:
                del self._inbound[target]

    def _unbind_destination(self, target: Exchange | Queue) -> None:
        sources = self._inbound.pop(target, {})
        for (_, *identity), exchange in sources.items():
            exchange.unbind(tuple(identity))
        for exchange in {exchange.name: exchange for exchange in sources.values()}.values():
            self._auto_delete(exchange)

    def _auto_delete(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self._remove_exchange(exchange)

    # --- queues ---

    def queue(self, name: str) -> Queue:
        """Raises AmqpError 404."""
        queue = self.queues.get(name)
        if queue is None:
            raise not_found("queue", name, self.name)
        return queue

    def queue_for(self, name: str, owner: object) -> Queue:
        """A queue that this connection may use. Raises AmqpError 404, 405."""
        queue = self.queue(name)
        self.check_access(queue, owner)
        return queue

    def check_access(self, queue: Queue, owner: object, *, strict: bool = False) -> None:
        """Raises AmqpError 405 where the queue is another connection's; `strict` as declare asks it."""
        if queue.owner is owner or (queue.owner is None and not strict):
            return
        raise AmqpError(
            ReplyCode.RESOURCE_LOCKED,
            f"cannot obtain exclusive access to locked {resource('queue', queue.name, self.name)}. "
            "It could be originally declared on another connection or the exclusive property value "
            "does not match that of the original declaration.",
        )

    def declare_queue(
        self,
        name: str,
        owner: object,
        *,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        arguments: Table,
    ) -> Queue:
        """A queue that is there and is the same, or a new one; an empty name asks for a made-up one.

        Raises AmqpError 403, 405, 406.
        """
        name = _strip(name)
        if name:
            _refuse_reserved("queue", name)
        else:
            name = made_up_name("amq.gen")
        durable = durable and not exclusive
        shown = resource("queue", name, self.name)
        queue = self.queues.get(name)
        if queue is None:
            options = read_queue_arguments(arguments, shown)
            return self._create_queue(
                name,
                options,
                durable=durable,
                auto_delete=auto_delete,
                owner=owner if exclusive else None,
                arguments=arguments,
            )
        self.check_access(queue, owner if exclusive else None, strict=True)
        check_same("durable", shown, queue.durable, durable)
        check_same("auto_delete", shown, queue.auto_delete, auto_delete)
        check_equivalent(queue.arguments, arguments, QUEUE_ARGUMENTS, shown, absent_type=True)
        queue.touch()
        return queue

    def _create_queue(
        self,
        name: str,
        options: QueueOptions,
        *,
        durable: bool,
        auto_delete: bool,
        owner: object | None,
        arguments: Table,
    ) -> Queue:
        queue = Queue(
            name,
            self,
            options,
            durable=durable,
            auto_delete=auto_delete,
            owner=owner,
            arguments=arguments,
        )
        self.queues[name] = queue
        self._changed()
        return queue

    def delete_queue_named(self, name: str, owner: object, *, if_unused: bool, if_empty: bool) -> int:
        """How many messages were ready; 0 for a queue that is not there. Raises AmqpError 405, 406."""
        queue = self.queues.get(_strip(name))
        if queue is None:
            return 0
        self.check_access(queue, owner)
        shown = resource("queue", queue.name, self.name)
        if if_empty and queue.ready.count:
            raise precondition_failed(f"{shown} not empty")
        if if_unused and queue.consumers:
            raise precondition_failed(f"{shown} in use")
        return self.delete_queue(queue)

    def delete_queue(self, queue: Queue) -> int:
        if self.queues.get(queue.name) is not queue:
            return 0
        del self.queues[queue.name]
        self._changed()
        self._unbind_destination(queue)
        return queue.close()

    def delete_exclusive(self, owner: object) -> None:
        """A connection has ended: its exclusive queues go with it."""
        for queue in [queue for queue in self.queues.values() if queue.owner is owner]:
            self.delete_queue(queue)

    # --- what queues ask for ---

    def pump_later(self, queue: Queue) -> None:
        self._pump_later(queue)

    def remind(self, queue: Queue, when: float) -> None:
        heapq.heappush(self._reminders, (when, next(self._numbers), queue))

    def next_reminder(self) -> float | None:
        """When `tick` is due (monotonic); None while nothing waits for time."""
        return self._reminders[0][0] if self._reminders else None

    def tick(self, most: int = 100) -> None:
        """Do what is due now, a bounded number of queues at a time."""
        now = self.clock.monotonic()
        while self._reminders and self._reminders[0][0] <= now and most > 0:
            _, _, queue = heapq.heappop(self._reminders)
            if not queue.deleted:
                queue.tick(now)
            most -= 1

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        """Send a message that `queue` gives up to its dead-letter exchange, if that exists.

        What this leads to may dead-letter in turn: all is done one after the other, not nested.
        """
        if queue.options.dead_letter_exchange not in self.exchanges:
            return
        self._dead.append((queue, message, reason))
        if self._burying:
            return
        self._burying = True
        try:
            while self._dead:
                self._bury(*self._dead.popleft())
        finally:
            self._burying = False

    def _bury(self, queue: Queue, message: Message, reason: str) -> None:
        exchange = self.exchanges.get(queue.options.dead_letter_exchange or "")
        if exchange is None:
            return
        keys, raw, headers = bury(
            message, reason, queue.name, self.clock.time(), queue.options.dead_letter_key
        )
        priority = read_properties(raw).priority
        route = route_of(exchange.name, keys[0])
        for target in self.route(exchange, keys, headers):
            if goes_in_circles(target.name, reason, headers):
                self._report_circle(queue.name, target.name)
            else:
                target.publish(route, raw, message[2], None, priority)

    def _report_circle(self, source: str, target: str) -> None:
        if (source, target) not in self._circles and len(self._circles) < _ROUTES_KEPT:
            self._circles.add((source, target))
            self._log(
                "warning",
                f"Messages that queue {source!r} dead-letters come back to queue {target!r} in a circle: "
                "they are dropped. This circle will not be reported again.",
            )

    def _refuse_default(self, name: str) -> None:
        if name == "":
            raise access_refused(_DEFAULT_EXCHANGE)


def made_up_name(prefix: str) -> str:
    """A name that nobody else has, as `amq.gen-…` and `amq.ctag-…`."""
    return f"{prefix}-{urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip('=')}"


def _refuse_reserved(kind: str, name: str) -> None:
    if name.startswith("amq."):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def _strip(name: str) -> str:
    return name.replace("\r", "").replace("\n", "")
