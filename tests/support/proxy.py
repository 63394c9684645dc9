"""A TCP proxy in front of a real server, so that a test can take the network away and give it back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Proxy:
    """Forwards to `host`:`port` and listens on `listen_port`."""

    host: str
    port: int
    listen_port: int = 0
    listen_host: str = "127.0.0.1"
    accepted: int = 0
    forwarding: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def bind(self) -> socket.socket:
        """A socket that `listen` may take, in the network namespace of this thread."""
        return socket.create_server((self.listen_host, self.listen_port))

    async def listen(self, bound: socket.socket | None = None) -> None:
        """Accept (again), on the same port each time."""
        self.forwarding.set()
        self._server = await asyncio.start_server(self._serve, sock=bound or self.bind())
        self.listen_port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Drop every connection and refuse new ones, until `listen`."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        self.forwarding.set()
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    def freeze(self) -> None:
        """Keep connections open, but let nothing more through from the server."""
        self.forwarding.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        up_reader, up_writer = await asyncio.open_connection(self.host, self.port)
        self._writers |= {writer, up_writer}
        try:
            await asyncio.gather(
                self._pump(reader, up_writer, None), self._pump(up_reader, writer, self.forwarding)
            )
        finally:
            for each in (writer, up_writer):
                each.transport.abort()
            self._writers -= {writer, up_writer}
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, gate: asyncio.Event | None
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if gate is not None:
                    await gate.wait()
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def proxy(host: str, port: int) -> AsyncIterator[Proxy]:
    made = Proxy(host, port)
    await made.listen()
    try:
        yield made
    finally:
        made.forwarding.set()
        await made.cut()
