"""One connection's state machine: bytes in, bytes out. No sockets; time comes from the broker's clock.

    HEADER -> STARTING -> TUNING -> OPENING -> RUNNING -> CLOSING -> ENDED
       \\______________________ any error ________________________/

STARTING to OPENING: the client logs in, see `login`. RUNNING: frames go to channels. CLOSING: one side has
sent connection.close, and everything but close and close-ok is ignored. ENDED: the remaining output is sent,
then the socket is closed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pamqp import commands

from msctl.broker.core.access import UNRESTRICTED, Access
from msctl.broker.core.broker import Broker
from msctl.broker.core.queues import ExpiringError
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol import wire
from msctl.broker.protocol.handshake import (
    CHANNEL_MAX,
    FRAME_MAX,
    HEARTBEAT,
    LOCALES,
    MECHANISMS,
    server_properties,
)
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    channel_error,
    frame_error,
    unexpected_frame,
)
from msctl.broker.protocol.tables import Table
from msctl.broker.session.buffers import Inbox, Outbox
from msctl.broker.session.channel import Channel
from msctl.broker.session.channels import Channels
from msctl.broker.session.flood import FloodMeter
from msctl.broker.session.login import Login, LoginRefusedError

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 30.0
LINGER_SECONDS = 3.0
"""Seconds for a peer to read the last output and close its socket, before the server closes it."""
UNREAD_SECONDS = 30.0
"""Seconds for which a peer may leave more than OUTPUT_MAX bytes unread."""
PARKED_MAX = 16 * 1024 * 1024
"""Bytes of input that a blocked connection may receive: more than the socket buffers of both sides."""
PARKED_TOTAL = 64 * 1024 * 1024
"""The sum of all connections' parked input."""


Address = tuple[str, int]
"""Host and port."""


class SessionState(Enum):
    HEADER = auto()
    STARTING = auto()
    TUNING = auto()
    OPENING = auto()
    RUNNING = auto()
    CLOSING = auto()
    ENDED = auto()


class Session:
    """A connection. The server calls `receive`, `process` and `tick`, and sends the outbox's data.

    `blocked` is True for a publisher while the memory alarm is on: none of its input is processed. An
    alarm must be able to end, so it never waits for a peer that has gone. A message whose header has
    arrived counts with its full size, and its connection is read on until it is complete; a connection
    is blocked before its next basic.publish. If another channel has a message in progress at that point,
    or the alarm lasts (`seek_end`), input is still received and parked, within bounds, so that the end of
    the stream is seen and what the peer holds is freed. At the end, `drain` has the parked input processed.
    """

    def __init__(
        self,
        broker: Broker,
        peer: str,
        *,
        loopback: bool = True,
        addresses: tuple[Address, Address] | None = None,
    ) -> None:
        """`loopback` is whether the peer is on this machine; `addresses` are the peer's and the server's."""
        self.broker = broker
        self.peer = peer
        self.state = SessionState.HEADER
        self.login = Login(broker, loopback=loopback)
        self.access: Access = UNRESTRICTED
        self.blocked = False
        self.addresses = addresses
        self.connected_at = broker.clock.time()
        self.received = 0
        """Bytes from the peer."""
        self.sent = 0
        """Bytes to the peer."""
        self.outbox = Outbox(self._mark)
        self.resumed = False
        self.handled = False
        """Whether the last `process` handled any input, and not only waits for the rest of a frame."""
        self.frame_budget: int | None = None
        """Frames after which a fault cuts the connection."""
        self.awaits_answers = False
        """Whether the client has asked for deliveries, confirms or transactions."""
        self._inbox = Inbox()
        self._parked = 0
        self._draining = False
        self._seeking_end = False
        self._vhost: VirtualHost | None = None
        self._channels: Channels | None = None
        self._agreed = False
        self._last_received = self._last_sent = broker.clock.monotonic()
        self._full_since: float | None = None
        self._deadline: float | None = self._last_received + HANDSHAKE_SECONDS
        self._flood = FloodMeter(self._last_received)
        broker.sessions.add(self)

    def _mark(self) -> None:
        self.broker.dirty[self] = None

    @property
    def vhost(self) -> VirtualHost | None:
        """The virtual host that the connection has open."""
        return self._vhost

    @property
    def user(self) -> str:
        """The name of the user that has logged in; empty before."""
        return self.login.user

    @property
    def notify_cancel(self) -> bool:
        """Whether the client accepts basic.cancel from the server."""
        return self.login.capabilities.cancel_notify

    @property
    def name(self) -> str:
        """The connection's name as RabbitMQ's tools show it."""
        if self.addresses is None:
            return self.peer
        (host, port), (own_host, own_port) = self.addresses
        return f"{host}:{port} -> {own_host}:{own_port}"

    @property
    def channels(self) -> list[Channel]:
        return [] if self._channels is None else list(self._channels)

    @property
    def channel_count(self) -> int:
        return len(self._channels) if self._channels is not None else 0

    @property
    def open(self) -> bool:
        """Whether neither side has begun to close the connection."""
        return self.state not in (SessionState.CLOSING, SessionState.ENDED)

    @property
    def finished(self) -> bool:
        """Whether to close the socket after the remaining output."""
        return self.state is SessionState.ENDED and self._deadline is None

    @property
    def reads(self) -> bool:
        """Whether input is processed now."""
        return not self.blocked and not self.outbox.full

    @property
    def receives(self) -> bool:
        """Whether the server reads from the socket now."""
        if not self.blocked:
            return not self.outbox.full
        channels = self._channels
        return (
            (self._seeking_end or (channels is not None and channels.in_progress))
            and self._parked < PARKED_MAX
            and self.broker.parked < PARKED_TOTAL
        )

    @property
    def rest(self) -> float:
        """Seconds for which the server rests before it reads again, so that more input comes at once."""
        rest = self._flood.rest
        return rest if rest and not self.awaits_answers and self.outbox.empty else 0.0

    # --- bytes in ---

    def receive(self, data: bytes) -> None:
        """Add received bytes; `process` handles them."""
        self._last_received = self.broker.clock.monotonic()
        self.received += len(data)
        if self.state is not SessionState.ENDED:
            self._inbox.add(data)
            if self.blocked:
                self._parked += len(data)
                self.broker.parked += len(data)

    def seek_end(self) -> None:
        """Receive on while blocked: a peer's end may be behind more input than the socket holds."""
        self._seeking_end = self.blocked

    def drain(self) -> bool:
        """The peer has closed its side: unblock to process its last input; return whether there is any."""
        if not self.blocked:
            return False
        self._draining = True
        self.blocked = False
        self._unpark()
        return True

    def _unpark(self) -> None:
        self.broker.parked -= self._parked
        self._parked = 0

    def process(self, limit: int) -> bool:
        """Handle about `limit` frames; return whether complete frames may be left."""
        self.resumed = self.handled = False
        if not self.reads or not self._inbox.gather():
            return False
        self.handled = True
        if self.state is SessionState.HEADER and not self._begin():
            self._inbox.compact(starved=False)
            return False
        starved = False
        memory = self.broker.memory
        published = memory.published
        try:
            starved = self._process(limit)
        except AmqpError as error:
            self._fail(error)
        if self._channels is not None:
            self._channels.confirm()
        self._inbox.compact(starved=starved)
        self.broker.check_memory()
        self._flood.add(self._last_received, memory.published - published, self.received)
        return not starved and self._inbox.position < len(self._inbox.data)

    def _process(self, limit: int) -> bool:
        """Handle frames; return whether the next frame is incomplete."""
        inbox = self._inbox
        while limit > 0:
            if self.state is SessionState.ENDED:
                inbox.discard()
                return True
            channels = self._channels
            if (budget := self.frame_budget) is not None:
                if budget <= 0:
                    self._abort("cut by a fault")
                    return True
            elif channels is not None:
                limit = channels.repeat(limit)
                if channels.holds:
                    self.handled = inbox.position > 0
                    return True
            frame = wire.read_frame(inbox.data, inbox.position, self.outbox.frame_max)
            if frame is None:
                return True
            if budget is not None:
                self.frame_budget = budget - 1
            start, inbox.position = inbox.position, frame.end
            limit -= 1
            if frame.channel == 0:
                self._handle_connection_frame(frame.kind, frame.payload)
            elif channels is not None:
                if self.broker.blocked and channels.begins_message(frame) and not self._draining:
                    inbox.position = start
                    self._block()
                    break
                try:
                    if channels.handle(frame):
                        self.broker.check_memory()
                        if self.broker.blocked and not channels.in_progress and not self._draining:
                            self._block()
                except ExpiringError:
                    inbox.position = start
                    break
            elif self.state is not SessionState.CLOSING:
                raise unexpected_frame(wire.describe(frame.kind, frame.payload))
            if not self.reads:
                break
        return False

    def _begin(self) -> bool:
        """Read the protocol header and return whether it is there; answer anything else with it."""
        inbox, header = self._inbox, wire.PROTOCOL_HEADER
        start = inbox.data[: len(header)]
        if start == header:
            inbox.position = len(header)
            self.state = SessionState.STARTING
            self._send(commands.Connection.Start, 0, 9, server_properties(), MECHANISMS, LOCALES)
            return True
        if len(start) == len(header) or not header.startswith(start):
            self.outbox.send(header)
            self._end()
        return False

    # --- channel 0 ---

    def _send(self, method: wire.MethodType, *arguments: Any) -> None:
        self.outbox.send(wire.encode_method(0, method, *arguments))

    def _handle_connection_frame(self, kind: int, payload: bytes) -> None:
        whole = kind == wire.METHOD and len(payload) >= wire.METHOD_ID.size
        if kind == wire.HEARTBEAT and not payload:
            return
        if self.state is SessionState.CLOSING:
            if whole:
                self._handle_closing(payload)
            return
        if kind in (wire.HEADER, wire.BODY):
            raise unexpected_frame(wire.describe(kind, payload))
        if not whole:
            raise frame_error(f"{wire.describe(kind, payload)}: unknown_frame")
        method = wire.method_of(payload)
        try:
            self._handle_method(method, wire.decode_arguments(method, payload))
        except AmqpError as error:
            if error.method is None:
                error.method = wire.id_of(payload)
            raise

    def _handle_closing(self, payload: bytes) -> None:
        method = wire.method_of(payload)
        if method is commands.Connection.CloseOk:
            self._end()
        elif method is commands.Connection.Close:
            self._send(commands.Connection.CloseOk)

    def _handle_method(self, method: wire.MethodType, arguments: list[Any]) -> None:
        state = self.state
        if method is commands.Connection.StartOk and state is SessionState.STARTING:
            self._start_ok(*arguments)
        elif method is commands.Connection.TuneOk and state is SessionState.TUNING:
            self._tune_ok(*arguments)
        elif method is commands.Connection.Open and state is SessionState.OPENING:
            self._open(*arguments)
        elif method is commands.Connection.Close and state is SessionState.RUNNING:
            self._release()
            self._send(commands.Connection.CloseOk)
            self._agreed = True
            self._await_end(LINGER_SECONDS)
        elif method is commands.Connection.UpdateSecret and state is SessionState.RUNNING:
            self._send(commands.Connection.UpdateSecretOk)
        else:
            raise channel_error(f"unexpected method in connection state {state.name.lower()}")

    def _start_ok(self, properties: Table, mechanism: str, response: bytes, _locale: str) -> None:
        try:
            self.login.start_ok(properties, mechanism, response)
        except LoginRefusedError as error:
            self._report(error.reason)
            raise
        self.state = SessionState.TUNING
        self._send(commands.Connection.Tune, CHANNEL_MAX, FRAME_MAX, HEARTBEAT)

    def _tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        self.login.tune_ok(channel_max, frame_max, heartbeat)
        self.outbox.frame_max = frame_max
        self.state = SessionState.OPENING

    def _open(self, virtual_host: str, _capabilities: str, _insist: bool) -> None:
        vhost, self.access = self.login.open(virtual_host)
        vhost.connections += 1
        self._vhost = vhost
        self._channels = Channels(self, self._inbox, vhost, limit=self.login.channel_max, report=self._report)
        self.state = SessionState.RUNNING
        self._deadline = None
        self._send(commands.Connection.OpenOk, "")
        if self.broker.faults is not None:
            self.broker.faults.opened(self)

    # --- the end ---

    def _report(self, text: str) -> None:
        self.broker.log("warning", f"{self.peer}: {text}")

    def _fail(self, error: AmqpError) -> None:
        """Close with `error`. Before the connection is open, most errors close the socket without a frame."""
        if not self.open:
            self._end()
            return
        self._report(str(error))
        sends_close = self.state in (SessionState.RUNNING, SessionState.OPENING)
        if self.state is SessionState.STARTING and error.code is ReplyCode.ACCESS_REFUSED:
            sends_close = self.login.capabilities.failure_close
        elif self.state is SessionState.TUNING and error.code is ReplyCode.NOT_ALLOWED:
            sends_close = True
        self._release()
        if not sends_close:
            self._end()
            return
        class_id, method_id = divmod(error.method or 0, 1 << 16)
        self._send(commands.Connection.Close, error.code, error.text, class_id, method_id)
        if error.code in (ReplyCode.FRAME_ERROR, ReplyCode.SYNTAX_ERROR):
            # The input can no longer be split into frames.
            self._await_end(LINGER_SECONDS)
            self.state = SessionState.ENDED
        else:
            self._await_end(CLOSE_SECONDS)

    def _await_end(self, seconds: float) -> None:
        """Let the peer close the socket: closing it while the peer still sends would reset it."""
        self.state = SessionState.CLOSING
        self._deadline = self.broker.clock.monotonic() + seconds

    def close_channel(self, channel: Channel, error: AmqpError) -> None:
        """Close a channel from the broker's side."""
        if self._channels is not None:
            self._channels.close_channel(channel, error)

    def force_close(self, detail: str) -> None:
        """Close with 320 CONNECTION_FORCED for the reason `detail`."""
        self.blocked = False
        if self.state in (SessionState.RUNNING, SessionState.OPENING):
            self._fail(AmqpError(ReplyCode.CONNECTION_FORCED, detail, method=0))
        elif self.state is not SessionState.CLOSING or self._agreed:
            self._end()

    def lost(self) -> None:
        """Release everything: the socket is closed."""
        self._release()
        self.state = SessionState.ENDED
        self.broker.sessions.discard(self)
        self.broker.dirty.pop(self, None)
        self._inbox.discard()
        self.outbox.discard()

    def _release(self) -> None:
        channels, self._channels = self._channels, None
        if channels is not None:
            channels.close()
        vhost, self._vhost = self._vhost, None
        if vhost is not None:
            vhost.connections -= 1
        self._unpark()

    def _end(self) -> None:
        self.state = SessionState.ENDED
        self._deadline = None
        self._mark()

    # --- bytes out ---

    def take_output(self) -> bytes:
        """Return and clear the output; the caller calls `outbox.written` next."""
        data = self.outbox.take()
        if data:
            self.sent += len(data)
            self._last_sent = self.broker.clock.monotonic()
        return data

    # --- memory and time ---

    def _block(self) -> None:
        """Stop processing a publisher's input until the memory alarm ends."""
        if not self.blocked:
            self.blocked = True
            if self.login.capabilities.blocked:
                self._send(commands.Connection.Blocked, self.broker.blocked_by)

    def unblock(self) -> None:
        if self.blocked:
            self.blocked = self._seeking_end = False
            self.resumed = True
            self._unpark()
            self._last_received = self.broker.clock.monotonic()
            if self.login.capabilities.blocked:
                self._send(commands.Connection.Unblocked)
            self._mark()

    def tick(self, now: float) -> None:
        """Send a heartbeat that is due; close a peer that is silent or too slow."""
        if self._deadline is not None:
            if now >= self._deadline:
                self._abort("" if not self.open else f"timed out in state {self.state.name.lower()}")
            return
        if not self.outbox.full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since > UNREAD_SECONDS:
            self._abort(f"the client has read nothing for {UNREAD_SECONDS:.0f} s")
            return
        heartbeat = self.login.heartbeat
        if heartbeat and self.state is SessionState.RUNNING:
            silence = now - self._last_received
            if self.reads and silence > 2 * heartbeat:
                self._abort(f"no heartbeat for {silence:.0f} s")
            elif now - self._last_sent >= heartbeat / 2 and self.outbox.empty:
                self.outbox.send(wire.HEARTBEAT_FRAME)

    def _abort(self, reason: str) -> None:
        if reason:
            self._report(f"connection closed: {reason}")
        self._release()
        self.outbox.discard()
        self._end()
