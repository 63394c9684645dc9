"""A server of msctl.http on a free port, and clients that see every byte of it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from msctl.http.limits import DEFAULT_LIMITS, HttpLimits
from msctl.http.server import HttpServer
from msctl.http.tls_acceptor import TlsAcceptor
from msctl.model.exchange import Exchange, Handler, RequestError

PATIENCE = 60.0
TEXT = [(b"Content-Type", b"text/plain")]
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Response:
    version: bytes
    status: int
    fields: dict[str, str]
    body: bytes
    trailers: list[bytes] = field(default_factory=list)


class Client:
    """One connection. `read` raises IncompleteReadError at its end, ConnectionError after a reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @property
    def socket(self) -> socket.socket:
        found: socket.socket = self.writer.get_extra_info("socket")
        return found

    def send(self, *lines: bytes, body: bytes = b"") -> None:
        self.raw(b"\r\n".join([*lines, b"", body]))

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def get(self, target: bytes = b"/", *fields: bytes) -> None:
        self.send(b"GET %b HTTP/1.1" % target, b"Host: a", *fields)

    async def read(self, method: str = "GET") -> Response:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
            version, status, _ = head[0].split(b" ", 2)
            fields: dict[str, str] = {}
            for line in head[1:]:
                name, _, value = line.decode("latin-1").partition(":")
                assert name.lower() not in fields, f"{name} is repeated"
                fields[name.lower()] = value.strip()
            body, trailers = b"", list[bytes]()
            code = int(status)
            if method == "HEAD" or code < 200 or code in (204, 304):
                pass
            elif "content-length" in fields:
                body = await self.reader.readexactly(int(fields["content-length"]))
            elif fields.get("transfer-encoding") == "chunked":
                while size := int(await self.reader.readuntil(b"\r\n"), 16):
                    body += (await self.reader.readexactly(size + 2))[:-2]
                while line := (await self.reader.readuntil(b"\r\n"))[:-2]:
                    trailers.append(line)
            else:
                body = await self.reader.read()
            return Response(version, code, fields, body, trailers)

    async def ended(self) -> bytes:
        """Return what comes before the server ends the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def end(self) -> None:
        """Send no more."""
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


class Serving:
    """A server, what it reported, and its clients."""

    def __init__(self, server: HttpServer, port: int, context: ssl.SSLContext | None) -> None:
        self.server = server
        self.port = port
        self._context = context
        self._clients: list[Client] = []
        self.errors: list[BaseException] = []
        self.refusals: list[RequestError] = []
        self._calls = asyncio.Semaphore(0)

    def called(self) -> None:
        self._calls.release()

    async def entered(self) -> None:
        """Wait until the handler has been called once more and has come to its first wait."""
        async with asyncio.timeout(PATIENCE):
            await self._calls.acquire()

    async def client(self) -> Client:
        name = None if self._context is None else "localhost"
        streams = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self._context, server_hostname=name, limit=2**22
        )
        self._clients.append(Client(*streams))
        return self._clients[-1]

    async def until_idle(self, connections: int = 0) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.server.connections > connections:
                await asyncio.sleep(0.005)

    def close(self) -> None:
        for client in self._clients:
            client.writer.transport.abort()


@asynccontextmanager
async def serving(
    handler: Handler,
    *,
    limits: HttpLimits = DEFAULT_LIMITS,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
) -> AsyncIterator[Serving]:
    """`tls` is the server's context and that of its clients. Nothing is left behind."""
    loop = asyncio.get_running_loop()

    async def told(exchange: Exchange) -> None:
        serves.called()
        await handler(exchange)

    server = HttpServer(
        told,
        limits=limits,
        on_error=lambda _, error: serves.errors.append(error),
        on_refusal=lambda error, _: serves.refusals.append(error),
    )
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    serves = Serving(server, sock.getsockname()[1], tls[1] if tls else None)
    acceptor: TlsAcceptor | asyncio.Server
    acceptor = TlsAcceptor([sock], server, tls[0]) if tls else await loop.create_server(server, sock=sock)
    before = asyncio.all_tasks()
    try:
        yield serves
    finally:
        acceptor.close()
        serves.close()
        await server.shutdown(0.5)
        assert server.connections == 0
        left = {task for task in asyncio.all_tasks() - before if not task.done()}
        assert not left, left


async def hello(exchange: Exchange) -> None:
    exchange.respond(200, b"OK", TEXT, b"Hello\n")


async def read_all(exchange: Exchange) -> bytes:
    body = b""
    while piece := await exchange.body.read():
        body += piece
    return body


async def echo(exchange: Exchange) -> None:
    """Answer with the target and the body."""
    body = await read_all(exchange)
    exchange.respond(200, b"", TEXT, exchange.head.target.encode() + b" " + body)
