"""A client without sockets: feeds frames to a Session and reads its output."""

from __future__ import annotations

from typing import Any, TypeVar

from pamqp import base, body, commands, frame, header

from msctl.broker.core.broker import Broker
from msctl.broker.core.limits import BrokerLimits
from msctl.broker.session.session import Session
from msctl.secret import Secret
from tests.support.clock import FakeClock

MEMORY = 1_000_000
Reply = TypeVar("Reply", bound=base.Frame)


def make_broker(
    clock: FakeClock | None = None, *, memory_limit: int = MEMORY, limits: BrokerLimits | None = None
) -> Broker:
    return Broker(
        clock=clock or FakeClock(),
        log=lambda _level, _text: None,
        users={"guest": Secret("guest")},
        vhosts=("/",),
        memory_limit=memory_limit,
        max_message_size=100_000,
        limits=limits,
    )


class Client:
    """Speaks to a session of its own at the broker; answers wait in `events` as (channel, frame)."""

    def __init__(self, broker: Broker, *, handshake: bool = True, **tuning: Any) -> None:
        self.broker = broker
        self.session = Session(broker, "a test")
        self.raw = b""
        self.events: list[tuple[int, Any]] = []
        if handshake:
            self.handshake(**tuning)

    def handshake(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        capabilities: dict[str, bool] | None = None,
        frame_max: int = 131_072,
        channel_max: int = 2047,
        heartbeat: int = 0,
        vhost: str = "/",
    ) -> None:
        self.feed(b"AMQP\x00\x00\x09\x01")
        wanted = ("consumer_cancel_notify", "connection.blocked", "authentication_failure_close")
        given = dict.fromkeys(wanted, True) if capabilities is None else capabilities
        properties: dict[str, Any] = {"capabilities": given}
        self.send(commands.Connection.StartOk(properties, "PLAIN", f"\0{user}\0{password}"), 0)
        self.send(commands.Connection.TuneOk(channel_max, frame_max, heartbeat), 0)
        self.send(commands.Connection.Open(vhost), 0)
        assert [type(event) for _, event in self.events] == [
            commands.Connection.Start,
            commands.Connection.Tune,
            commands.Connection.OpenOk,
        ]
        self.events.clear()

    def feed(self, data: bytes) -> None:
        """Bytes in, and everything done that follows from them."""
        self.session.receive(data)
        self.run()

    def run(self) -> None:
        while self.session.process(100):
            pass
        while self.broker.pump(1000):
            pass
        self.read()

    def read(self) -> None:
        data = self.session.take_output()
        self.session.outbox.written(writable=True)
        self.raw += data
        while self.raw:
            if self.raw.startswith(b"AMQP"):
                self.events.append((0, self.raw[:8]))
                self.raw = self.raw[8:]
                continue
            used, channel, event = frame.unmarshal(self.raw)
            self.raw = self.raw[used:]
            self.events.append((channel, event))

    def send(self, method: base.Frame, channel: int = 1) -> None:
        self.feed(frame.marshal(method, channel))

    def call(self, method: base.Frame, reply: type[Reply], channel: int = 1) -> Reply:
        """Send, and take the reply, which must be of this kind."""
        self.send(method, channel)
        return self.take(reply, channel)

    def take(self, kind: type[Reply], channel: int = 1) -> Reply:
        """Take the first event of this kind on the channel."""
        for at, (number, event) in enumerate(self.events):
            if number == channel and isinstance(event, kind):
                del self.events[at]
                return event
        raise AssertionError(f"no {kind.__name__} among {self.events}")

    def open(self, channel: int = 1) -> None:
        self.call(commands.Channel.Open(), commands.Channel.OpenOk, channel)

    def queue(self, name: str = "q", **arguments: Any) -> None:
        self.call(commands.Queue.Declare(queue=name, arguments=arguments), commands.Queue.DeclareOk)

    def publish_bytes(
        self,
        data: bytes,
        key: str = "q",
        *,
        exchange: str = "",
        channel: int = 1,
        mandatory: bool = False,
        frame_max: int = 131_072,
        **properties: Any,
    ) -> bytes:
        method = commands.Basic.Publish(exchange=exchange, routing_key=key, mandatory=mandatory)
        head = header.ContentHeader(0, len(data), commands.Basic.Properties(**properties))
        parts = [data[at : at + frame_max - 8] for at in range(0, len(data), frame_max - 8)]
        return b"".join(
            [frame.marshal(method, channel), frame.marshal(head, channel)]
            + [frame.marshal(body.ContentBody(part), channel) for part in parts]
        )

    def publish(self, data: bytes, key: str = "q", **options: Any) -> None:
        self.feed(self.publish_bytes(data, key, **options))

    def consume(self, queue: str = "q", *, tag: str = "c", no_ack: bool = False, **options: Any) -> None:
        self.call(
            commands.Basic.Consume(queue=queue, consumer_tag=tag, no_ack=no_ack, **options),
            commands.Basic.ConsumeOk,
        )

    def messages(self) -> list[tuple[int, bytes, bool]]:
        """Deliveries so far, taken out: tag, body, redelivered."""
        found: list[tuple[int, bytes, bool]] = []
        for _, event in self.events:
            if isinstance(event, commands.Basic.Deliver | commands.Basic.GetOk):
                found.append((event.delivery_tag or 0, b"", bool(event.redelivered)))
            elif isinstance(event, body.ContentBody):
                tag, before, redelivered = found[-1]
                found[-1] = (tag, before + (event.value or b""), redelivered)
        content = (
            commands.Basic.Deliver,
            commands.Basic.GetOk,
            header.ContentHeader,
            body.ContentBody,
        )
        self.events = [event for event in self.events if not isinstance(event[1], content)]
        return found

    def bodies(self) -> list[bytes]:
        return [data for _, data, _ in self.messages()]
