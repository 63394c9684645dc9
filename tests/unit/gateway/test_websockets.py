"""WebSockets pass without configuration, through either kind of upstream, frame by frame as sent."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from msctl.gateway.policies.deadline import Deadline, DeadlineTimer
from msctl.gateway.upstream.connection import Connection
from msctl.gateway.upstream.tunnel import Tunnel
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import Exchange, RecordingUpstream
from tests.support.waiting import until
from tests.unit.gateway.harness import KINDS, PATIENCE, Client, Harness, running

both = pytest.mark.parametrize("kind", KINDS)


@contextlib.asynccontextmanager
async def serving(
    kind: str, spec: GatewaySpec | None = None
) -> AsyncIterator[tuple[Harness, list[int | None]]]:
    closes: list[int | None] = []
    async with running(RouteSpec("/ws", "ws"), spec=spec) as gateway:
        app = web.Application()

        async def echo(request: web.Request) -> web.StreamResponse:
            socket = web.WebSocketResponse(
                protocols=("chat.v2", "chat.v1"), autoping=False, max_msg_size=0, compress=False
            )
            await socket.prepare(request)
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    if message.data == "close":
                        await socket.close(code=4001, message=b"as asked")
                        break
                    await socket.send_str(message.data)
                elif message.type is WSMsgType.BINARY:
                    await socket.send_bytes(message.data)
                elif message.type is WSMsgType.PING:
                    await socket.pong(message.data)
            closes.append(socket.close_code)
            return socket

        async def refuse(request: web.Request) -> web.Response:
            raise web.HTTPForbidden(text="not you")

        app.router.add_get("/ws", echo)
        app.router.add_get("/ws/refuse", refuse)
        await gateway.serve("ws", app, kind)
        yield gateway, closes


def url(gateway: Harness, path: str = "/ws") -> str:
    return f"http://127.0.0.1:{gateway.port}{path}"


@both
async def test_messages_of_any_size_pass_both_ways(kind: str) -> None:
    big = os.urandom(6 * 1024 * 1024)
    async with (
        serving(kind) as (gateway, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway), max_msg_size=0, compress=0) as socket,
    ):
        await socket.send_str("héllo")
        assert await socket.receive_str() == "héllo"
        await socket.send_bytes(big)
        assert await socket.receive_bytes() == big
        for number in range(50):
            await socket.send_str(str(number))
        assert [await socket.receive_str() for _ in range(50)] == [str(number) for number in range(50)]


@both
async def test_the_subprotocol_is_negotiated_end_to_end(kind: str) -> None:
    async with (
        serving(kind) as (gateway, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway), protocols=("chat.v1", "other")) as socket,
    ):
        assert socket.protocol == "chat.v1"


@both
async def test_a_pong_has_the_payload_of_its_ping(kind: str) -> None:
    async with (
        serving(kind) as (gateway, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway), autoping=False) as socket,
    ):
        await socket.ping(b"payload \x00\xff")
        message = await socket.receive()
        assert (message.type, bytes(message.data)) == (WSMsgType.PONG, b"payload \x00\xff")


@both
async def test_the_service_s_close_code_and_reason_arrive(kind: str) -> None:
    async with (
        serving(kind) as (gateway, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway)) as socket,
    ):
        await socket.send_str("close")
        message = await socket.receive()
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "as asked")


@both
async def test_the_client_s_close_code_arrives(kind: str) -> None:
    async with serving(kind) as (gateway, closes), aiohttp.ClientSession() as session:
        async with session.ws_connect(url(gateway)) as socket:
            await socket.close(code=4002, message=b"enough")
        async with asyncio.timeout(60):
            while not closes:
                await asyncio.sleep(0.01)
    assert closes == [4002]


@both
async def test_a_refused_upgrade_is_passed_on(kind: str) -> None:
    async with serving(kind) as (gateway, _), aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url(gateway, "/ws/refuse"))
        assert caught.value.status == 403
        async with session.get(url(gateway, "/ws/refuse")) as reply:
            assert await reply.text() == "not you"


@both
async def test_a_client_that_disconnects_closes_the_service_s_socket(kind: str) -> None:
    async with serving(kind) as (gateway, _):
        client = await gateway.client()
        await client.send(upgrade())
        assert (await client.head()).status == 101
        client.reset()
        async with asyncio.timeout(60):
            while gateway.gateway.targets()[0].in_flight:
                await asyncio.sleep(0.01)
        assert gateway.gateway.targets()[0].breaker == "closed"


@both
async def test_a_service_that_does_not_read_pauses_the_client(kind: str) -> None:
    frame = b"\x82\xff" + struct.pack("!Q", 65536) + bytes(4 + 65536)
    count, sent, go_on = 1024, 0, asyncio.Event()

    async def read_later(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await go_on.wait()
        for _ in range(count):
            await socket.receive_bytes()
        await socket.send_str("all of it")
        return socket

    async def upload(client: Client) -> None:
        nonlocal sent
        for _ in range(count):
            await client.send(frame)
            sent += len(frame)

    async with running(RouteSpec("/ws", "ws")) as gateway:
        app = web.Application()
        app.router.add_get("/ws", read_later)
        await gateway.serve("ws", app, kind)
        client = await gateway.client()
        await client.send(upgrade())
        assert (await client.head()).status == 101
        uploading = asyncio.create_task(upload(client))
        last, still = sent, 0
        while still < 50:
            await gateway.get("/ws/elsewhere")
            still = still + 1 if sent == last else 0
            last = sent
        # What lies between the two ends is socket buffers and a bounded rest.
        assert sent < 32 * 1024 * 1024
        go_on.set()
        await uploading
        assert await client.reader.readexactly(11) == b"\x81\x09all of it"


@both
async def test_draining_closes_both_ends_with_1001(kind: str) -> None:
    async with serving(kind) as (gateway, _), aiohttp.ClientSession() as session:
        socket = await session.ws_connect(url(gateway))
        await socket.send_str("hello")
        assert await socket.receive_str() == "hello"
        draining = asyncio.create_task(gateway.gateway.drain(5))
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 1001)
        await draining
        await socket.close()


def upgrade(path: str = "/ws", *fields: bytes) -> bytes:
    key = base64.b64encode(os.urandom(16))
    head = [
        f"GET {path} HTTP/1.1".encode(),
        b"Host: gateway.localhost",
        b"Connection: keep-alive, Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: " + key,
        *fields,
    ]
    return b"\r\n".join([*head, b"", b""])


@both
async def test_what_came_before_a_malformed_frame_is_still_answered(kind: str) -> None:
    async with serving(kind) as (gateway, _):
        client = await gateway.client()
        await client.send(upgrade())
        assert (await client.head()).status == 101
        # A text frame, and one with a reserved bit, in one write (Autobahn's case 3.2).
        await client.send(b"\x81\x82\0\0\0\0hi" + b"\xa1\x82\0\0\0\0no")
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readexactly(4) == b"\x81\x02hi"
            end = await client.reader.readexactly(4)
        assert (end[0], end[2:]) == (0x88, struct.pack("!H", 1002))
        client.close()


async def test_101_comes_only_after_the_upstream_s() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        asked.set()
        await go_on.wait()
        await exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: theirs\r\nSec-WebSocket-Extensions: x-ours; a=1\r\n\r\n\x81\x02hi"
        )
        await exchange.eof()

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/ws", "ws")) as gateway:
        gateway.announce("ws", upstream.url)
        client = await gateway.client()
        await client.send(upgrade("/ws", b"Sec-WebSocket-Extensions: x-ours; a=1; b"))
        await asked.wait()
        assert not client.reader._buffer  # type: ignore[attr-defined] # nothing may have been sent yet
        go_on.set()
        head = await client.head()
        assert (head.status, head.get("Upgrade"), head.get("Sec-WebSocket-Accept")) == (
            101,
            "websocket",
            "theirs",
        )
        # Extensions are between the two ends, and so are their frames.
        assert head.get("Sec-WebSocket-Extensions") == "x-ours; a=1"
        assert await client.reader.readexactly(4) == b"\x81\x02hi"
        odd = bytes([0xF2, 0x83, 1, 2, 3, 4, 9, 9, 9])  # reserved bits, an unknown opcode, a mask
        await client.send(odd)
        await upstream.exchanges[0].until_seen(odd)
    await upstream.stop()
    assert b"Sec-WebSocket-Extensions: x-ours; a=1; b\r\n" in upstream.received
    assert b"Connection: Upgrade\r\n" in upstream.received


@both
async def test_a_request_with_a_body_is_not_upgraded(kind: str) -> None:
    """The connection would switch in the middle of the body, for one of the two ends."""
    async with serving(kind) as (gateway, _):
        client = await gateway.client()
        await client.send(upgrade("/ws", b"Content-Length: 4") + b"body")
        assert (await client.reply()).status == 400  # aiohttp's, which sees no upgrade


async def test_what_a_client_sent_before_it_left_reaches_a_slow_upstream() -> None:
    read_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        await read_on.wait()
        await exchange.eof()

    upstream = await RecordingUpstream(script).start()
    loop = asyncio.get_running_loop()
    host, port = upstream.url.removeprefix("http://").split(":")
    _, connection = await loop.create_connection(lambda: Connection(loop), host, int(port))
    connection.begin("GET")
    connection.send(head := upgrade())
    await connection.head()
    with Deadline(DeadlineTimer(loop)) as deadline:
        tunnel = Tunnel(connection, deadline, 60)
        running = asyncio.create_task(tunnel.run(Stream()))
        await asyncio.sleep(0)
        piece, sent = b"\x82\xfe\xff\xffmask" + bytes(65535), 0
        transport = connection.transport
        assert transport is not None
        while transport.get_write_buffer_size() < len(piece):  # until the sockets take no more
            tunnel.data_received(piece)
            sent += len(piece)
        tunnel.eof_received()
        read_on.set()
        async with asyncio.timeout(PATIENCE):
            await running
            exchange = await upstream.connection()
            await exchange.closed.wait()
    assert len(exchange.received) - len(head) == sent
    await upstream.stop()


async def test_the_gateway_s_close_frame_is_sent_between_frames() -> None:
    switched = asyncio.Event()
    finish = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\xc2\x04ab"
        )
        switched.set()
        await finish.wait()
        await exchange.send(b"cd\x81\x01x")
        await exchange.until_seen_or_end(b"\x88")

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/ws", "ws")) as gateway:
        gateway.announce("ws", upstream.url)
        client = await gateway.client()
        await client.send(upgrade())
        await client.head()
        assert await client.reader.readexactly(4) == b"\xc2\x04ab"  # compressed
        draining = asyncio.create_task(gateway.gateway.drain(5))
        await asyncio.sleep(0)
        finish.set()
        assert await client.reader.readexactly(2) == b"cd"
        assert await client.reader.readexactly(4) == b"\x88\x02" + struct.pack("!H", 1001)
        await draining
    await upstream.stop()


@both
async def test_a_silent_websocket_stays_open(kind: str) -> None:
    """The idle timeout of requests is not one of WebSockets."""
    async with (
        serving(kind, GatewaySpec(idle_timeout=0.05)) as (gateway, _),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway)) as socket,
    ):
        await socket.send_str("first")
        assert await socket.receive_str() == "first"
        with pytest.raises(asyncio.TimeoutError):
            await socket.receive(timeout=0.3)
        await socket.send_str("second")
        assert await socket.receive_str() == "second"


@both
async def test_a_silent_websocket_is_closed_with_1001_if_a_key_says_so(kind: str) -> None:
    async with (
        serving(kind, GatewaySpec(stream_idle_timeout=0.1)) as (gateway, closes),
        aiohttp.ClientSession() as session,
        session.ws_connect(url(gateway)) as socket,
    ):
        await socket.receive(timeout=PATIENCE)
        assert socket.close_code == 1001
        await until(lambda: closes == [1001])


class Stream:
    """The raw stream of a client that reads everything."""

    writing_paused = False
    closed = False

    def write(self, data: bytes) -> None: ...

    async def drain(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None: ...


async def test_bytes_for_a_closed_upstream_are_dropped() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        exchange.close()

    upstream = await RecordingUpstream(script).start()
    loop = asyncio.get_running_loop()
    host, port = upstream.url.removeprefix("http://").split(":")
    _, connection = await loop.create_connection(lambda: Connection(loop), host, int(port))
    connection.begin("GET")
    connection.send(upgrade())
    await connection.head()
    async with asyncio.timeout(60):
        assert await connection.read() == b""
    with Deadline(DeadlineTimer(loop)) as deadline:
        tunnel = Tunnel(connection, deadline, 60)
        stream = Stream()
        await tunnel.run(stream)
        # What the server and the gateway's drain may still do before the relay has noticed.
        tunnel.data_received(b"\x81\x80mask")
        tunnel.close(1001)
        assert stream.closed
    await upstream.stop()
