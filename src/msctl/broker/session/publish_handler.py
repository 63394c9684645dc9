"""The publishing side of one channel: collects content, has it planned, gives it to the queues. No sockets.

Checks and routing are in `publish_planner`, answers in `confirms`. Content arrives through `begin`, `header`
and `body`, or at once through `repeat` and `vary`; the theory of the latter is in `publish_plan`. A message
in progress counts against the broker's memory as soon as its header announces its size, and until it is
complete or its channel closes.
"""

from __future__ import annotations

from pamqp import commands

from msctl.broker.core.access import Access
from msctl.broker.core.broker import Broker, FaultPoint
from msctl.broker.core.journal import Entries
from msctl.broker.core.messages import MESSAGE_COST
from msctl.broker.core.vhost import REPLY_QUEUE, VirtualHost
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    not_implemented,
    precondition_failed,
    unexpected_frame,
)
from msctl.broker.protocol.tables import MalformedError
from msctl.broker.protocol.wire import (
    BASIC_CLASS,
    BASIC_PUBLISH,
    CONTENT,
    Content,
    content_frames,
    decode_arguments,
    encode_method,
    publish_prefix,
    route_of,
)
from msctl.broker.session.buffers import Outbox
from msctl.broker.session.confirms import Confirms
from msctl.broker.session.publish_plan import PublishMethod, PublishPlan, RepeatedPublish
from msctl.broker.session.publish_planner import PublishPlanner

REPLY_PREFIX = REPLY_QUEUE + "."
_METHODS_KEPT = 512


class PublishHandler:
    """Assembles the messages of a channel and delivers them. `transaction` is None outside of tx mode."""

    def __init__(
        self, number: int, broker: Broker, vhost: VirtualHost, user: str, access: Access, outbox: Outbox
    ) -> None:
        self.confirms = Confirms(number, broker, outbox)
        self.confirming = False
        self.transaction: list[tuple[PublishPlan, bytes]] | None = None
        self._number = number
        self._broker = broker
        self._memory = broker.memory
        self._routing = vhost.routing
        self._planner = PublishPlanner(broker, vhost, user, access)
        self._outbox = outbox
        self._methods: dict[bytes, PublishMethod] = {}
        self._method: PublishMethod | None = None
        self._method_payload = b""
        self._header: bytes | None = None
        self._header_payload = b""
        self._awaited = 0
        self._size = 0
        self._reserved = 0
        self._buffered = 0
        self._body: list[bytes] = []
        self._last: PublishPlan | None = None

    # --- content ---

    def interrupted(self) -> AmqpError:
        """The error for a frame that interrupts a message."""
        if self._header is None:
            return unexpected_frame(
                f"expected content header for class {BASIC_CLASS}, got non content header frame instead",
                BASIC_PUBLISH,
            )
        return unexpected_frame("expected content body, got non content body frame instead", BASIC_PUBLISH)

    @property
    def idle(self) -> bool:
        """Whether no message is in progress."""
        return self._method is None

    def begin(self, payload: bytes) -> None:
        """Start the message of a basic.publish."""
        method = self._methods.get(payload)
        if method is None:
            arguments = decode_arguments(commands.Basic.Publish, payload)
            _ticket, exchange, key, mandatory, immediate = arguments
            method = PublishMethod(exchange, key, mandatory, immediate, payload[6:-1])
            if len(self._methods) >= _METHODS_KEPT:
                self._methods.clear()
            self._methods[payload] = method
        self._method = method
        self._method_payload = payload

    def header(self, payload: bytes) -> None:
        """Add the content header. Raises AmqpError 505 if none is expected."""
        if self._method is None:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if self._header is not None:
            raise self.interrupted()
        if len(payload) < CONTENT.size:
            raise MalformedError("a content header is too short")
        class_id, weight, size = CONTENT.unpack_from(payload)
        if class_id != BASIC_CLASS or weight:
            raise unexpected_frame(
                f"expected content header for class {BASIC_CLASS}, got one for class {class_id} instead",
                BASIC_PUBLISH,
            )
        self._header_payload = payload
        self._header = payload[CONTENT.size :]
        self._awaited = self._size = size
        if not size:
            self._complete(b"")
            return
        # A body that is too large is not kept, and refused when it is complete.
        self._reserved = len(payload) + (size if size <= self._broker.max_message_size else 0)
        self._memory.used += self._reserved

    def body(self, payload: bytes) -> None:
        """Add a part of the body. Raises AmqpError 505 if none is expected or the body gets too long."""
        if self._method is None:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if self._header is None:
            raise self.interrupted()
        self._awaited -= len(payload)
        if self._awaited < 0:
            raise unexpected_frame("the content body is longer than its header says", BASIC_PUBLISH)
        if self._size <= self._broker.max_message_size:
            self._body.append(payload)
        if not self._awaited:
            self._complete(self._body[0] if len(self._body) == 1 else b"".join(self._body))

    def _forget_content(self) -> None:
        self._method = self._header = None
        self._body = []
        self._memory.used -= self._reserved
        self._reserved = 0

    def _complete(self, body: bytes) -> None:
        method, raw, size = self._method, self._header, self._size
        self._forget_content()
        if method is None or raw is None:
            return
        if method.immediate:
            raise not_implemented("immediate=true")
        self._check_size(size)
        plan = self._last
        if (
            plan is None
            or plan.generation != self._routing.generation
            or plan.method is not method
            or plan.properties.raw != raw
        ):
            plan = self._last = self._planner.plan(method, raw)
        self._dispatch(plan, body)

    # --- whole and repeated publishes ---

    def publish(self, exchange: str, key: str, properties: bytes, body: bytes) -> bool:
        """Publish a message that arrives whole, not in frames; return whether a queue gets it.

        Raises AmqpError.
        """
        self._check_size(len(body))
        method = PublishMethod(exchange, key, False, False, route_of(exchange, key))
        plan = self._planner.plan(method, properties)
        self.deliver(plan, body)
        return plan.routed

    def set_reply_address(self, address: str | None) -> None:
        """Set the address that replaces the direct reply-to queue's name; None for no reply consumer."""
        self._planner.reply_address = address
        self._last = None

    def repeatable(self, last: int) -> RepeatedPublish | None:
        """The message published last as one to be repeated, or None if it cannot be.

        `last` is the size of its last body frame.
        """
        plan = self._last
        if plan is None or self.transaction is not None or last != self._size:
            return None
        if plan.method.key.startswith(REPLY_PREFIX) or plan.raw is not plan.properties.raw:
            return None
        prefix = publish_prefix(self._number, self._method_payload, self._header_payload, last)
        return RepeatedPublish(prefix, len(prefix) + last + 1, plan)

    def repeat(self, repeated: RepeatedPublish, body: bytes) -> None:
        """Publish again with another body."""
        plan = repeated.plan
        if plan.generation != self._routing.generation:
            plan = self._planner.plan(plan.method, plan.properties.raw)
            repeated.plan = self._last = plan
        self._dispatch(plan, body)

    def vary(self, repeated: RepeatedPublish, content: Content, prefix: bytes) -> None:
        """Publish again with other properties or a body of another size.

        `prefix` are the bytes of this publish up to its body; they replace the repeated ones, because the
        latest publish is the most likely one to be repeated.
        """
        self._check_size(len(content.body))
        last = repeated.plan
        method = last.method
        if content.properties == last.properties.raw and last.generation == self._routing.generation:
            plan = last
            repeated.prefix = prefix
            repeated.length = len(prefix) + len(content.body) + 1
        else:
            plan = self._last = self._planner.plan(method, content.properties)
            if plan.raw is plan.properties.raw:
                repeated.plan = plan
                repeated.prefix = prefix
                repeated.length = len(prefix) + len(content.body) + 1
        self._dispatch(plan, content.body)

    def _check_size(self, size: int) -> None:
        limit = self._broker.max_message_size
        if size > limit:
            raise precondition_failed(f"message size {size} is larger than configured max size {limit}")

    def _dispatch(self, plan: PublishPlan, body: bytes) -> None:
        if self.transaction is not None:
            self.transaction.append((plan, body))
            cost = MESSAGE_COST + len(plan.raw) + len(body)
            self._buffered += cost
            self._memory.used += cost
        elif self._broker.faults is not None:
            self._dispatch_faulty(self._broker.faults, plan, body)
        elif self.confirming:
            self.confirms.published += 1
            if not self.deliver(plan, body):
                self.confirms.nack()
        else:
            self.deliver(plan, body)

    def _dispatch_faulty(self, faults: FaultPoint, plan: PublishPlan, body: bytes) -> None:
        method, properties = plan.method, plan.properties
        confirms, confirming = self.confirms, self.confirming
        queues = [target.name for target in plan.targets]
        effect = faults.publish(
            self._outbox, method.exchange, queues, properties.headers, confirming=confirming
        )
        tag = confirms.published = confirms.published + confirming
        if effect is None:
            accepted = self.deliver(plan, body)
        elif effect.nack:
            accepted = False
        else:
            accepted = True
            for _ in range(0 if effect.lost else effect.copies):
                accepted = self.deliver(plan, body) and accepted
        if not confirming:
            return
        if not accepted:
            confirms.nack()
        elif effect is not None and (effect.lost or effect.confirm_lost or effect.confirm_delay):
            confirms.withhold(tag)
            if not effect.lost and not effect.confirm_lost:
                faults.later(effect.confirm_delay, lambda: confirms.send_late(tag))

    def deliver(self, plan: PublishPlan, body: bytes) -> bool:
        """Publish a message to its queues, or return it; False if a queue rejected it."""
        method, properties, raw, targets, _, routed, stored = plan
        self._memory.published += 1
        if stored:
            return self._deliver_stored(plan, body)
        accepted = True
        ttl, priority = properties.ttl_ms, properties.priority
        for queue in targets:
            if not queue.publish(method.route, raw, body, ttl, priority) and not queue.deleted:
                accepted = False
        if not routed:
            self._unroutable(method, raw, body)
        return accepted

    def _deliver_stored(self, plan: PublishPlan, body: bytes) -> bool:
        """`deliver` for a message that goes to the log, once for all queues."""
        method, properties, raw, targets, _, _, _ = plan
        ttl, priority, persistent = properties.ttl_ms, properties.priority, properties.persistent
        accepted = True
        entries: Entries = []
        for queue in targets:
            kept = entries if persistent or queue.stores_transient else None
            if not queue.publish(method.route, raw, body, ttl, priority, kept) and not queue.deleted:
                accepted = False
        journal = self._memory.journal
        if journal is not None:
            if entries:
                journal.store(method.route, raw, body, entries)
            self.confirms.stored_at = journal.recorded()
        return accepted

    def take_transaction(self) -> list[tuple[PublishPlan, bytes]]:
        """Return and clear the publishes of the transaction."""
        published, self.transaction = self.transaction or [], []
        self._memory.used -= self._buffered
        self._buffered = 0
        return published

    def close(self) -> None:
        """Drop the message in progress and the uncommitted transaction."""
        self._forget_content()
        self.take_transaction()
        self.confirms.close()

    def _unroutable(self, method: PublishMethod, raw: bytes, body: bytes) -> None:
        if not method.exchange and method.key.startswith(REPLY_PREFIX):
            consumer = self._broker.reply_consumers.get(method.key[len(REPLY_PREFIX) :])
            if consumer is not None:
                consumer.deliver((method.route, raw, body, None, 0))
        if method.mandatory:
            returned = encode_method(
                self._number,
                commands.Basic.Return,
                ReplyCode.NO_ROUTE,
                ReplyCode.NO_ROUTE.name,
                method.exchange,
                method.key,
            )
            self._outbox.send(returned + content_frames(self._number, raw, body, self._outbox.frame_max))
