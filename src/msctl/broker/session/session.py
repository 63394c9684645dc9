"""One connection's state machine: bytes in, bytes out. No sockets, no clock of its own but the broker's.

    HEADER -> STARTING -> TUNING -> OPENING -> RUNNING -> CLOSING -> ENDED
       \\________________ whatever goes wrong _______________________/

RUNNING hands frames to channels. CLOSING: one side has said connection.close, and all but the end of
it is ignored. ENDED: what is left to send may be sent, then the socket is closed.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pamqp import commands

from msctl.broker.core.broker import Broker
from msctl.broker.protocol import wire
from msctl.broker.protocol.handshake import (
    CHANNEL_MAX,
    FRAME_MAX,
    HEARTBEAT,
    LOCALES,
    MECHANISMS,
    Capabilities,
    check_tuning,
    client_capabilities,
    credentials,
    server_properties,
)
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    channel_error,
    frame_error,
    not_allowed,
    unexpected_frame,
)
from msctl.broker.protocol.tables import Table
from msctl.broker.session.buffers import Inbox, Outbox
from msctl.broker.session.channels import Channels

HANDSHAKE_SECONDS = 10.0
CLOSE_SECONDS = 30.0
LINGER_SECONDS = 3.0
"""How long a peer has to read our last words and to go, before the socket is closed under it."""
UNREAD_SECONDS = 30.0
"""How long a peer may leave our answers unread, once there are too many."""


class SessionState(Enum):
    HEADER = auto()
    STARTING = auto()
    TUNING = auto()
    OPENING = auto()
    RUNNING = auto()
    CLOSING = auto()
    ENDED = auto()


class Session:
    """A connection. The server calls `receive` and `process`, sends what `outbox` has, and `tick`s it.

    `blocked`: it publishes while the broker has no room, so nothing is read from it.
    """

    def __init__(self, broker: Broker, peer: str) -> None:
        self.broker = broker
        self.peer = peer
        self.state = SessionState.HEADER
        self.user = ""
        self.blocked = False
        self.outbox = Outbox(self._mark)
        self._inbox = Inbox()
        self._capabilities = Capabilities()
        self._channels: Channels | None = None
        self._channel_max = CHANNEL_MAX
        self._heartbeat = 0
        self._agreed = False
        self._last_received = self._last_sent = broker.clock.monotonic()
        self._full_since: float | None = None
        self._deadline: float | None = self._last_received + HANDSHAKE_SECONDS
        broker.sessions.add(self)

    def _mark(self) -> None:
        self.broker.dirty[self] = None

    @property
    def notify_cancel(self) -> bool:
        """Whether the client understands basic.cancel from the server."""
        return self._capabilities.cancel_notify

    @property
    def channel_count(self) -> int:
        return len(self._channels) if self._channels is not None else 0

    @property
    def open(self) -> bool:
        """Whether the peer still counts as connected."""
        return self.state not in (SessionState.CLOSING, SessionState.ENDED)

    @property
    def finished(self) -> bool:
        """Whether the socket is to be closed as soon as all has been written."""
        return self.state is SessionState.ENDED and self._deadline is None

    @property
    def reads(self) -> bool:
        """Whether more input is welcome."""
        return not self.blocked and not self.outbox.full

    # --- bytes in ---

    def receive(self, data: bytes) -> None:
        """Take bytes in; `process` makes something of them."""
        self._last_received = self.broker.clock.monotonic()
        if self.state is not SessionState.ENDED:
            self._inbox.add(data)

    def process(self, limit: int) -> bool:
        """Carry out up to about `limit` frames; whether there may be more to carry out."""
        if not self.reads or not self._inbox.gather():
            return False
        if self.state is SessionState.HEADER and not self._begin():
            self._inbox.compact(starved=False)
            return False
        starved = False
        if self._channels is not None:
            self._channels.moved()
        try:
            starved = self._process(limit)
        except AmqpError as error:
            self._fail(error)
        if self._channels is not None:
            self._channels.confirm()
        self._inbox.compact(starved=starved)
        self.broker.check_memory()
        return not starved and self._inbox.position < len(self._inbox.data)

    def _process(self, limit: int) -> bool:
        """Whether there is not enough for another frame."""
        inbox = self._inbox
        while limit > 0:
            if self.state is SessionState.ENDED:
                inbox.discard()
                return True
            channels = self._channels
            if channels is not None:
                limit = channels.repeat(limit)
            frame = wire.read_frame(inbox.data, inbox.position, self.outbox.frame_max)
            if frame is None:
                return True
            start, inbox.position = inbox.position, frame.end
            limit -= 1
            if frame.channel == 0:
                self._handle_connection_frame(frame.kind, frame.payload)
            elif channels is not None:
                if channels.handle(frame, start):
                    self.broker.check_memory()
                    if self.broker.blocked:
                        self._block()
            elif self.state is not SessionState.CLOSING:
                raise unexpected_frame(wire.describe(frame.kind, frame.payload))
            if not self.reads:
                break
        return False

    def _begin(self) -> bool:
        """The protocol header, which anything else is answered with; whether it was there."""
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
        self.state = SessionState.TUNING
        self._send(commands.Connection.Tune, CHANNEL_MAX, FRAME_MAX, HEARTBEAT)

    def _tune_ok(self, channel_max: int, frame_max: int, heartbeat: int) -> None:
        check_tuning(frame_max, channel_max)
        self._channel_max = channel_max
        self.outbox.frame_max = frame_max
        self._heartbeat = heartbeat
        self.state = SessionState.OPENING

    def _open(self, virtual_host: str, _capabilities: str, _insist: bool) -> None:
        vhost = self.broker.vhosts.get(virtual_host)
        if vhost is None:
            raise not_allowed(f"vhost {virtual_host} not found")
        self._channels = Channels(self, self._inbox, vhost, limit=self._channel_max, report=self._report)
        self.state = SessionState.RUNNING
        self._deadline = None
        self._send(commands.Connection.OpenOk, "")

    # --- the end ---

    def _report(self, text: str) -> None:
        self.broker.log("warning", f"{self.peer}: {text}")

    def _fail(self, error: AmqpError) -> None:
        """Say why, and close; before there is a connection most failures are not worth words."""
        if not self.open:
            self._end()
            return
        self._report(str(error))
        told = self.state in (SessionState.RUNNING, SessionState.OPENING)
        if self.state is SessionState.STARTING and error.code is ReplyCode.ACCESS_REFUSED:
            told = self._capabilities.failure_close
        elif self.state is SessionState.TUNING and error.code is ReplyCode.NOT_ALLOWED:
            told = True
        self._release()
        if not told:
            self._end()
            return
        class_id, method_id = divmod(error.method or 0, 1 << 16)
        self._send(commands.Connection.Close, error.code, error.text, class_id, method_id)
        if error.code in (ReplyCode.FRAME_ERROR, ReplyCode.SYNTAX_ERROR):
            # What follows cannot be told apart any more.
            self._await_end(LINGER_SECONDS)
            self.state = SessionState.ENDED
        else:
            self._await_end(CLOSE_SECONDS)

    def _await_end(self, seconds: float) -> None:
        """Leave it to the peer to close the socket: closing under its last bytes would reset it."""
        self.state = SessionState.CLOSING
        self._deadline = self.broker.clock.monotonic() + seconds

    def force_close(self, detail: str) -> None:
        """The server stops: 320 CONNECTION_FORCED, and nothing is delivered after."""
        self.blocked = False
        if self.state in (SessionState.RUNNING, SessionState.OPENING):
            self._fail(AmqpError(ReplyCode.CONNECTION_FORCED, detail, method=0))
        elif self.state is not SessionState.CLOSING or self._agreed:
            self._end()

    def lost(self) -> None:
        """The socket is gone."""
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

    def _end(self) -> None:
        self.state = SessionState.ENDED
        self._deadline = None
        self._mark()

    # --- bytes out ---

    def take_output(self) -> bytes:
        """All there is to send. `outbox.written` follows."""
        data = self.outbox.take()
        if data:
            self._last_sent = self.broker.clock.monotonic()
        return data

    # --- memory and time ---

    def _block(self) -> None:
        """Read no more from a publisher until there is room."""
        if not self.blocked:
            self.blocked = True
            if self._capabilities.blocked:
                self._send(commands.Connection.Blocked, "low on memory")

    def unblock(self) -> None:
        if self.blocked:
            self.blocked = False
            self._last_received = self.broker.clock.monotonic()
            if self._capabilities.blocked:
                self._send(commands.Connection.Unblocked)
            self._mark()

    def tick(self, now: float) -> None:
        """Keep the peer's heart beating, and give up on one whose heart does not, or that dawdles."""
        if self._deadline is not None:
            if now >= self._deadline:
                self._give_up("" if not self.open else f"it took too long ({self.state.name.lower()})")
            return
        if not self.outbox.full:
            self._full_since = None
        elif self._full_since is None:
            self._full_since = now
        elif now - self._full_since > UNREAD_SECONDS:
            self._give_up(f"it has read nothing for {UNREAD_SECONDS:.0f} seconds")
            return
        if self._heartbeat and self.state is SessionState.RUNNING:
            silence = now - self._last_received
            if self.reads and silence > 2 * self._heartbeat:
                self._give_up(f"no heartbeat for {silence:.0f} seconds")
            elif now - self._last_sent >= self._heartbeat / 2 and self.outbox.empty:
                self.outbox.send(wire.HEARTBEAT_FRAME)

    def _give_up(self, why: str) -> None:
        if why:
            self._report(f"closed, {why}")
        self._release()
        self.outbox.discard()
        self._end()
