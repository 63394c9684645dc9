"""One channel: its method handlers, with RabbitMQ's replies and errors. No sockets.

Methods arrive decoded: the handler of `Queue.Declare` is `queue_declare`, with the method's arguments
as parameters. Publishing is in `publish_handler`, delivering in `deliveries`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from pamqp import commands

from msctl.broker.core.access import Access, Operation
from msctl.broker.core.arguments import QUORUM, read_consumer_priority
from msctl.broker.core.broker import Broker
from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.core.limits import too_many_consumers
from msctl.broker.core.queues import Queue
from msctl.broker.core.quorum import refuse_shared_limit
from msctl.broker.core.vhost import REPLY_QUEUE, VirtualHost, generate_name
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    channel_error,
    not_allowed,
    not_found,
    not_implemented,
    precondition_failed,
    resource,
)
from msctl.broker.protocol.tables import Table
from msctl.broker.protocol.wire import (
    MethodType,
    content_frames,
    decode_arguments,
    encode_method,
    split_route,
)
from msctl.broker.session.buffers import Outbox
from msctl.broker.session.deliveries import Deliveries, ReplyConsumer, Unacked
from msctl.broker.session.publish_handler import REPLY_PREFIX, PublishHandler

Records = list[tuple[int, Unacked]]


class Owner(Protocol):
    """The connection of a channel, which owns its exclusive queues."""

    broker: Broker
    access: Access
    outbox: Outbox
    awaits_answers: bool

    @property
    def user(self) -> str: ...

    @property
    def notify_cancel(self) -> bool: ...


class Channel:
    """An open channel. Once `closing` is set, only close and close-ok are handled."""

    def __init__(self, number: int, connection: Owner, vhost: VirtualHost) -> None:
        self.number = number
        self.closing = False
        outbox = connection.outbox
        self._access = connection.access
        self.publisher = PublishHandler(
            number, connection.broker, vhost, connection.user, self._access, outbox
        )
        self.deliveries = Deliveries(number, outbox, notify_cancel=connection.notify_cancel)
        self.connection = connection
        self._outbox = outbox
        self._vhost = vhost
        self._last_queue = ""
        self._reply_consumer: ReplyConsumer | None = None
        self._resolutions: list[tuple[str, Records]] = []

    def handle(self, method: MethodType, payload: bytes) -> None:
        """Handle one method. Raises AmqpError."""
        handler = _HANDLERS.get(method)
        if handler is None:
            raise AmqpError(ReplyCode.COMMAND_INVALID, "unimplemented method")
        handler(self, *decode_arguments(method, payload))

    def close(self) -> None:
        """Requeue unacknowledged messages, remove consumers and the direct reply-to address."""
        self.publisher.close()
        self._forget_reply_consumer()
        for _, records in self._resolutions:
            self.deliveries.put_back(records)
        self._resolutions = []
        self.deliveries.close()

    def _reply(self, nowait: bool, method: MethodType, *arguments: Any) -> None:
        if not nowait:
            self._outbox.send(encode_method(self.number, method, *arguments))

    def _queue_name(self, name: str) -> str:
        """Resolve an empty name to the queue declared last. Raises AmqpError 404."""
        if name:
            return name
        if not self._last_queue:
            raise AmqpError(ReplyCode.NOT_FOUND, "no previously declared queue")
        return self._last_queue

    def _readable_queue(self, name: str) -> Queue:
        """A queue that the connection may take messages from. Raises AmqpError 403, 404, 405."""
        self._access.check(Operation.READ, "queue", name)
        return self._vhost.queue_for(name, self.connection)

    def channel_open(self, _out_of_band: str) -> None:
        raise channel_error("second 'channel.open' seen")

    def channel_flow(self, active: bool) -> None:
        if not active:
            raise not_implemented("active=false")
        self._reply(False, commands.Channel.FlowOk, True)

    # --- exchanges ---

    def exchange_declare(
        self,
        _ticket: int,
        exchange: str,
        kind: str,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        nowait: bool,
        arguments: Table,
    ) -> None:
        self._vhost.routing.declare(
            exchange,
            kind,
            passive=passive,
            durable=durable,
            auto_delete=auto_delete,
            internal=internal,
            arguments=arguments,
            access=self._access,
        )
        self._reply(nowait, commands.Exchange.DeclareOk)

    def exchange_delete(self, _ticket: int, exchange: str, if_unused: bool, nowait: bool) -> None:
        self._vhost.routing.delete(exchange, if_unused=if_unused, access=self._access)
        self._reply(nowait, commands.Exchange.DeleteOk)

    def exchange_bind(
        self, _ticket: int, destination: str, source: str, key: str, nowait: bool, arguments: Table
    ) -> None:
        self._vhost.routing.bind(
            source, destination, "exchange", key, arguments, self.connection, self._access
        )
        self._reply(nowait, commands.Exchange.BindOk)

    def exchange_unbind(
        self, _ticket: int, destination: str, source: str, key: str, nowait: bool, arguments: Table
    ) -> None:
        self._vhost.routing.unbind(
            source, destination, "exchange", key, arguments, self.connection, self._access
        )
        self._reply(nowait, commands.Exchange.UnbindOk)

    # --- queues ---

    def queue_declare(
        self,
        _ticket: int,
        name: str,
        passive: bool,
        durable: bool,
        exclusive: bool,
        auto_delete: bool,
        nowait: bool,
        arguments: Table,
    ) -> None:
        if name.startswith(REPLY_QUEUE):
            known = name == REPLY_QUEUE or name[len(REPLY_PREFIX) :] in self.connection.broker.reply_consumers
            if not known:
                raise not_found("queue", name, self._vhost.name)
            self._last_queue = name
            self._reply(nowait, commands.Queue.DeclareOk, name, 0, 1)
            return
        if passive:
            queue = self._vhost.queue_for(name, self.connection)
            queue.touch()
        else:
            queue = self._vhost.declare_queue(
                name,
                self.connection,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
                access=self._access,
            )
        self._last_queue = queue.name
        self._reply(nowait, commands.Queue.DeclareOk, queue.name, queue.ready.count, len(queue.consumers))

    def queue_bind(
        self, _ticket: int, queue: str, exchange: str, key: str, nowait: bool, arguments: Table
    ) -> None:
        name = self._queue_name(queue)
        key = name if not queue and not key else key
        self._vhost.routing.bind(exchange, name, "queue", key, arguments, self.connection, self._access)
        self._reply(nowait, commands.Queue.BindOk)

    def queue_unbind(self, _ticket: int, queue: str, exchange: str, key: str, arguments: Table) -> None:
        name = self._queue_name(queue)
        key = name if not queue and not key else key
        self._vhost.routing.unbind(exchange, name, "queue", key, arguments, self.connection, self._access)
        self._reply(False, commands.Queue.UnbindOk)

    def queue_purge(self, _ticket: int, queue: str, nowait: bool) -> None:
        found = self._readable_queue(self._queue_name(queue))
        self._reply(nowait, commands.Queue.PurgeOk, found.purge())

    def queue_delete(self, _ticket: int, queue: str, if_unused: bool, if_empty: bool, nowait: bool) -> None:
        count = self._vhost.delete_queue_named(
            self._queue_name(queue),
            self.connection,
            if_unused=if_unused,
            if_empty=if_empty,
            access=self._access,
        )
        self._reply(nowait, commands.Queue.DeleteOk, count)

    # --- consuming ---

    def basic_qos(self, size: int, count: int, all_consumers: bool) -> None:
        if size:
            raise not_implemented(f"prefetch_size!=0 ({size})")
        if all_consumers:
            self.deliveries.set_limit(count)
        else:
            self.deliveries.prefetch = count
            self.deliveries.set_limit(0)
        self._reply(False, commands.Basic.QosOk)

    def basic_consume(
        self,
        _ticket: int,
        queue: str,
        tag: str,
        _no_local: bool,
        no_ack: bool,
        exclusive: bool,
        nowait: bool,
        arguments: Table,
    ) -> None:
        queue = self._queue_name(queue)
        limit = self.connection.broker.limits.consumers_per_channel
        if len(self.deliveries.consumers) >= limit:
            raise too_many_consumers(limit)
        if tag in self.deliveries.consumers or (self._reply_consumer and tag == self._reply_consumer.tag):
            raise not_allowed(f"attempt to reuse consumer tag '{tag}'")
        tag = tag or generate_name("amq.ctag")
        self.connection.awaits_answers = True
        if queue == REPLY_QUEUE:
            self._consume_replies(tag, no_ack=no_ack)
            self._reply(nowait, commands.Basic.ConsumeOk, tag)
            return
        found = self._readable_queue(queue)
        shown = resource("queue", queue, self._vhost.name)
        priority = read_consumer_priority(arguments, shown, found.options.kind)
        if found.options.kind == QUORUM and self.deliveries.shares_limit:
            raise refuse_shared_limit(shown)
        if found.refuses_consumer(exclusive=exclusive):
            raise access_refused(f"{shown} in exclusive use")
        self._reply(nowait, commands.Basic.ConsumeOk, tag)
        faults = self.connection.broker.faults
        self.deliveries.add(
            QueueConsumer(
                tag,
                found,
                self.deliveries if faults is None else faults.sink(self.deliveries, self._outbox),
                no_ack=no_ack,
                exclusive=exclusive,
                priority=priority,
                prefetch=self.deliveries.prefetch,
                arguments=arguments,
                channel=self,
            )
        )

    def _consume_replies(self, tag: str, *, no_ack: bool) -> None:
        if not no_ack:
            raise precondition_failed("reply consumer cannot acknowledge")
        if self._reply_consumer is not None:
            raise precondition_failed("reply consumer already set")
        secret = generate_name("g1h2")
        self._reply_consumer = ReplyConsumer(tag, secret, self.deliveries)
        self.connection.broker.reply_consumers[secret] = self._reply_consumer
        self.publisher.set_reply_address(REPLY_PREFIX + secret)

    def _forget_reply_consumer(self) -> None:
        if self._reply_consumer is not None:
            self.connection.broker.reply_consumers.pop(self._reply_consumer.secret, None)
            self._reply_consumer = None
            self.publisher.set_reply_address(None)

    def basic_cancel(self, tag: str, nowait: bool) -> None:
        if self._reply_consumer is not None and self._reply_consumer.tag == tag:
            self._forget_reply_consumer()
        self._reply(nowait, commands.Basic.CancelOk, tag)
        self.deliveries.remove(tag)

    def basic_get(self, _ticket: int, queue: str, no_ack: bool) -> None:
        found = self._readable_queue(self._queue_name(queue))
        got = found.get(no_ack=no_ack)
        if got is None:
            self._reply(False, commands.Basic.GetEmpty, "")
            return
        number, message, redelivered = got
        tag = self.deliveries.got(found, number, message, no_ack=no_ack)
        exchange, key = split_route(message[0])
        method = encode_method(
            self.number, commands.Basic.GetOk, tag, redelivered, exchange, key, found.ready.count
        )
        shown = found.as_delivered(number, message)
        content = content_frames(self.number, shown[1], shown[2], self._outbox.frame_max)
        self._outbox.send(method + content)

    # --- acknowledgements ---

    def basic_ack(self, tag: int, multiple: bool) -> None:
        self._resolve("ack", self.deliveries.take(tag, multiple=multiple))

    def basic_nack(self, tag: int, multiple: bool, requeue: bool) -> None:
        self._resolve("requeue" if requeue else "reject", self.deliveries.take(tag, multiple=multiple))

    def basic_reject(self, tag: int, requeue: bool) -> None:
        self._resolve("requeue" if requeue else "reject", self.deliveries.take(tag, multiple=False))

    def _resolve(self, how: str, records: Records) -> None:
        if self.publisher.transaction is not None:
            self._resolutions.append((how, records))
        else:
            self._apply(how, records)

    def _apply(self, how: str, records: Records) -> None:
        if how == "ack":
            self.deliveries.acknowledge(records)
        else:
            self.deliveries.reject(records, requeue=how == "requeue")

    def basic_recover(self, requeue: bool) -> None:
        self.basic_recover_async(requeue)
        self._reply(False, commands.Basic.RecoverOk)

    def basic_recover_async(self, requeue: bool) -> None:
        if not requeue:
            raise not_implemented("requeue=false")
        self.deliveries.recover()

    # --- confirms and transactions ---

    def confirm_select(self, nowait: bool) -> None:
        if self.publisher.transaction is not None:
            raise precondition_failed("cannot switch from tx to confirm mode")
        self.connection.awaits_answers = True
        self.publisher.confirming = True
        self._reply(nowait, commands.Confirm.SelectOk)

    def tx_select(self) -> None:
        if self.publisher.confirming:
            raise precondition_failed("cannot switch from confirm to tx mode")
        self.connection.awaits_answers = True
        if self.publisher.transaction is None:
            self.publisher.transaction = []
        self._reply(False, commands.Tx.SelectOk)

    def tx_commit(self) -> None:
        self._check_transactional()
        published = self.publisher.take_transaction()
        settled, self._resolutions = self._resolutions, []
        accepted = [self.publisher.deliver(plan, body) for plan, body in published]
        for how, records in settled:
            self._apply(how, records)
            self.publisher.confirms.acknowledged()
        if not all(accepted):
            raise precondition_failed("partial tx completion")
        self.publisher.confirms.send_when_stored(encode_method(self.number, commands.Tx.CommitOk))

    def tx_rollback(self) -> None:
        self._check_transactional()
        self.publisher.take_transaction()
        for _, records in self._resolutions:
            self.deliveries.put_back(records)
        self._resolutions = []
        self._reply(False, commands.Tx.RollbackOk)

    def _check_transactional(self) -> None:
        if self.publisher.transaction is None:
            raise precondition_failed("channel is not transactional")


def _handler_name(method: MethodType) -> str:
    group, verb = method.name.split(".")
    return f"{group}_{''.join('_' + c if c.isupper() and i else c for i, c in enumerate(verb))}".lower()


_HANDLERS: dict[MethodType, Callable[..., None]] = {
    method: handler
    for method in commands.INDEX_MAPPING.values()
    if (handler := getattr(Channel, _handler_name(method), None)) is not None
}
