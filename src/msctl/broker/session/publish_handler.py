"""The publishing side of one channel: content in, routing, returns, confirms. No sockets.

Clients mostly publish the same frames again with another body. The first such message leaves a
`RepeatedPublish`: the bytes that come before the body, and where they lead. While those bytes repeat,
nothing of them is read again.
"""

from __future__ import annotations

from typing import NamedTuple

from pamqp import commands

from msctl.broker.core.broker import Broker
from msctl.broker.core.dead_letter import cc_keys
from msctl.broker.core.messages import MESSAGE_COST
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import REPLY_QUEUE, VirtualHost
from msctl.broker.protocol.properties import (
    HEADERS,
    REPLY_TO,
    Properties,
    join,
    read_properties,
    split,
    with_headers,
)
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    not_implemented,
    precondition_failed,
    resource,
    unexpected_frame,
)
from msctl.broker.protocol.tables import TYPE_NAMES, MalformedError
from msctl.broker.protocol.wire import (
    ACK_FRAME,
    BASIC_ACK,
    BASIC_CLASS,
    BASIC_NACK,
    BASIC_PUBLISH,
    CONTENT,
    FRAME,
    FRAME_END,
    FRAME_OVERHEAD,
    METHOD,
    Content,
    content_frames,
    decode_arguments,
    encode_method,
    shortstr,
)
from msctl.broker.session.buffers import Outbox

REPLY_PREFIX = REPLY_QUEUE + "."
_ACK_SIZE = 13
_CALLS_KEPT = 512


class PublishMethod(NamedTuple):
    """The arguments of a basic.publish; `route` is exchange and routing key as on the wire."""

    exchange: str
    key: str
    mandatory: bool
    immediate: bool
    route: bytes


class PublishPlan(NamedTuple):
    """A message whose way is known, but for its body."""

    call: PublishMethod
    properties: Properties
    raw: bytes
    targets: tuple[Queue, ...]
    generation: int


class RepeatedPublish:
    """A publish that may come again: `prefix` are its bytes up to the body, `length` all its bytes.

    `method` is its first frame alone, which comes again oftener than the properties do.
    """

    __slots__ = ("channel", "length", "method", "prefix", "prepared", "publisher")

    def __init__(self, prefix: bytes, length: int, publisher: PublishHandler, prepared: PublishPlan) -> None:
        self.prefix = prefix
        self.method = prefix[: FRAME_OVERHEAD + FRAME.unpack_from(prefix)[2]]
        self.channel: int = FRAME.unpack_from(prefix)[1]
        self.length = length
        self.publisher = publisher
        self.prepared = prepared


class PublishHandler:
    """Puts content together and sends it on its way."""

    def __init__(self, number: int, broker: Broker, vhost: VirtualHost, user: str, outbox: Outbox) -> None:
        self.confirming = False
        self.reply_address: str | None = None
        self.transaction: list[tuple[PublishPlan, bytes]] | None = None
        self._number = number
        self._broker = broker
        self._vhost = vhost.name
        self._routing = vhost.routing
        self._user = user.encode()
        self._outbox = outbox
        self._calls: dict[bytes, PublishMethod] = {}
        self._call: PublishMethod | None = None
        self._header: bytes | None = None
        self._awaited = 0
        self._size = 0
        self._assembled = 0
        self._buffered = 0
        self._body: list[bytes] = []
        self._last: PublishPlan | None = None
        self._published = 0
        self._confirmed = 0

    # --- content ---

    def interrupted(self) -> AmqpError:
        """What a frame is that comes where the rest of a message is due."""
        if self._header is None:
            return unexpected_frame(
                f"expected content header for class {BASIC_CLASS}, got non content header frame instead",
                BASIC_PUBLISH,
            )
        return unexpected_frame("expected content body, got non content body frame instead", BASIC_PUBLISH)

    @property
    def idle(self) -> bool:
        """Whether a method may come now, rather than the rest of a message."""
        return self._call is None

    def begin(self, payload: bytes) -> None:
        """A basic.publish: its content follows."""
        call = self._calls.get(payload)
        if call is None:
            arguments = decode_arguments(commands.Basic.Publish, payload)
            _ticket, exchange, key, mandatory, immediate = arguments
            call = PublishMethod(exchange, key, mandatory, immediate, payload[6:-1])
            if len(self._calls) >= _CALLS_KEPT:
                self._calls.clear()
            self._calls[payload] = call
        self._call = call

    def header(self, payload: bytes) -> None:
        """Raises AmqpError 505 where no header is due."""
        if self._call is None:
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
        self._header = payload[CONTENT.size :]
        self._awaited = self._size = size
        if not size:
            self._complete(b"")

    def body(self, payload: bytes) -> None:
        """Raises AmqpError 505 where no body is due, or more came than was announced."""
        if self._call is None:
            raise unexpected_frame("expected method frame, got non method frame instead")
        if self._header is None:
            raise self.interrupted()
        self._awaited -= len(payload)
        if self._awaited < 0:
            raise unexpected_frame("the content body is longer than its header says", BASIC_PUBLISH)
        if self._size <= self._broker.max_message_size:
            self._body.append(payload)
        if self._awaited:
            self._assembled = self._hold(self._assembled, len(payload))
        else:
            self._complete(self._body[0] if len(self._body) == 1 else b"".join(self._body))

    def _hold(self, held: int, size: int) -> int:
        """Count bytes that are not in a queue yet against the broker's memory too."""
        self._broker.memory.used += size
        return held + size

    def _forget_content(self) -> None:
        self._call = self._header = None
        self._body = []
        self._broker.memory.used -= self._assembled
        self._assembled = 0

    def _complete(self, body: bytes) -> None:
        call, raw, size = self._call, self._header, self._size
        self._forget_content()
        if call is None or raw is None:
            return
        if call.immediate:
            raise not_implemented("immediate=true")
        self._check_size(size)
        prepared = self._last
        if (
            prepared is None
            or prepared.generation != self._routing.generation
            or prepared.call is not call
            or prepared.properties.raw != raw
        ):
            prepared = self._last = self._prepare(call, raw)
        self._dispatch(prepared, body)

    # --- routing ---

    def _prepare(self, call: PublishMethod, raw: bytes) -> PublishPlan:
        """All checks of a publish, and where it leads. Raises AmqpError 403, 404, 406."""
        exchange = self._routing.exchange(call.exchange)
        if exchange.internal:
            shown = resource("exchange", exchange.name, self._vhost)
            raise access_refused(f"cannot publish to internal {shown}")
        try:
            properties = read_properties(raw)
        except MalformedError as exc:
            raise AmqpError(ReplyCode.INTERNAL_ERROR, method=0) from exc
        if properties.user_id not in (None, self._user):
            claimed, actual = (properties.user_id or b"").decode("latin-1"), self._user.decode()
            raise precondition_failed(
                f"user_id property set to '{claimed}' but authenticated user was '{actual}'"
            )
        relayed = self._with_reply_address(raw) if properties.reply_to == REPLY_QUEUE.encode() else raw
        headers = properties.headers
        if headers is None:
            targets = self._routing.route_key(exchange, call.key)
        else:
            for name in (b"CC", b"BCC"):
                if name in headers and headers[name][0] != "A":
                    raise _bad_copies(name, headers[name][0])
            targets = self._routing.route(exchange, (call.key, *cc_keys(headers)), headers)
            if b"BCC" in headers:
                parts = split(relayed)
                shown_headers = {name: field for name, field in headers.items() if name != b"BCC"}
                relayed = join(with_headers(parts, shown_headers) if HEADERS in parts else parts)
        return PublishPlan(call, properties, relayed, targets, self._routing.generation)

    def _with_reply_address(self, raw: bytes) -> bytes:
        if self.reply_address is None:
            raise precondition_failed("fast reply consumer does not exist")
        return join({**split(raw), REPLY_TO: shortstr(self.reply_address)})

    def template(self, prefix: bytes, length: int) -> RepeatedPublish | None:
        """What to recognise the message just published by, if it may simply be repeated."""
        prepared = self._last
        if prepared is None or self.transaction is not None or self._call is not None:
            return None
        if prepared.call.key.startswith(REPLY_PREFIX) or prepared.raw is not prepared.properties.raw:
            return None
        return RepeatedPublish(prefix, length, self, prepared)

    def repeat(self, template: RepeatedPublish, body: bytes) -> None:
        """Publish again with another body."""
        prepared = template.prepared
        if prepared.generation != self._routing.generation:
            prepared = self._prepare(prepared.call, prepared.properties.raw)
            template.prepared = self._last = prepared
        self._dispatch(prepared, body)

    def vary(self, template: RepeatedPublish, content: Content, prefix: bytes) -> None:
        """Publish as the template does but for the properties, or a body of another size.

        What is sent with the same properties as the last is the better template: `prefix` is its own.
        """
        call, last = template.prepared.call, template.prepared
        if content.properties == last.properties.raw and last.generation == self._routing.generation:
            prepared = last
            template.prefix = prefix
            template.length = len(prefix) + len(content.body) + 1
        else:
            self._check_size(len(content.body))
            prepared = self._last = self._prepare(call, content.properties)
            if prepared.raw is prepared.properties.raw:
                template.prepared = prepared
                template.prefix = prefix
                template.length = len(prefix) + len(content.body) + 1
        self._dispatch(prepared, content.body)

    def _check_size(self, size: int) -> None:
        limit = self._broker.max_message_size
        if size > limit:
            raise precondition_failed(f"message size {size} is larger than configured max size {limit}")

    def _dispatch(self, prepared: PublishPlan, body: bytes) -> None:
        if self.transaction is not None:
            self.transaction.append((prepared, body))
            self._buffered = self._hold(self._buffered, MESSAGE_COST + len(body))
        elif self.confirming:
            self._published += 1
            if not self.deliver(prepared, body):
                self.nack()
        else:
            self.deliver(prepared, body)

    def deliver(self, prepared: PublishPlan, body: bytes) -> bool:
        """Put a message into its queues, or return it; False if a queue refused it."""
        call, properties, raw, targets, _ = prepared
        self._broker.memory.published += 1
        accepted = True
        ttl, priority = properties.ttl_ms, properties.priority
        for queue in targets:
            if not queue.publish(call.route, raw, body, ttl, priority) and not queue.deleted:
                accepted = False
        if not targets:
            self._unroutable(call, raw, body)
        return accepted

    def take_transaction(self) -> list[tuple[PublishPlan, bytes]]:
        """What has been published since the transaction began; a new one begins."""
        published, self.transaction = self.transaction or [], []
        self._broker.memory.used -= self._buffered
        self._buffered = 0
        return published

    def close(self) -> None:
        """The channel ends: half a message and an uncommitted transaction are lost."""
        self._forget_content()
        self.take_transaction()

    def _unroutable(self, call: PublishMethod, raw: bytes, body: bytes) -> None:
        if not call.exchange and call.key.startswith(REPLY_PREFIX):
            consumer = self._broker.reply_consumers.get(call.key[len(REPLY_PREFIX) :])
            if consumer is not None:
                consumer.deliver((call.route, raw, body, None))
        if call.mandatory:
            returned = encode_method(
                self._number,
                commands.Basic.Return,
                ReplyCode.NO_ROUTE,
                ReplyCode.NO_ROUTE.name,
                call.exchange,
                call.key,
            )
            self._outbox.send(returned + content_frames(self._number, raw, body, self._outbox.frame_max))

    # --- confirms ---

    @property
    def unconfirmed(self) -> bool:
        return self._confirmed != self._published

    def confirm(self) -> None:
        """Acknowledge everything published since the last time, in one frame."""
        if self._confirmed != self._published:
            multiple = self._published - self._confirmed > 1
            self._confirmed = self._published
            self._send_confirm(BASIC_ACK, multiple=multiple)

    def nack(self) -> None:
        """Refuse the last published message, having acknowledged those before it."""
        last = self._published
        self._published = last - 1
        self.confirm()
        self._published = self._confirmed = last
        self._send_confirm(BASIC_NACK, multiple=False)

    def _send_confirm(self, method: int, *, multiple: bool) -> None:
        self._outbox.send(
            ACK_FRAME.pack(METHOD, self._number, _ACK_SIZE, method, self._published, multiple, FRAME_END)
        )


def _bad_copies(name: bytes, kind: str) -> AmqpError:
    return precondition_failed(
        f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{TYPE_NAMES[kind]}}}'
    )
