"""A WebSocket client that speaks frame by frame."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.hosted import Hosted, Response, hosted, parsed

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
RSV1 = 0x40


class Client:
    """A client after its handshake."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Response) -> None:
        self._reader = reader
        self.writer = writer
        self.answer = answer

    def send(self, opcode: int, payload: bytes, *, final: bool = True) -> None:
        """`opcode` may have reserved bits: RSV1 is that of a compressed message."""
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack("!Q", size)
        self.writer.write(bytes([0x80 * final | opcode]) + length + bytes(4) + payload)

    async def receive(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame, which is not compressed."""
        first, payload = await self.frame()
        assert not first & 0x70
        return first & 0x0F, payload

    async def frame(self) -> tuple[int, bytes]:
        """Return the first byte and the payload of the next frame."""
        first, size = await self._reader.readexactly(2)
        if size == 126:
            (size,) = struct.unpack("!H", await self._reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self._reader.readexactly(8))
        return first, await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        return await self._reader.read()

    async def closed(self) -> tuple[int, str]:
        """Return code and reason of the close frame that comes, answer it, and wait for the end."""
        while (frame := await self.receive())[0] != CLOSE:
            pass
        self.send(CLOSE, frame[1])
        assert await self._reader.read() == b""
        return struct.unpack("!H", frame[1][:2])[0], frame[1][2:].decode()


async def handshake(served: Hosted, *fields: str) -> Client:
    reader, writer = await served.connect()
    head = ["GET /chat?x=1 HTTP/1.1", "Host: x", "Connection: Upgrade", "Upgrade: websocket"]
    wanted = fields or (KEY, "Sec-WebSocket-Version: 13")
    writer.write("\r\n".join([*head, *wanted, "", ""]).encode())
    answer = parsed(await reader.readuntil(b"\r\n\r\n"))
    return Client(reader, writer, answer)


@asynccontextmanager
async def connected(application: Any, *fields: str, **options: Any) -> AsyncIterator[tuple[Hosted, Client]]:
    async with hosted(application, **options) as served:
        client = await handshake(served, *fields)
        try:
            yield served, client
        finally:
            client.writer.close()
