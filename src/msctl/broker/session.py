"""One connection's state machine: bytes in, bytes out. No sockets, no clock of its own but the broker's.

    HEADER -> STARTING -> TUNING -> OPENING -> RUNNING -> CLOSING -> ENDED
       \\___________ whatever goes wrong ___________________/

RUNNING hands methods and content to channels. CLOSING: we have sent connection.close and wait for
close-ok, ignoring all else. ENDED: what is left to send may be sent, then the socket is closed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pamqp import commands

from msctl.broker import wire
from msctl.broker.broker import Broker
from msctl.broker.channel import Channel
from msctl.broker.consumers import Consumer
from msctl.broker.handshake import (
    CHANNEL_MAX,
    FRAME_MAX,
    FRAME_MIN,
    HEARTBEAT,
    LOCALES,
    MECHANISMS,
    Capabilities,
    check_tuning,
    client_capabilities,
    credentials,
    server_properties,
)
from msctl.broker.publisher import Publisher, Template
from msctl.broker.replies import (
    AmqpError,
    ReplyCode,
    channel_error,
    frame_error,
    not_allowed,
    unexpected_frame,
)
from msctl.broker.tables import MalformedError, Table
from msctl.broker.vhost import VirtualHost

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 30.0
LINGER_SECONDS = 3.0
"""How long a peer that cannot be talked to any more has to read why, before the socket goes."""

OUTPUT_HIGH = 128 * 1024
"""Bytes to send at which no more messages are delivered until some have been written."""

_TEMPLATE_MAX = 64 * 1024


class State(Enum):
    HEADER = auto()
    STARTING = auto()
    TUNING = auto()
    OPENING = auto()
    RUNNING = auto()
    CLOSING = auto()
    ENDED = auto()


class Session:
    """A connection. The server calls `receive` and `process`, sends `take_output`, and `tick`s it."""

    def __init__(self, broker: Broker, peer: str) -> None:
        self.broker = broker
        self.peer = peer
        self.state = State.HEADER
        self.user = ""
        self.frame_max = FRAME_MIN
        self.congested = False
        self.parked: set[Consumer] = set()
        self.blocked = False
        self._capabilities = Capabilities()
        self._vhost: VirtualHost | None = None
        self._channels: dict[int, Channel] = {}
        self._channel_max = CHANNEL_MAX
        self._heartbeat = 0
        self._agreed = False
        now = broker.clock.monotonic()
        self._last_received = self._last_sent = now
        self._deadline: float | None = now + HANDSHAKE_SECONDS
        self._chunks: list[bytes] = []
        self._buffered = 0
        self._needed = 0
        self._data = b""
        self._position = 0
        self._out: list[bytes] = []
        self._late: list[bytes] = []
        self._out_size = 0
        self._writable = True
        self._template: Template | None = None
        self._publish_start = -1
        self._unconfirmed: dict[Publisher, None] = {}
        broker.sessions.add(self)

    @property
    def notify_cancel(self) -> bool:
        return self._capabilities.cancel_notify

    @property
    def channel_count(self) -> int:
        return len(self._channels)

    # --- bytes in ---

    def receive(self, data: bytes) -> None:
        """Take bytes in; `process` makes something of them."""
        self._last_received = self.broker.clock.monotonic()
        if self.state is not State.ENDED:
            self._chunks.append(data)
            self._buffered += len(data)

    def process(self, most: int) -> bool:
        """Carry out up to `most` frames of what has been received; whether there are more whole ones."""
        if self._buffered < self._needed or self.blocked:
            return False
        if self._chunks:
            rest = self._data[self._position :]
            self._data = b"".join((rest, *self._chunks)) if rest or len(self._chunks) > 1 else self._chunks[0]
            self._chunks = []
            self._position = 0
            self._publish_start = -1
        more = False
        try:
            more = self._process(most)
        except AmqpError as error:
            self._fail_connection(error)
        except MalformedError as error:
            self._fail_connection(frame_error(str(error)))
        if self._unconfirmed:
            self._confirm()
        self._buffered = len(self._data) - self._position
        if not self._buffered:
            self._data = b""
            self._position = 0
        self.broker.check_memory()
        return more

    def _process(self, most: int) -> bool:
        if self.state is State.HEADER and not self._begin():
            return False
        while most > 0:
            if self.state is State.ENDED:
                self._position = len(self._data)
                return False
            template = self._template
            if template is not None:
                most = self._repeat(template, most)
                if most <= 0:
                    break
            frame = wire.read_frame(self._data, self._position, self.frame_max)
            if frame is None:
                self._needed = self._bytes_needed()
                return False
            start, self._position = self._position, frame.end
            most -= 1
            self._handle_frame(frame, start)
            if self.blocked:
                break
        self._needed = 0
        return not self.blocked

    def _repeat(self, template: Template, most: int) -> int:
        """Carry out publishes for as long as they are the last one with another body."""
        data, position = self._data, self._position
        prefix, body_at, length = template.prefix, template.prefix_length, template.length
        publisher = template.publisher
        size = len(data)
        while most > 0 and data.startswith(prefix, position):
            end = position + length
            if end > size or data[end - 1] != wire.FRAME_END or self.broker.blocked:
                break
            self._position = end
            try:
                publisher.repeat(template, data[position + body_at : end - 1])
            except AmqpError as error:
                self._fail_channel(self._channels[int.from_bytes(prefix[1:3], "big")], error)
                return most - 1
            position = end
            most -= 3
        if publisher.confirming and publisher.unconfirmed:
            self._unconfirmed[publisher] = None
        return most

    def _bytes_needed(self) -> int:
        left = len(self._data) - self._position
        if left < wire.FRAME.size:
            return wire.FRAME.size
        size: int = wire.FRAME.unpack_from(self._data, self._position)[2]
        return size + wire.FRAME_OVERHEAD

    def _begin(self) -> bool:
        """The protocol header, which anything else is answered with."""
        data = self._data
        header = wire.PROTOCOL_HEADER
        if len(data) < len(header):
            if not data or header.startswith(data):
                return False
        elif data[: len(header)] == header:
            self._position = len(header)
            self.state = State.STARTING
            self.send(
                wire.encode_method(
                    0, commands.Connection.Start, 0, 9, server_properties(), MECHANISMS, LOCALES
                )
            )
            return True
        elif len(data) < len(header):
            return False
        self.send(header)
        self._end()
        return False

    # --- frames ---

    def _handle_frame(self, frame: wire.Frame, start: int) -> None:
        kind, number, payload, _ = frame
        if number == 0:
            self._handle_connection_frame(kind, payload)
            return
        if self.state is State.CLOSING:
            return
        if self.state is not State.RUNNING:
            raise unexpected_frame(wire.describe(kind, payload))
        if kind not in (wire.METHOD, wire.HEADER, wire.BODY) or (kind == wire.METHOD and len(payload) < 4):
            if kind == wire.HEARTBEAT and not payload:
                raise unexpected_frame(wire.describe(kind, payload))
            raise frame_error(f"{wire.describe(kind, payload)}: unknown_frame")
        channel = self._channels.get(number)
        if channel is None:
            self._open_channel(number, kind, payload)
            return
        try:
            self._handle_channel_frame(channel, kind, payload, start)
        except AmqpError as error:
            if error.method is None:
                error.method = self._method_id(kind, payload)
            self._fail_channel(channel, error)

    @staticmethod
    def _method_id(kind: int, payload: bytes) -> int:
        """Who is to blame for an error: the method, or the publish whose content this was."""
        if kind == wire.METHOD:
            return int.from_bytes(payload[:4], "big")
        return wire.BASIC_PUBLISH

    def _open_channel(self, number: int, kind: int, payload: bytes) -> None:
        most = self._channel_max
        if len(self._channels) >= most:
            raise AmqpError(
                ReplyCode.NOT_ALLOWED,
                f"number of channels opened ({len(self._channels)}) has reached the negotiated "
                f"channel_max ({most})",
                method=0,
            )
        if kind != wire.METHOD:
            raise unexpected_frame("expected method frame, got non method frame instead")
        method = self._method(payload)
        if method is commands.Channel.CloseOk:
            return
        if method is not commands.Channel.Open or self._vhost is None:
            raise AmqpError(
                ReplyCode.CHANNEL_ERROR, "expected 'channel.open'", method=self._method_id(kind, payload)
            )
        wire.decode_arguments(method, payload)
        self._channels[number] = Channel(number, self, self._vhost)
        self.send(wire.encode_method(number, commands.Channel.OpenOk, b""))

    @staticmethod
    def _method(payload: bytes) -> wire.MethodType:
        method = wire.method_of(int.from_bytes(payload[:4], "big"))
        if method is None:
            raise wire.undecodable(payload)
        return method

    def _handle_channel_frame(self, channel: Channel, kind: int, payload: bytes, start: int) -> None:
        publisher = channel.publisher
        if channel.closing:
            self._handle_closing(channel, kind, payload)
        elif kind == wire.METHOD:
            if not publisher.idle:
                raise publisher.interrupted()
            if payload.startswith(_PUBLISH):
                publisher.begin(payload)
                self._publish_start = start
                return
            if publisher.unconfirmed:
                publisher.confirm()
            if payload.startswith(_ACCESS_REQUEST):
                self.send(wire.write_frame(wire.METHOD, channel.number, _ACCESS_GRANTED))
                return
            method = self._method(payload)
            if method is commands.Channel.Close:
                self._close_channel(channel)
            else:
                channel.handle(method, payload)
        elif kind == wire.HEADER:
            publisher.header(payload)
            self._published(publisher)
        else:
            publisher.body(payload)
            self._published(publisher)
            self._remember(publisher, payload)

    def _published(self, publisher: Publisher) -> None:
        if publisher.confirming:
            self._unconfirmed[publisher] = None
        if self.broker.blocked:
            self._block()

    def _remember(self, publisher: Publisher, body: bytes) -> None:
        """Make a template of a message that came whole, in three frames one after the other."""
        begin, end = self._publish_start, self._position
        self._publish_start = -1
        if begin < 0 or end - begin > _TEMPLATE_MAX or not publisher.idle:
            return
        prefix = self._data[begin : end - len(body) - 1]
        if _is_one_publish(prefix, len(body)):
            self._template = publisher.template(prefix, end - begin)

    def _handle_closing(self, channel: Channel, kind: int, payload: bytes) -> None:
        """After we have closed a channel, only the end of it matters."""
        if kind != wire.METHOD:
            return
        method = self._method(payload)
        if method is commands.Channel.CloseOk:
            del self._channels[channel.number]
        elif method is commands.Channel.Close:
            self.send(wire.encode_method(channel.number, commands.Channel.CloseOk))

    def _close_channel(self, channel: Channel) -> None:
        del self._channels[channel.number]
        self._template = None
        channel.close()
        self.send(wire.encode_method(channel.number, commands.Channel.CloseOk))

    def _fail_channel(self, channel: Channel, error: AmqpError) -> None:
        """Close the channel, or the connection where the error is one of those."""
        self._template = None
        if channel.publisher.unconfirmed:
            channel.publisher.confirm()
        self._unconfirmed.pop(channel.publisher, None)
        if not error.closes_channel:
            self._fail_connection(error)
            return
        self.broker.log("warning", f"{self.peer}, channel {channel.number}: {_readable(error)}")
        channel.closing = True
        channel.close()
        class_id, method_id = divmod(
            error.method if error.method is not None else wire.BASIC_PUBLISH, 1 << 16
        )
        self.send(
            wire.encode_method(
                channel.number, commands.Channel.Close, error.code, error.text, class_id, method_id
            )
        )

    # --- channel 0 ---

    def _handle_connection_frame(self, kind: int, payload: bytes) -> None:
        if kind == wire.HEARTBEAT and not payload:
            return
        if self.state is State.CLOSING:
            if kind == wire.METHOD and len(payload) >= 4:
                self._handle_connection_closing(self._method(payload))
            return
        if kind in (wire.HEADER, wire.BODY):
            raise unexpected_frame(wire.describe(kind, payload))
        if kind != wire.METHOD or len(payload) < 4:
            raise frame_error(f"{wire.describe(kind, payload)}: unknown_frame")
        method = self._method(payload)
        try:
            self._handle_connection_method(method, wire.decode_arguments(method, payload))
        except AmqpError as error:
            if error.method is None:
                error.method = method.index
            raise

    def _handle_connection_closing(self, method: wire.MethodType) -> None:
        if method is commands.Connection.CloseOk:
            self._end()
        elif method is commands.Connection.Close:
            self.send(wire.encode_method(0, commands.Connection.CloseOk))

    def _handle_connection_method(self, method: wire.MethodType, arguments: list[Any]) -> None:
        state = self.state
        if method is commands.Connection.StartOk and state is State.STARTING:
            self._start_ok(*arguments)
        elif method is commands.Connection.TuneOk and state is State.TUNING:
            self._tune_ok(*arguments)
        elif method is commands.Connection.Open and state is State.OPENING:
            self._open(*arguments)
        elif method is commands.Connection.Close and state is State.RUNNING:
            self._release()
            self.send(wire.encode_method(0, commands.Connection.CloseOk))
            self._await_end(LINGER_SECONDS)
            self._agreed = True
        elif method is commands.Connection.UpdateSecret and state is State.RUNNING:
            self.send(wire.encode_method(0, commands.Connection.UpdateSecretOk))
        else:
            raise channel_error(f"unexpected method in connection state {state.name.lower()}")

    def _start_ok(self, properties: Table, mechanism: str, response: bytes, _locale: str) -> None:
        self._capabilities = client_capabilities(properties)
        user, password = credentials(mechanism, response)
        if not self.broker.authenticate(user, password):
            raise AmqpError(
                ReplyCode.ACCESS_REFUSED,
                f"Login was refused using authentication mechanism {mechanism}. "
                "For details see the broker logfile.",
                method=0,
            )
        self.user = user
        self.state = State.TUNING
        self.send(wire.encode_method(0, commands.Connection.Tune, CHANNEL_MAX, FRAME_MAX, HEARTBEAT))

    def _tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        check_tuning(frame_max, channel_max)
        self._channel_max = channel_max
        self.frame_max = frame_max
        self._heartbeat = heartbeat
        self.state = State.OPENING

    def _open(self, virtual_host: str, _capabilities: str, _insist: bool) -> None:
        vhost = self.broker.vhosts.get(virtual_host)
        if vhost is None:
            raise not_allowed(f"vhost {virtual_host} not found")
        self._vhost = vhost
        self.state = State.RUNNING
        self._deadline = None
        self.send(wire.encode_method(0, commands.Connection.OpenOk, ""))

    # --- the end ---

    def _fail_connection(self, error: AmqpError) -> None:
        """Say why, and close; before there is a connection most failures are not worth words."""
        if self.state in (State.CLOSING, State.ENDED):
            self._end()
            return
        self.broker.log("warning", f"{self.peer}: {_readable(error)}")
        told = self.state in (State.RUNNING, State.OPENING)
        if self.state is State.STARTING and error.code is ReplyCode.ACCESS_REFUSED:
            told = self._capabilities.failure_close
        elif self.state is State.TUNING and error.code is ReplyCode.NOT_ALLOWED:
            told = True
        self._release()
        if not told:
            self._end()
            return
        class_id, method_id = divmod(error.method or 0, 1 << 16)
        self.send(
            wire.encode_method(0, commands.Connection.Close, error.code, error.text, class_id, method_id)
        )
        if error.code in (ReplyCode.FRAME_ERROR, ReplyCode.SYNTAX_ERROR):
            # What follows cannot be told apart any more.
            self._await_end(LINGER_SECONDS)
            self.state = State.ENDED
        else:
            self._await_end(CLOSE_SECONDS)

    def _await_end(self, seconds: float) -> None:
        """Leave it to the peer to close the socket: closing under its last bytes would reset it."""
        self.state = State.CLOSING
        self._deadline = self.broker.clock.monotonic() + seconds

    def force_close(self, detail: str) -> None:
        """The server stops: 320 CONNECTION_FORCED, and nothing is delivered after."""
        if self.state in (State.RUNNING, State.OPENING):
            self._fail_connection(AmqpError(ReplyCode.CONNECTION_FORCED, detail, method=0))
        elif self.state is not State.CLOSING or self._agreed:
            self._end()

    def lost(self) -> None:
        """The socket is gone."""
        self._release()
        self.state = State.ENDED
        self.broker.sessions.discard(self)
        self.broker.dirty.pop(self, None)
        self._chunks = []
        self._data = b""
        self._out = []

    def _release(self) -> None:
        """Give up all that belongs to the connection: channels first, then its exclusive queues."""
        self._template = None
        channels, self._channels = self._channels, {}
        self._confirm()
        for channel in channels.values():
            channel.closing = True
            channel.close()
        if self._vhost is not None:
            self._vhost.delete_exclusive(self)

    def _end(self) -> None:
        self.state = State.ENDED
        self._deadline = None
        self.broker.dirty[self] = None

    @property
    def open(self) -> bool:
        """Whether the peer still counts as connected."""
        return self.state not in (State.CLOSING, State.ENDED)

    @property
    def finished(self) -> bool:
        """Whether the socket is to be closed as soon as all has been written."""
        return self.state is State.ENDED and self._deadline is None

    # --- bytes out ---

    def send(self, data: bytes) -> None:
        if not self._out:
            self.broker.dirty[self] = None
        self._out.append(data)
        self._out_size += len(data)

    def send_parts(self, parts: tuple[bytes, ...], size: int) -> None:
        """Send a delivery's frames, and stop the next when too much waits to be written."""
        out = self._out
        if not out:
            self.broker.dirty[self] = None
        out += parts
        self._out_size += size
        if self._out_size > OUTPUT_HIGH:
            self.congested = True

    def send_late(self, data: bytes) -> None:
        """Send behind the replies that are about to be written."""
        self._late.append(data)
        self.broker.dirty[self] = None

    def take_output(self) -> bytes:
        """All there is to send. `written` says that the socket has taken it."""
        data = b"".join((*self._out, *self._late))
        self._out = []
        self._late = []
        if data:
            self._last_sent = self.broker.clock.monotonic()
        return data

    def written(self, *, writable: bool) -> None:
        """What was taken has gone to the socket; not `writable` while the peer does not read on."""
        self._writable = writable
        if not writable:
            self.congested = True
            return
        self._out_size = sum(map(len, self._out))
        if self.congested and self._out_size <= OUTPUT_HIGH:
            self.congested = False
            parked, self.parked = self.parked, set()
            for consumer in parked:
                consumer.wake()

    def _confirm(self) -> None:
        for publisher in self._unconfirmed:
            publisher.confirm()
        self._unconfirmed.clear()

    # --- memory and time ---

    def _block(self) -> None:
        """Read no more from a publisher until there is room."""
        if not self.blocked:
            self.blocked = True
            if self._capabilities.blocked:
                self.send(wire.encode_method(0, commands.Connection.Blocked, "low on memory"))

    def unblock(self) -> None:
        if self.blocked:
            self.blocked = False
            self._last_received = self.broker.clock.monotonic()
            if self._capabilities.blocked:
                self.send(wire.encode_method(0, commands.Connection.Unblocked))
            self.broker.dirty[self] = None

    def tick(self, now: float) -> None:
        """Keep the peer's heart beating, and give up on one whose heart does not, or that dawdles."""
        if self._deadline is not None and now >= self._deadline:
            if self.state is not State.ENDED and not self._agreed:
                self.broker.log(
                    "warning", f"{self.peer}: closed, it took too long ({self.state.name.lower()})"
                )
            self._release()
            self._end()
        elif self._heartbeat and self.state is State.RUNNING:
            if not self.blocked and now - self._last_received > 2 * self._heartbeat:
                self.broker.log(
                    "warning", f"{self.peer}: closed, no heartbeat for {2 * self._heartbeat} seconds"
                )
                self._release()
                self._end()
            elif now - self._last_sent >= self._heartbeat / 2 and not self._out:
                self.send(wire.HEARTBEAT_FRAME)


# The access class is gone from the specification; old clients still ask, and are told yes.
_ACCESS_REQUEST = b"\x00\x1e\x00\x0a"
_ACCESS_GRANTED = b"\x00\x1e\x00\x0b\x00\x01"
_PUBLISH = wire.METHOD_ID.pack(wire.BASIC_PUBLISH)


def _is_one_publish(prefix: bytes, body_size: int) -> bool:
    """Whether these bytes are a publish, its header, and the beginning of the only body frame."""
    if len(prefix) < wire.FRAME.size:
        return False
    at = wire.FRAME_OVERHEAD + wire.FRAME.unpack_from(prefix)[2]
    if at + wire.FRAME.size > len(prefix) or prefix[at] != wire.HEADER:
        return False
    at += wire.FRAME_OVERHEAD + wire.FRAME.unpack_from(prefix, at)[2]
    if at + wire.FRAME.size != len(prefix):
        return False
    return prefix[at:] == wire.FRAME.pack(wire.BODY, int.from_bytes(prefix[1:3], "big"), body_size)


def _readable(error: AmqpError) -> str:
    return f"{error.code} {error.text.decode(errors='replace')}"
