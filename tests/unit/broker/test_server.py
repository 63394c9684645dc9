"""The broker over real sockets, with a real client and with misbehaving peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import aio_pika
import pytest
from aiormq.exceptions import AMQPError, ConnectionClosed
from pamqp import commands, frame

from msctl.broker.protocol import wire
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.errors import BrokerError
from tests.support.waiting import until
from tests.unit.broker.client import Client, make_broker
from tests.unit.broker.raw import Raw

MEMORY = 40_000_000


@pytest.fixture
async def server() -> AsyncIterator[BrokerServer]:
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None, memory_limit=MEMORY)
    yield server
    await server.stop(timeout=1.0)
    assert server.stats().connections == 0


@pytest.fixture
async def url(server: BrokerServer) -> str:
    host, port = await server.start("127.0.0.1", 0)
    return f"amqp://guest:guest@{host}:{port}/"


@pytest.fixture
async def channel(url: str) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
    connection = await aio_pika.connect(url)
    yield await connection.channel()
    try:
        await connection.close()
    except AMQPError:
        pass


async def find(server: BrokerServer, name: str) -> tuple[int, int, int]:
    """The queue's ready and unacknowledged messages and its consumers."""
    for queue in await server.queues():
        if queue.name == name:
            return queue.ready, queue.unacked, queue.consumers
    raise AssertionError(f"no queue {name}")


async def until_found(server: BrokerServer, name: str, *, ready: int, consumers: int = 0) -> None:
    async with asyncio.timeout(60):
        while (await find(server, name))[::2] != (ready, consumers):
            await asyncio.sleep(0)


async def test_message_is_published_and_consumed(
    server: BrokerServer, channel: aio_pika.abc.AbstractChannel
) -> None:
    queue = await channel.declare_queue("hello")
    await channel.default_exchange.publish(aio_pika.Message(b"Hello World!"), "hello")
    assert await find(server, "hello") == (1, 0, 0)
    message = await queue.get()
    assert (message.body, message.redelivered) == (b"Hello World!", False)
    assert await find(server, "hello") == (0, 1, 0)
    await message.ack()
    await until(lambda: server.stats().acked == 1)
    figures = server.stats()
    assert (figures.connections, figures.channels, figures.messages, figures.memory_bytes) == (1, 1, 0, 0)
    assert (figures.published, figures.delivered, figures.acked) == (1, 1, 1)


async def test_large_message_arrives_complete(channel: aio_pika.abc.AbstractChannel) -> None:
    queue = await channel.declare_queue("large")
    body = bytes(range(256)) * 20_000
    await channel.default_exchange.publish(aio_pika.Message(body), "large")
    message = await queue.get(no_ack=True)
    assert message.body == body


async def test_stopping_closes_connections_with_320_and_frees_the_port(
    server: BrokerServer, url: str
) -> None:
    connection = await aio_pika.connect(url)
    reasons: list[BaseException | None] = []
    connection.close_callbacks.add(lambda _sender, reason: reasons.append(reason))
    raw = await Raw.connect(url)

    async def agree() -> None:
        assert isinstance(await raw.read(), commands.Connection.Close)
        raw.write(commands.Connection.CloseOk(), 0)

    await asyncio.gather(server.stop(), agree())
    await until(lambda: bool(reasons))
    assert isinstance(reasons[0], ConnectionClosed) and "CONNECTION_FORCED" in str(reasons[0])
    await server.stop()
    await raw.close()
    port = int(url.rsplit(":", 1)[1].strip("/"))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


async def test_stopping_does_not_wait_for_a_silent_client(server: BrokerServer, url: str) -> None:
    silent = await Raw.connect(url)
    async with asyncio.timeout(60):
        await server.stop(timeout=0.1)
    await silent.close()


async def test_port_in_use_raises_oserror(server: BrokerServer, url: str) -> None:
    other = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None)
    with pytest.raises(OSError, match="in use"):
        await other.start("127.0.0.1", int(url.rsplit(":", 1)[1].strip("/")))
    await other.stop()


async def test_operator_can_purge_and_delete_queues(
    server: BrokerServer, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.declare_queue("q")
    for _ in range(3):
        await channel.default_exchange.publish(aio_pika.Message(b"m"), "q")
    assert server.purge("q") == 3
    await channel.default_exchange.publish(aio_pika.Message(b"m"), "q")
    assert server.delete("q") == 1
    for action in (server.purge, server.delete):
        with pytest.raises(BrokerError, match="no queue 'q'"):
            action("q")


async def test_messages_expire_by_the_loops_clock(
    server: BrokerServer, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.declare_queue("q", arguments={"x-message-ttl": 60_000})
    await channel.declare_queue("quick", arguments={"x-message-ttl": 20})
    for name in ("q", "quick"):
        await channel.default_exchange.publish(aio_pika.Message(b"m"), name)
    await until_found(server, "quick", ready=0)
    assert (await find(server, "q"))[0] == 1


async def test_direct_reply_reaches_the_requester(url: str) -> None:
    async with await aio_pika.connect(url) as client, await aio_pika.connect(url) as service:
        asking, serving = await client.channel(), await service.channel()
        requests = await serving.declare_queue("rpc")

        async def serve(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            reply = aio_pika.Message(message.body.upper())
            await serving.default_exchange.publish(reply, message.reply_to or "")

        await requests.consume(serve, no_ack=True)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        replies = await asking.get_queue("amq.rabbitmq.reply-to", ensure=False)

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            answer.set_result(message.body)

        await replies.consume(take, no_ack=True)
        request = aio_pika.Message(b"hello", reply_to="amq.rabbitmq.reply-to")
        await asking.default_exchange.publish(request, "rpc")
        assert await asyncio.wait_for(answer, 60) == b"HELLO"


# --- peers that behave badly ---


async def test_confirm_does_not_wait_for_the_rest_of_the_next_message() -> None:
    server = BrokerServer(clock=SystemClock(), log=lambda _level, _text: None, tick=3600.0)
    host, port = await server.start("127.0.0.1", 0)
    raw = await Raw.connect(f"amqp://{host}:{port}/")
    raw.write(commands.Confirm.Select())
    assert isinstance(await raw.read(), commands.Confirm.SelectOk)
    message = Client(make_broker(), handshake=False).publish_bytes(b"m", "nowhere")
    for part, confirmed in ((message * 2 + message[:-1], 2), (message[-1:], 3)):
        raw.writer.write(part)
        last = 0
        async with asyncio.timeout(60):
            while last < confirmed:
                ack = await raw.read()
                assert isinstance(ack, commands.Basic.Ack)
                last = ack.delivery_tag
    await raw.close()
    await server.stop(timeout=1.0)


async def test_garbage_closes_its_connection_only(
    server: BrokerServer, url: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    web = await Raw.dial(url)
    web.writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await web.reader.read() == wire.PROTOCOL_HEADER
    await web.close()
    broken = await Raw.connect(url)
    broken.writer.write(b"\x01\x00\x01\x00\x00\x00\x01\x00\x00")
    close = await broken.read()
    assert isinstance(close, commands.Connection.Close) and close.reply_code == 501
    await broken.close()
    await channel.declare_queue("fine")
    await until(lambda: server.stats().connections == 1)


async def test_vanished_clients_leave_nothing_behind(server: BrokerServer, url: str) -> None:
    whole = Client(make_broker())
    whole.open()
    script = (
        wire.PROTOCOL_HEADER
        + frame.marshal(commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest"), 0)
        + frame.marshal(commands.Connection.TuneOk(2047, 131072, 0), 0)
        + frame.marshal(commands.Connection.Open("/"), 0)
        + frame.marshal(commands.Channel.Open(), 1)
        + frame.marshal(commands.Queue.Declare(queue="mine", exclusive=True), 1)
        + frame.marshal(commands.Basic.Consume(queue="mine"), 1)
        + whole.publish_bytes(b"m" * 100, "mine")
    )
    for cut in range(0, len(script), 7):
        raw = await Raw.dial(url)
        raw.writer.write(script[:cut])
        await raw.writer.drain()
        raw.writer.transport.abort()
    await until(lambda: server.stats().connections == 0)
    figures = server.stats()
    assert (await server.queues(), figures.messages, figures.memory_bytes) == ((), 0, 0)


async def test_publishing_without_consumers_stops_at_the_memory_limit(
    server: BrokerServer, url: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    queue = await channel.declare_queue("flood")
    other = await channel.declare_queue("other")
    publisher = await Raw.connect(url)
    batch = Client(make_broker()).publish_bytes(b"tiny", "flood") * 1000

    async def flood() -> None:
        for _ in range(1000):
            publisher.writer.write(batch)
            await publisher.writer.drain()

    flooding = asyncio.create_task(flood())
    await until(lambda: server.stats().blocked, 60)
    figures = server.stats()
    assert MEMORY < figures.memory_bytes < MEMORY + 1_000_000
    assert figures.messages < 300_000
    # The one who floods waits; whoever takes messages is served.
    message = await queue.get(no_ack=True)
    assert message.body == b"tiny"
    assert await other.get(fail=False) is None
    flooding.cancel()
    publisher.writer.transport.abort()
    server.purge("flood")
    assert server.stats().messages == 0
    await until(lambda: not server.stats().blocked)


async def test_consumer_that_does_not_read_is_bounded_and_blocks_no_one(
    server: BrokerServer, url: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    await channel.declare_queue("stuck")
    stuck = await Raw.connect(url)
    stuck.write(commands.Basic.Consume(queue="stuck", no_ack=True))
    sock = stuck.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await until_found(server, "stuck", ready=0, consumers=1)
    body = b"x" * 10_000
    for _ in range(1500):
        await channel.default_exchange.publish(aio_pika.Message(body), "stuck")
    ready, _, _ = await find(server, "stuck")
    assert ready > 500, "what it does not read stays in the queue, not in a buffer"
    working = await channel.declare_queue("working")
    await channel.default_exchange.publish(aio_pika.Message(b"m"), "working")
    assert (await working.get(no_ack=True)).body == b"m"
    await stuck.close()
    await until(lambda: server.stats().channels == 1)


async def test_loop_stays_responsive_under_load(
    server: BrokerServer, url: str, channel: aio_pika.abc.AbstractChannel
) -> None:
    """Not a measurement: no single turn may carry out everything that has come."""
    await channel.declare_queue("busy")
    publisher = await Raw.connect(url)
    batch = Client(make_broker()).publish_bytes(b"tiny", "busy") * 3000
    turns = 0
    publisher.writer.write(batch)
    while server.stats().published < 3000:
        turns += 1
        await asyncio.sleep(0)
    assert turns > 5
    await publisher.close()
