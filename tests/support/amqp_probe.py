"""A small AMQP 0-9-1 client that hides nothing: tests see every reply, in order, as it was sent.

Client libraries retry, reorder and translate; what a broker really said can only be compared below
them. Frames come from pamqp; only content (header and bodies) is put together into `Message`.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from urllib.parse import unquote, urlsplit

from pamqp import base, commands, frame, header
from pamqp.body import ContentBody
from pamqp.exceptions import UnmarshalingException
from pamqp.heartbeat import Heartbeat

PATIENCE = 60.0
"""Seconds after which an answer that does not come fails the test; none of them waits for it to pass."""

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
CAPABILITIES = {
    "authentication_failure_close": True,
    "basic.nack": True,
    "connection.blocked": True,
    "consumer_cancel_notify": True,
    "exchange_exchange_bindings": True,
    "publisher_confirms": True,
}

Table = dict[str, Any]
Reply = TypeVar("Reply", bound=base.Frame)


@dataclass(unsafe_hash=True)
class ChannelClosed(Exception):  # noqa: N818 - it is an answer as much as an error
    """The server closed the channel: a channel.close with exactly these fields."""

    code: int
    text: str
    class_id: int
    method_id: int


@dataclass(unsafe_hash=True)
class ConnectionClosed(Exception):  # noqa: N818
    """The server closed the connection: a connection.close with exactly these fields."""

    code: int
    text: str
    class_id: int
    method_id: int


@dataclass(frozen=True)
class Message:
    """A method that carries content (deliver, get-ok, return), with the properties that were set."""

    method: commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return
    properties: Table
    body: bytes
    raw_header: bytes = field(repr=False, default=b"")

    @property
    def tag(self) -> int:
        assert not isinstance(self.method, commands.Basic.Return)
        return self.method.delivery_tag or 0

    @property
    def redelivered(self) -> bool:
        assert not isinstance(self.method, commands.Basic.Return)
        return self.method.redelivered

    @property
    def headers(self) -> Table:
        return cast(Table, self.properties.get("headers", {}))


@dataclass(frozen=True)
class Unknown:
    """A frame that the codec does not know (access.request-ok, for one)."""

    kind: int
    payload: bytes


Event = base.Frame | Message | Heartbeat | Unknown


@dataclass(frozen=True)
class Server:
    """What the server said before the connection was open."""

    start: commands.Connection.Start
    tune: commands.Connection.Tune


class Probe:
    """One connection. Events wait in the order of arrival until somebody takes them."""

    server: Server

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._events: list[tuple[int, Event]] = []
        self._arrived = asyncio.Event()
        self._ended = False
        self._refused = False
        self._content: dict[int, _Content] = {}
        self._task = asyncio.create_task(self._read(), name="amqp-probe")
        self._next_channel = 1
        self.largest_frame = 0
        self.confirmed = 0
        self._confirming: Channel | None = None
        self.leftover = b""
        """The protocol header, where the server answered with one."""

    # --- opening and closing ---

    @classmethod
    async def dial(cls, url: str) -> Probe:
        """A TCP connection on which nothing has been said yet."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        user: str | None = None,
        password: str | None = None,
        vhost: str = "/",
        channel_max: int = 2047,
        frame_max: int = 131072,
        heartbeat: int = 0,
        capabilities: Table | None = None,
        mechanism: str = "PLAIN",
        response: str | None = None,
    ) -> Probe:
        """Connect, log in and open; raises ConnectionClosed or EOFError where the server refuses."""
        parts = urlsplit(url)
        probe = await cls.dial(url)
        user = unquote(parts.username or "guest") if user is None else user
        password = unquote(parts.password or "guest") if password is None else password
        properties: Any = {
            "product": "probe",
            "capabilities": CAPABILITIES if capabilities is None else capabilities,
        }
        try:
            probe.write(header.ProtocolHeader().marshal())
            start = await probe.expect(commands.Connection.Start)
            answer = f"\0{user}\0{password}" if response is None else response
            probe.send(commands.Connection.StartOk(properties, mechanism, answer, "en_US"))
            tune = await probe.expect(commands.Connection.Tune)
            probe.server = Server(start, tune)
            probe.send(commands.Connection.TuneOk(channel_max, frame_max, heartbeat))
            probe.send(commands.Connection.Open(vhost))
            await probe.expect(commands.Connection.OpenOk)
        except BaseException:
            await probe.drop()
            raise
        return probe

    async def close(self) -> None:
        """Close in order, unless the server has gone already or said that it will."""
        if not (self._ended or self._refused):
            with contextlib.suppress(EOFError, ConnectionClosed):
                self.send(commands.Connection.Close(200, "bye", 0, 0))
                await self._take(lambda number, event: isinstance(event, commands.Connection.CloseOk))
        await self.drop()

    async def drop(self) -> None:
        """Close the socket without a word."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._task

    async def eof(self) -> None:
        """Wait for the server to close its end."""
        await asyncio.wait_for(asyncio.shield(self._task), PATIENCE)

    async def channel(self, number: int | None = None) -> Channel:
        if number is None:
            number = self._next_channel
            self._next_channel += 1
        channel = Channel(self, number)
        await channel.rpc(commands.Channel.Open(), commands.Channel.OpenOk)
        return channel

    async def confirming(self) -> Channel:
        """A channel in confirm mode, kept for `put`."""
        if self._confirming is None:
            self._confirming = await self.channel(2000)
            await self._confirming.confirms()
        return self._confirming

    # --- out ---

    def write(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        await self._writer.drain()

    def send(self, method: base.Frame | Heartbeat, channel: int = 0) -> None:
        self._writer.write(frame.marshal(method, channel))

    def send_raw(self, kind: int, channel: int, payload: bytes, *, end: bytes = b"\xce") -> None:
        """One frame, whatever is in it."""
        self._writer.write(struct.pack(">BHI", kind, channel, len(payload)) + payload + end)

    def send_method(self, channel: int, class_id: int, method_id: int, arguments: bytes = b"") -> None:
        """A method frame whose arguments are already bytes."""
        self.send_raw(METHOD, channel, struct.pack(">HH", class_id, method_id) + arguments)

    # --- in ---

    async def next(self, channel: int = 0) -> Event:
        """The next event on this channel; raises EOFError when the server has gone."""
        return (await self._take(lambda number, _: number == channel))[1]

    async def expect(self, kind: type[Reply], channel: int = 0) -> Reply:
        """The next event on the channel, which must be of this kind."""
        event = await self.next(channel)
        self._raise_if_closed(channel, event)
        assert isinstance(event, kind), f"{kind.__name__} was expected, not {show(event)}"
        return event

    async def closed(self, channel: int = 0) -> ChannelClosed | ConnectionClosed:
        """The next event on this channel or channel 0, which must be a close; it is answered."""
        _, event = await self._take(
            lambda number, event: number == channel or isinstance(event, commands.Connection.Close)
        )
        try:
            self._raise_if_closed(channel, event)
        except (ChannelClosed, ConnectionClosed) as closed:
            return closed
        raise AssertionError(f"a close was expected, not {show(event)}")

    def seen(self) -> list[str]:
        """What has arrived and nobody took, for messages of failed tests."""
        return [f"{number}: {show(event)}" for number, event in self._events]

    def _raise_if_closed(self, channel: int, event: Event) -> None:
        if isinstance(event, commands.Connection.Close):
            self._refused = True
            self.send(commands.Connection.CloseOk())
            raise ConnectionClosed(*_fields(event))
        if isinstance(event, commands.Channel.Close):
            self.send(commands.Channel.CloseOk(), channel)
            raise ChannelClosed(*_fields(event))

    async def _take(self, wanted: Callable[[int, Event], bool]) -> tuple[int, Event]:
        async with asyncio.timeout(PATIENCE):
            while True:
                for index, (number, event) in enumerate(self._events):
                    if wanted(number, event):
                        return self._events.pop(index)
                if self._ended:
                    raise EOFError(f"the server closed the connection; untaken: {self.seen()}")
                self._arrived.clear()
                await self._arrived.wait()

    async def _read(self) -> None:
        try:
            while True:
                head = await self._reader.readexactly(7)
                if head[:4] == b"AMQP":
                    self.leftover = head + await self._reader.readexactly(1)
                    await self._reader.read()
                    return
                kind, channel, size = struct.unpack(">BHI", head)
                payload = await self._reader.readexactly(size + 1)
                self.largest_frame = max(self.largest_frame, len(head) + len(payload))
                assert payload[-1:] == b"\xce"
                self._take_frame(kind, channel, head + payload)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._ended = True
            self._arrived.set()

    def _take_frame(self, kind: int, channel: int, data: bytes) -> None:
        try:
            event = Heartbeat() if kind == HEARTBEAT else frame.unmarshal(data)[2]
        except UnmarshalingException:
            self._put(channel, Unknown(kind, data[7:-1]))
            return
        if isinstance(event, commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return):
            self._content[channel] = _Content(event)
            return
        if isinstance(event, header.ContentHeader):
            self._content[channel].head(event, data[7:-1])
        elif isinstance(event, ContentBody):
            self._content[channel].bodies.append(event.value)
        else:
            assert isinstance(event, base.Frame | Heartbeat)
            self._put(channel, event)
            return
        message = self._content[channel].message()
        if message is not None:
            del self._content[channel]
            self._put(channel, message)

    def _put(self, channel: int, event: Event) -> None:
        self._events.append((channel, event))
        self._arrived.set()


class Channel:
    """One channel of a probe: requests that return the server's reply or raise what it closed with."""

    def __init__(self, probe: Probe, number: int) -> None:
        self.probe = probe
        self.number = number

    # --- anything ---

    def send(self, method: base.Frame) -> None:
        self.probe.send(method, self.number)

    async def next(self) -> Event:
        return await self.probe.next(self.number)

    async def expect(self, kind: type[Reply]) -> Reply:
        return await self.probe.expect(kind, self.number)

    async def rpc(self, method: base.Frame, reply: type[Reply]) -> Reply:
        """Send and return the next event, which must be this reply."""
        self.send(method)
        event = await self.probe._take(
            lambda number, event: number == self.number or isinstance(event, commands.Connection.Close)
        )
        self.probe._raise_if_closed(self.number, event[1])
        assert isinstance(event[1], reply), f"{reply.__name__} was expected, not {show(event[1])}"
        return event[1]

    async def refused(self, method: base.Frame) -> ChannelClosed | ConnectionClosed:
        """Send what the server must refuse; what it closed with."""
        self.send(method)
        return await self.closed()

    async def closed(self) -> ChannelClosed | ConnectionClosed:
        """The next event must close the channel or the connection."""
        return await self.probe.closed(self.number)

    async def close(self) -> None:
        await self.rpc(commands.Channel.Close(200, "bye", 0, 0), commands.Channel.CloseOk)

    async def settled(self, queue: str) -> None:
        """The queue answers, and has sent this channel nothing before.

        The answer comes after whatever the queue sent, but RabbitMQ's queues answer questions
        before they take in messages: `put` those whose absence is to be seen.
        """
        await self.declare(queue, passive=True)

    # --- queues ---

    async def declare(
        self,
        name: str = "",
        *,
        passive: bool = False,
        durable: bool = False,
        exclusive: bool = False,
        auto_delete: bool = False,
        arguments: Table | None = None,
    ) -> commands.Queue.DeclareOk:
        return await self.rpc(
            declare(
                name,
                passive=passive,
                durable=durable,
                exclusive=exclusive,
                auto_delete=auto_delete,
                arguments=arguments,
            ),
            commands.Queue.DeclareOk,
        )

    async def queue(self, name: str = "", *, durable: bool = False, **arguments: Any) -> str:
        """A queue of this connection alone; `x_message_ttl=5` is the argument x-message-ttl."""
        table = {key.replace("_", "-"): value for key, value in arguments.items()}
        ok = await self.declare(name, exclusive=True, durable=durable, arguments=table)
        return ok.queue or ""

    async def exchange(self, name: str, kind: str = "direct", **options: Any) -> str:
        await self.rpc(declare_exchange(name, kind, **options), commands.Exchange.DeclareOk)
        return name

    async def bind(self, queue: str, exchange: str, key: str = "", arguments: Table | None = None) -> None:
        method = commands.Queue.Bind(0, queue, exchange, key, False, arguments or {})
        await self.rpc(method, commands.Queue.BindOk)

    async def counts(self, queue: str) -> tuple[int, int]:
        """Messages that are ready, and consumers."""
        ok = await self.declare(queue, passive=True)
        return ok.message_count or 0, ok.consumer_count or 0

    async def delete(self, queue: str) -> int:
        return (await self.rpc(commands.Queue.Delete(0, queue), commands.Queue.DeleteOk)).message_count or 0

    # --- messages ---

    def publish(
        self,
        body: bytes = b"",
        key: str = "",
        *,
        exchange: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        headers: Table | None = None,
        **properties: Any,
    ) -> None:
        """basic.publish with its content; `properties` are those of Basic.Properties."""
        self.send(commands.Basic.Publish(0, exchange, key, mandatory, immediate))
        self.content(body, commands.Basic.Properties(headers=headers, **properties))

    async def put(
        self,
        key: str,
        *bodies: bytes,
        exchange: str = "",
        headers: Table | None = None,
        **properties: Any,
    ) -> None:
        """Publish on another channel of the connection; return when every queue took or refused them."""
        channel = await self.probe.confirming()
        pending = set()
        for body in bodies:
            channel.publish(body, key, exchange=exchange, headers=headers, **properties)
            self.probe.confirmed += 1
            pending.add(self.probe.confirmed)
        while pending:
            event = await channel.next()
            self.probe._raise_if_closed(channel.number, event)
            assert isinstance(event, commands.Basic.Ack | commands.Basic.Nack), show(event)
            tag = event.delivery_tag or 0
            pending -= set(range(1, tag + 1)) if event.multiple else {tag}

    def content(self, body: bytes, properties: commands.Basic.Properties | None = None) -> None:
        """A content header and as many body frames as it takes."""
        head = header.ContentHeader(0, len(body), properties or commands.Basic.Properties())
        self.probe.write(frame.marshal(head, self.number))
        for start in range(0, len(body), 131064):
            self.probe.send_raw(BODY, self.number, body[start : start + 131064])

    async def get(self, queue: str, *, no_ack: bool = False) -> Message | None:
        """basic.get; None for get-empty."""
        self.send(commands.Basic.Get(0, queue, no_ack))
        event = await self.probe.next(self.number)
        self.probe._raise_if_closed(self.number, event)
        if isinstance(event, commands.Basic.GetEmpty):
            return None
        assert isinstance(event, Message), f"a message was expected, not {show(event)}"
        return event

    async def take(self, queue: str) -> Message:
        """basic.get without ack, of a queue that must have a message."""
        message = await self.get(queue, no_ack=True)
        assert message is not None, f"{queue} is empty"
        return message

    async def bodies(self, queue: str) -> list[bytes]:
        """All that is ready in the queue, taken out of it."""
        found = []
        while (message := await self.get(queue, no_ack=True)) is not None:
            found.append(message.body)
        return found

    async def consume(
        self,
        queue: str,
        tag: str = "",
        *,
        no_ack: bool = False,
        exclusive: bool = False,
        no_local: bool = False,
        arguments: Table | None = None,
    ) -> str:
        method = commands.Basic.Consume(0, queue, tag, no_local, no_ack, exclusive, False, arguments or {})
        return (await self.rpc(method, commands.Basic.ConsumeOk)).consumer_tag or ""

    async def message(self) -> Message:
        """The next event on the channel, which must be a message."""
        event = await self.next()
        self.probe._raise_if_closed(self.number, event)
        assert isinstance(event, Message), f"a message was expected, not {show(event)}"
        return event

    async def messages(self, count: int) -> list[bytes]:
        """The bodies of the next `count` messages."""
        return [(await self.message()).body for _ in range(count)]

    def ack(self, tag: int = 0, *, multiple: bool = False) -> None:
        self.send(commands.Basic.Ack(tag, multiple))

    def nack(self, tag: int = 0, *, multiple: bool = False, requeue: bool = True) -> None:
        self.send(commands.Basic.Nack(tag, multiple, requeue))

    def reject(self, tag: int, *, requeue: bool = True) -> None:
        self.send(commands.Basic.Reject(tag, requeue))

    async def qos(self, count: int, *, shared: bool = False) -> None:
        await self.rpc(commands.Basic.Qos(0, count, shared), commands.Basic.QosOk)

    async def confirms(self) -> None:
        await self.rpc(commands.Confirm.Select(False), commands.Confirm.SelectOk)

    async def outcomes(self, last: int) -> dict[int, str]:
        """`ack` or `nack` for every publish up to number `last`."""
        known: dict[int, str] = {}
        while len(known) < last:
            event = await self.next()
            self.probe._raise_if_closed(self.number, event)
            assert isinstance(event, commands.Basic.Ack | commands.Basic.Nack), show(event)
            word = "ack" if isinstance(event, commands.Basic.Ack) else "nack"
            tag = event.delivery_tag or 0
            first = min(set(range(1, tag + 1)) - known.keys()) if event.multiple else tag
            known |= {one: word for one in range(first, tag + 1) if one not in known}
        return dict(sorted(known.items()))


class _Content:
    """A message whose frames are still arriving."""

    def __init__(self, method: commands.Basic.Deliver | commands.Basic.GetOk | commands.Basic.Return) -> None:
        self._method = method
        self._head: header.ContentHeader | None = None
        self._raw = b""
        self.bodies: list[bytes] = []

    def head(self, head: header.ContentHeader, raw: bytes) -> None:
        self._head, self._raw = head, raw

    def message(self) -> Message | None:
        if self._head is None or sum(map(len, self.bodies)) < self._head.body_size:
            return None
        # The codec sends an empty cluster-id (reserved since 0-9) with every message.
        properties: Any = {
            name: value
            for name, value in self._head.properties
            if value is not None and (name, value) != ("cluster_id", "")
        }
        return Message(self._method, properties, b"".join(self.bodies), self._raw)


def declare(
    name: str = "",
    *,
    passive: bool = False,
    durable: bool = False,
    exclusive: bool = False,
    auto_delete: bool = False,
    nowait: bool = False,
    arguments: Table | None = None,
) -> commands.Queue.Declare:
    """queue.declare, for `refused`."""
    return commands.Queue.Declare(
        0, name, passive, durable, exclusive, auto_delete, nowait, cast(Any, arguments or {})
    )


def declare_bytes(name: bytes, *, passive: bool = False) -> bytes:
    """The arguments of a queue.declare (exclusive, or passive), for names that the codec refuses."""
    return b"\x00\x00" + bytes([len(name)]) + name + (b"\x01" if passive else b"\x04") + bytes(4)


def declare_exchange(
    name: str,
    kind: str = "direct",
    *,
    passive: bool = False,
    durable: bool = False,
    auto_delete: bool = False,
    internal: bool = False,
    nowait: bool = False,
    arguments: Table | None = None,
) -> commands.Exchange.Declare:
    """exchange.declare, for `refused`."""
    return commands.Exchange.Declare(
        0, name, kind, passive, durable, auto_delete, internal, nowait, cast(Any, arguments or {})
    )


def _fields(close: commands.Connection.Close | commands.Channel.Close) -> tuple[int, str, int, int]:
    return close.reply_code or 0, close.reply_text, close.class_id or 0, close.method_id or 0


def show(event: object) -> str:
    """An event with its fields, for a failed assertion."""
    if isinstance(event, base.Frame):
        return f"{event.name}({', '.join(f'{name}={value!r}' for name, value in event)})"
    return repr(event)
