"""Compressed messages between a client and an ASGI application (RFC 7692), frame by frame."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from msctl.model.websocket_spec import WebSocketSpec
from tests.support.hosted import Hosted, hosted
from tests.support.websocket_client import BINARY, CLOSE, KEY, PING, PONG, RSV1, TEXT, Client, connected

VERSION = "Sec-WebSocket-Version: 13"
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
TAIL = b"\x00\x00\xff\xff"


class Codec:
    """A client's side of the compression."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(wbits=-12)
        self._inflate = zlib.decompressobj(-12)

    def compress(self, data: bytes) -> bytes:
        return (self._deflate.compress(data) + self._deflate.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)

    def decompress(self, data: bytes) -> bytes:
        return self._inflate.decompress(data + TAIL)


class Echo:
    """Echoes; keeps the message that ended it."""

    def __init__(self) -> None:
        self.end: dict[str, Any] = {}
        self.received = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                self.received += 1
                await send({**message, "type": "websocket.send"})
            self.end = message


def application(serve: Callable[[Any, Any], Awaitable[None]]) -> Any:
    """An application that accepts a WebSocket, and then is `serve`."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await serve(receive, send)

    return app


@asynccontextmanager
async def compressing(
    app: Any, offer: str = OFFER, websocket: WebSocketSpec | None = None
) -> AsyncIterator[tuple[Hosted, Client, Codec]]:
    async with connected(app, KEY, VERSION, offer, websocket=websocket) as (served, client):
        assert client.answer.status == 101
        assert client.answer["sec-websocket-extensions"] is not None
        yield served, client, Codec()


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ([], None),
        (["x-unknown; a=1"], None),
        (["permessage-deflate; server_max_window_bits=99"], None),
        (
            ["x-unknown", "permessage-deflate; client_max_window_bits"],
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
        ),
    ],
)
async def test_handshake_agrees_on_an_offer_or_declines_it(offers: list[str], answer: str | None) -> None:
    fields = [f"Sec-WebSocket-Extensions: {offer}" for offer in offers]
    async with connected(Echo(), KEY, VERSION, *fields) as (_, client):
        assert (client.answer.status, client.answer["sec-websocket-extensions"]) == (101, answer)
        client.send(TEXT, b"hello")
        first, payload = await client.frame()
        assert (bool(first & RSV1), first & 0x0F) == (answer is not None, TEXT)
        assert (Codec().decompress(payload) if answer else payload) == b"hello"


async def test_malformed_offer_is_a_400() -> None:
    async with connected(Echo(), KEY, VERSION, "Sec-WebSocket-Extensions: permessage-deflate;") as (
        _,
        client,
    ):
        assert client.answer.status == 400


async def test_refused_handshake_agrees_on_nothing() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    async with connected(refuse, KEY, VERSION, OFFER) as (_, client):
        assert (client.answer.status, client.answer["sec-websocket-extensions"]) == (403, None)


async def test_text_bytes_and_fragments_are_exchanged() -> None:
    async with compressing(Echo()) as (_, client, codec):
        for opcode, data in ((TEXT, "grün".encode()), (BINARY, os.urandom(70_000)), (TEXT, b"grey")):
            client.send(RSV1 | opcode, codec.compress(data))
            first, payload = await client.frame()
            assert (first, codec.decompress(payload)) == (0x80 | RSV1 | opcode, data)
        whole = codec.compress(b"in two parts")
        client.send(RSV1 | TEXT, whole[:5], final=False)
        client.send(PING, b"payload")
        assert await client.receive() == (PONG, b"payload")
        client.send(0, whole[5:])
        assert codec.decompress((await client.frame())[1]) == b"in two parts"
        client.send(BINARY, b"as it is")
        assert codec.decompress((await client.frame())[1]) == b"as it is"


async def test_what_was_sent_before_is_referred_to_unless_agreed_otherwise() -> None:
    data = os.urandom(1000)
    for offer, keeps in ((OFFER, True), (f"{OFFER}; server_no_context_takeover", False)):
        async with compressing(Echo(), offer) as (_, client, _):
            sizes = []
            for _ in range(2):
                client.send(BINARY, data)
                sizes.append(len((await client.frame())[1]))
            assert (sizes[1] < 100) == keeps


async def test_empty_message_is_not_compressed() -> None:
    async with compressing(Echo()) as (_, client, codec):
        client.send(RSV1 | TEXT, codec.compress(b""))
        assert await client.receive() == (TEXT, b"")


async def test_another_implementation_exchanges_messages() -> None:
    message = "hello " * 50_000
    async with (
        hosted(Echo()) as served,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"http://127.0.0.1:{served.port}/", compress=15) as socket,
    ):
        assert socket.compress == 12
        for _ in range(3):
            await socket.send_str(message)
            assert await socket.receive_str() == message


@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (RSV1 | TEXT, b"\xff\xff\xff", 1007),
        (RSV1 | TEXT, Codec().compress(b"\xff"), 1007),
        (RSV1 | BINARY, Codec().compress(bytes(100_001)), 1009),
        (RSV1 | BINARY, Codec().compress(bytes(100_000_000)), 1009),
        (RSV1 | PING, b"", 1002),
    ],
)
async def test_broken_message_closes(opcode: int, payload: bytes, code: int) -> None:
    echo = Echo()
    async with compressing(echo, websocket=WebSocketSpec(max_size=100_000)) as (served, client, _):
        client.send(opcode, payload)
        client.send(TEXT, b"after it")
        assert (await client.closed())[0] == code
        assert not served.errors()
    assert (echo.received, echo.end["type"], echo.end["code"]) == (0, "websocket.disconnect", code)


async def test_client_of_a_broken_message_is_not_reset_while_it_sends() -> None:
    async with compressing(Echo()) as (_, client, _):
        client.send(RSV1 | TEXT, b"\xff\xff\xff")
        assert (await client.receive())[0] == CLOSE
        for _ in range(20):
            client.send(BINARY, bytes(50_000))
            await client.writer.drain()
        client.send(CLOSE, b"")
        assert await client.rest() == b""


async def test_compression_that_is_switched_off_is_not_agreed_on() -> None:
    spec = WebSocketSpec(compression=False)
    async with connected(Echo(), KEY, VERSION, OFFER, websocket=spec) as (_, client):
        assert (client.answer.status, client.answer["sec-websocket-extensions"]) == (101, None)
        client.send(TEXT, b"hello")
        assert await client.receive() == (TEXT, b"hello")


async def test_compressed_frame_that_was_not_agreed_on_closes_with_1002() -> None:
    async with connected(Echo()) as (_, client):
        client.send(RSV1 | TEXT, Codec().compress(b"hello"))
        assert (await client.closed())[0] == 1002


class Turns:
    """Counts the turns of the loop while it is entered."""

    def __init__(self) -> None:
        self.count = 0

    async def __aenter__(self) -> Turns:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            self.count += 1
            await asyncio.sleep(0)


async def test_loop_turns_while_a_long_message_is_compressed() -> None:
    turns = Turns()

    async def serve(receive: Any, send: Any) -> None:
        async with turns:
            await send({"type": "websocket.send", "bytes": bytes(8_000_000)})

    async with compressing(application(serve)) as (_, client, codec):
        assert codec.decompress((await client.frame())[1]) == bytes(8_000_000)
    assert turns.count > 1


async def test_loop_turns_while_a_long_message_is_decompressed() -> None:
    arrived, turns = asyncio.Event(), Turns()

    async def serve(receive: Any, send: Any) -> None:
        await arrived.wait()
        async with turns:
            assert (await receive())["bytes"] == bytes(8_000_000)
        await send({"type": "websocket.send", "text": "done"})

    async with compressing(application(serve)) as (_, client, codec):
        client.send(RSV1 | BINARY, codec.compress(bytes(8_000_000)))
        client.send(PING, b"")
        assert (await client.receive())[0] == PONG
        arrived.set()
        assert codec.decompress((await client.frame())[1]) == b"done"
    assert turns.count > 100


async def test_messages_leave_in_the_order_in_which_they_were_sent() -> None:
    long = os.urandom(300_000)

    async def serve(receive: Any, send: Any) -> None:
        await asyncio.gather(
            send({"type": "websocket.send", "bytes": long}),
            send({"type": "websocket.send", "text": "short"}),
            send({"type": "websocket.send", "text": ""}),
            send({"type": "websocket.close", "code": 3000}),
        )

    async with compressing(application(serve)) as (_, client, codec):
        for data in (long, b"short"):
            assert codec.decompress((await client.frame())[1]) == data
        assert await client.receive() == (TEXT, b"")
        assert (await client.closed())[0] == 3000


async def test_receive_that_is_cancelled_loses_nothing() -> None:
    arrived = asyncio.Event()

    async def serve(receive: Any, send: Any) -> None:
        await arrived.wait()
        for _ in range(3):
            receiving = asyncio.ensure_future(receive())
            for _ in range(4):
                await asyncio.sleep(0)
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            assert receiving.cancelled()
        both = await asyncio.gather(receive(), receive())
        sizes = sorted(len(message.get("bytes") or message["text"]) for message in both)
        await send({"type": "websocket.send", "text": str(sizes)})

    async with compressing(application(serve)) as (_, client, codec):
        client.send(RSV1 | BINARY, codec.compress(bytes(4_000_000)))
        client.send(RSV1 | TEXT, codec.compress(b"second"))
        client.send(PING, b"")
        assert (await client.receive())[0] == PONG
        arrived.set()
        assert codec.decompress((await client.frame())[1]) == b"[6, 4000000]"


async def test_message_that_is_not_received_is_not_decompressed() -> None:
    """A client that sends what the application does not ask for costs no more than its bytes."""

    async def serve(receive: Any, send: Any) -> None:
        while True:
            await send({"type": "websocket.send", "text": "tick"})
            await asyncio.sleep(0)

    async with compressing(application(serve)) as (_, client, _):
        client.send(RSV1 | TEXT, b"\xff\xff\xff")
        client.send(CLOSE, b"")
        while (await client.frame())[0] & 0x0F != CLOSE:
            pass
