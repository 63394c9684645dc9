"""WebSockets of WSGI applications that speak on the socket in their environ, as simple-websocket does."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.support.hosted import hosted
from tests.support.websocket_client import BINARY, CLOSE, TEXT, connected, handshake

Start = Callable[..., Any]
ACCEPTED = (
    b"HTTP/1.1 101 \r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: b\r\n\r\n"
)


def frame(opcode: int, payload: bytes) -> bytes:
    return struct.pack("!BBQ", 0x80 | opcode, 127, len(payload)) + payload


def frames(connection: socket.socket) -> Iterator[tuple[int, bytes]]:
    """The frames of a client whose masks are zero, until it has left."""
    with connection.makefile("rb") as file:
        while head := file.read(2):
            size = head[1] & 0x7F
            if size == 127:
                (size,) = struct.unpack("!Q", file.read(8))
            mask = file.read(4)
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(file.read(size)))
            yield head[0] & 0x0F, payload


class Chat:
    """Accepts and echoes until the client closes; ends as under Gunicorn."""

    def __init__(self) -> None:
        self.environ: dict[str, Any] = {}
        self.closed = b""
        self.ended = threading.Event()

    def __call__(self, environ: dict[str, Any], _: Start) -> list[bytes]:
        self.environ = environ
        connection = environ["gunicorn.socket"]
        connection.sendall(ACCEPTED)
        try:
            for opcode, payload in frames(connection):
                connection.sendall(frame(opcode, payload))
                if opcode == CLOSE:
                    self.closed = payload
                    break
        finally:
            self.ended.set()
        raise StopIteration


async def test_frames_pass_both_ways_until_the_client_closes() -> None:
    chat = Chat()
    async with connected(chat, wsgi=True) as (served, client):
        assert client.answer.status == 101
        assert client.answer["sec-websocket-protocol"] == "b"
        client.send(TEXT, b"hello")
        assert await client.receive() == (TEXT, b"hello")
        client.send(BINARY, b"x" * 3_000_000)
        assert await client.receive() == (BINARY, b"x" * 3_000_000)
        client.send(CLOSE, struct.pack("!H", 4001))
        assert await client.receive() == (CLOSE, struct.pack("!H", 4001))
        assert await client.rest() == b""
        assert served.errors() == ""
    assert (chat.environ["HTTP_CONNECTION"], chat.environ["HTTP_UPGRADE"]) == ("Upgrade", "websocket")


async def test_application_is_told_that_the_client_has_left() -> None:
    chat = Chat()
    async with connected(chat, wsgi=True) as (_, client):
        client.writer.transport.abort()
        await asyncio.to_thread(chat.ended.wait)


async def test_stopping_service_closes_with_1001_on_both_sides() -> None:
    chat = Chat()
    async with connected(chat, wsgi=True) as (served, client):
        client.send(TEXT, b"hello")
        await client.receive()
        draining = asyncio.create_task(served.app.drain(5.0))
        assert await client.closed() == (1001, "")
        await draining
    assert chat.closed == struct.pack("!H", 1001)


async def test_connection_ends_with_the_application() -> None:
    def app(environ: dict[str, Any], _: Start) -> list[bytes]:
        environ["gunicorn.socket"].sendall(ACCEPTED + frame(TEXT, b"bye"))
        raise ValueError("later")

    async with connected(app, wsgi=True) as (served, client):
        assert await client.receive() == (TEXT, b"bye")
        assert await client.rest() == b""
        assert "ValueError: later" in served.errors()


async def test_client_that_reads_nothing_holds_back_the_application() -> None:
    sent = 0

    def app(environ: dict[str, Any], _: Start) -> list[bytes]:
        nonlocal sent
        connection = environ["gunicorn.socket"]
        connection.sendall(ACCEPTED)
        while True:
            connection.sendall(frame(BINARY, bytes(65_536)))
            sent += 1

    async with connected(app, wsgi=True) as (_, client):
        while True:
            before = sent
            await asyncio.to_thread(threading.Event().wait, 0.2)
            if sent == before:
                break
        assert sent < 1000
        client.writer.transport.abort()


async def test_request_that_is_answered_as_usual_is_no_websocket() -> None:
    def app(environ: dict[str, Any], start: Start) -> list[bytes]:
        assert environ["gunicorn.socket"]
        start("403 Forbidden", [("Content-Length", "2")])
        return [b"no"]

    async with hosted(app, wsgi=True) as served:
        client = await handshake(served)
        assert client.answer.status == 403
        client.writer.close()


async def test_what_is_no_response_head_is_500() -> None:
    def app(environ: dict[str, Any], _: Start) -> list[bytes]:
        environ["gunicorn.socket"].sendall(b"hello\r\n\r\n")
        raise StopIteration

    async with hosted(app, wsgi=True) as served:
        client = await handshake(served)
        assert client.answer.status == 500
        client.writer.close()


async def test_log_says_when_websockets_take_all_threads() -> None:
    async with hosted(Chat(), wsgi=True, threads=2) as served:
        first = await handshake(served)
        assert not served.logs
        second = await handshake(served)
        assert [(line.level, "all 2 threads" in line.text) for line in served.logs] == [("warning", True)]
        for client in (first, second):
            client.writer.close()


async def test_other_requests_have_no_socket() -> None:
    def app(environ: dict[str, Any], start: Start) -> list[bytes]:
        start("200 OK", [])
        return [str("gunicorn.socket" in environ).encode()]

    async with hosted(app, wsgi=True) as served:
        assert (await served.request()).body == b"False"
