"""An upstream that keeps every byte it is sent and answers with the bytes a test gives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Exchange:
    """One connection as a test's script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.received = b""
        self.closed = asyncio.Event()
        self.changed = asyncio.Condition()

    async def until(self, marker: bytes, *, after: int = 0) -> bytes:
        """Read until `marker` has come after position `after`; returns all that came on this connection."""
        while marker not in self.received[after:]:
            if not await self._read():
                raise EOFError(f"the gateway closed before it sent {marker!r}; it sent {self.received!r}")
        return self.received

    async def more(self) -> bool:
        """Read once more; False at the end."""
        return bool(await self._read())

    async def wait_for_end(self) -> None:
        """Read all there is and answer nothing."""
        await self.eof()

    async def until_seen_or_end(self, marker: bytes) -> None:
        while marker not in self.received and await self._read():
            pass

    async def until_seen(self, marker: bytes) -> None:
        """Wait, while the script reads, until `marker` has come."""
        async with self.changed:
            await self.changed.wait_for(lambda: marker in self.received)

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def size(self, count: int) -> bytes:
        while len(self.received) < count:
            if not await self._read():
                raise EOFError(f"the gateway closed after {len(self.received)} bytes")
        return self.received

    async def eof(self) -> bytes:
        """Read until the gateway ends the connection, by whatever means."""
        while await self._read():
            pass
        return self.received

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def reset(self) -> None:
        self._writer.transport.abort()

    def close(self) -> None:
        self._writer.close()

    async def _read(self) -> bytes:
        try:
            data = await self._reader.read(65536)
        except ConnectionError:
            data = b""
        if not data:
            self.closed.set()
        self.received += data
        async with self.changed:
            self.changed.notify_all()
        return data


Script = Callable[[Exchange], Awaitable[None]]


async def answer_ok(exchange: Exchange) -> None:
    """Answer every request on the connection that has a complete head, once each."""
    position = 0
    while True:
        try:
            data = await exchange.until(b"\r\n\r\n", after=position)
        except EOFError:
            return
        position = data.index(b"\r\n\r\n", position) + 4
        await exchange.send(OK)


class RecordingUpstream:
    """A server whose every connection runs `script`; `exchanges` holds them in the order they came."""

    def __init__(self, script: Script = answer_ok) -> None:
        self.script = script
        self.exchanges: list[Exchange] = []
        self.arrived = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def received(self) -> bytes:
        """Every byte, connection after connection."""
        return b"".join(exchange.received for exchange in self.exchanges)

    @property
    def url(self) -> str:
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> RecordingUpstream:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        return self

    async def connection(self, count: int = 1) -> Exchange:
        """The connection with that number, when it has come."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.exchanges) >= count)
        return self.exchanges[count - 1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for exchange in self.exchanges:
            exchange.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        exchange = Exchange(reader, writer)
        self.exchanges.append(exchange)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        async with self.arrived:
            self.arrived.notify_all()
        try:
            await self.script(exchange)
        except (ConnectionError, EOFError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
