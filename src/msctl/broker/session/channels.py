"""The channels of one connection: opening, closing, and dispatching frames to them. No sockets.

Errors that close the connection are raised to the session; errors that close a channel are handled
here. `repeat` is the connection's half of the publish fast path, see `publish_plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pamqp import commands

from msctl.broker.core.limits import too_many_channels
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol import wire
from msctl.broker.protocol.replies import AmqpError, ReplyCode, frame_error, unexpected_frame
from msctl.broker.protocol.tables import MalformedError
from msctl.broker.session.buffers import Inbox
from msctl.broker.session.channel import Channel, Owner
from msctl.broker.session.confirms import Confirms
from msctl.broker.session.publish_handler import PublishHandler
from msctl.broker.session.publish_plan import RepeatedPublish

_PUBLISH_FRAMES = 3
_HELD_MAX = 4096
"""Bytes of a publish that may wait for their rest: each read copies what waits."""


class Channels:
    """All channels of a connection by number; at most `limit` are open, whatever their numbers.

    `report` is called with the text of each channel error.
    """

    def __init__(
        self,
        owner: Owner,
        inbox: Inbox,
        vhost: VirtualHost,
        *,
        limit: int,
        report: Callable[[str], None],
    ) -> None:
        self._owner = owner
        self._inbox = inbox
        self._vhost = vhost
        self._limit = limit
        self._report = report
        self._outbox = owner.outbox
        self._open: dict[int, Channel] = {}
        self.holds = False
        """Whether the input ends within a publish that repeats the last one as far as it goes."""
        self._repeated: RepeatedPublish | None = None
        self._unconfirmed: dict[Confirms, None] = {}
        self._in_progress: set[PublishHandler] = set()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._open.values()))

    @property
    def in_progress(self) -> bool:
        """Whether any channel has received a message in part."""
        return bool(self._in_progress)

    @staticmethod
    def begins_message(frame: wire.Frame) -> bool:
        """Whether the frame is a basic.publish."""
        return frame.kind == wire.METHOD and frame.payload.startswith(_PUBLISH)

    # --- frames ---

    def repeat(self, limit: int) -> int:
        """Process publishes that repeat the last one with another body; return the rest of `limit` frames.

        Sets `holds`.
        """
        self.holds = False
        repeated = self._repeated
        if repeated is None:
            return limit
        publisher = self._open[repeated.channel].publisher
        if not publisher.idle:
            return limit
        inbox = self._inbox
        data, position = inbox.data, inbox.position
        method, frame_max = repeated.method, self._outbox.frame_max
        broker = self._owner.broker
        size = len(data)
        try:
            while limit > 0 and not broker.blocked:
                prefix = repeated.prefix
                if data.startswith(prefix, position):
                    end = position + repeated.length
                    if end > size or data[end - 1] != wire.FRAME_END:
                        break
                    inbox.position = end
                    publisher.repeat(repeated, data[position + len(prefix) : end - 1])
                elif data.startswith(method, position):
                    content = wire.read_content(data, position + len(method), repeated.channel, frame_max)
                    if content is None:
                        break
                    inbox.position = end = content.end
                    publisher.vary(repeated, content, data[position : content.body_at])
                else:
                    break
                position = end
                limit -= _PUBLISH_FRAMES
        except AmqpError as error:
            error.method = wire.BASIC_PUBLISH if error.method is None else error.method
            self._fail(self._open[repeated.channel], error)
            return limit - _PUBLISH_FRAMES
        confirms = publisher.confirms
        if confirms.confirmed != confirms.published:
            self._unconfirmed[confirms] = None
        if 0 < size - position < repeated.length <= _HELD_MAX and limit > 0 and not broker.blocked:
            prefix = repeated.prefix
            self.holds = data.startswith(prefix, position) or prefix.startswith(data[position:])
        return limit

    def handle(self, frame: wire.Frame) -> bool:
        """Handle one frame; return whether it was content.

        Raises AmqpError for an error that closes the connection.
        """
        kind, number, payload, _ = frame
        if kind not in (wire.METHOD, wire.HEADER, wire.BODY) or (
            kind == wire.METHOD and len(payload) < wire.METHOD_ID.size
        ):
            if kind == wire.HEARTBEAT and not payload:
                raise unexpected_frame(wire.describe(kind, payload))
            raise frame_error(f"{wire.describe(kind, payload)}: unknown_frame")
        channel = self._open.get(number)
        if channel is None:
            self._handle_unopened(number, kind, payload)
            return False
        try:
            if channel.closing:
                self._handle_closing(channel, kind, payload)
            elif kind == wire.METHOD:
                self._handle_method(channel, payload)
            else:
                self._handle_content(channel.publisher, kind, payload)
                return True
        except AmqpError as error:
            if error.method is None:
                error.method = _failing_method(kind, payload)
            self._fail(channel, error)
        return False

    def _handle_unopened(self, number: int, kind: int, payload: bytes) -> None:
        if len(self._open) >= self._limit:
            raise AmqpError(
                ReplyCode.NOT_ALLOWED,
                f"number of channels opened ({len(self._open)}) has reached the negotiated "
                f"channel_max ({self._limit})",
                method=0,
            )
        if kind != wire.METHOD:
            raise unexpected_frame("expected method frame, got non method frame instead")
        method = wire.method_of(payload)
        wire.decode_arguments(method, payload)
        if method is not commands.Channel.Open:
            raise AmqpError(ReplyCode.CHANNEL_ERROR, "expected 'channel.open'", method=wire.id_of(payload))
        broker = self._owner.broker
        if broker.channels >= broker.limits.channels:
            raise too_many_channels(broker.limits.channels)
        broker.channels += 1
        self._open[number] = Channel(number, self._owner, self._vhost)
        self._outbox.send(wire.encode_method(number, commands.Channel.OpenOk, b""))

    def _handle_method(self, channel: Channel, payload: bytes) -> None:
        publisher = channel.publisher
        if not publisher.idle:
            raise publisher.interrupted()
        if payload.startswith(_PUBLISH):
            publisher.begin(payload)
            self._in_progress.add(publisher)
            return
        confirms = publisher.confirms
        if confirms.confirmed != confirms.published:
            confirms.send()
        if payload.startswith(_ACCESS_REQUEST):
            self._outbox.send(wire.write_frame(wire.METHOD, channel.number, _ACCESS_GRANTED))
            return
        method = wire.method_of(payload)
        if method is commands.Channel.Close:
            self._remove(channel.number)
            self._repeated = None
            channel.close()
            self._outbox.send(wire.encode_method(channel.number, commands.Channel.CloseOk))
        else:
            channel.handle(method, payload)

    def _handle_content(self, publisher: PublishHandler, kind: int, payload: bytes) -> None:
        try:
            if kind == wire.HEADER:
                publisher.header(payload)
            else:
                publisher.body(payload)
                if publisher.idle:
                    self._repeated = publisher.repeatable(len(payload))
        except MalformedError as error:
            raise frame_error(str(error)) from error
        finally:
            if publisher.idle:
                self._in_progress.discard(publisher)
        confirms = publisher.confirms
        if confirms.confirmed != confirms.published:
            self._unconfirmed[confirms] = None

    def _handle_closing(self, channel: Channel, kind: int, payload: bytes) -> None:
        """Handle a frame on a channel that the server has closed: only close and close-ok count."""
        if kind != wire.METHOD:
            return
        method = wire.method_of(payload)
        if method is commands.Channel.CloseOk:
            self._remove(channel.number)
        elif method is commands.Channel.Close:
            self._outbox.send(wire.encode_method(channel.number, commands.Channel.CloseOk))

    def _remove(self, number: int) -> None:
        del self._open[number]
        self._owner.broker.channels -= 1

    def _fail(self, channel: Channel, error: AmqpError) -> None:
        """Close the channel, or raise `error` if it is one that closes the connection."""
        self._repeated = None
        channel.publisher.confirms.send()
        self._unconfirmed.pop(channel.publisher.confirms, None)
        if not error.closes_channel:
            raise error
        self._report(f"channel {channel.number}: {error}")
        channel.closing = True
        channel.close()
        self._in_progress.discard(channel.publisher)
        class_id, method_id = divmod(error.method or 0, 1 << 16)
        self._outbox.send(
            wire.encode_method(
                channel.number, commands.Channel.Close, error.code, error.text, class_id, method_id
            )
        )

    def close_channel(self, channel: Channel, error: AmqpError) -> None:
        """Close a channel from the broker's side."""
        self._fail(channel, error)

    # --- all channels ---

    def confirm(self) -> None:
        """Send the outstanding publisher confirms, one frame per channel."""
        for confirms in self._unconfirmed:
            confirms.send()
        self._unconfirmed.clear()

    def close(self) -> None:
        """Close all channels: requeue unacknowledged messages, delete exclusive queues."""
        self._repeated = None
        self.confirm()
        channels, self._open = self._open, {}
        self._owner.broker.channels -= len(channels)
        self._in_progress.clear()
        for channel in channels.values():
            channel.closing = True
            channel.close()
        self._vhost.delete_exclusive(self._owner)


# The access class is gone from the specification. Old clients still send access.request.
_ACCESS_REQUEST = b"\x00\x1e\x00\x0a"
_ACCESS_GRANTED = b"\x00\x1e\x00\x0b\x00\x01"
_PUBLISH = wire.METHOD_ID.pack(wire.BASIC_PUBLISH)


def _failing_method(kind: int, payload: bytes) -> int:
    """The id of the method that a close names: this one, or basic.publish for a content frame."""
    return wire.id_of(payload) if kind == wire.METHOD else wire.BASIC_PUBLISH
