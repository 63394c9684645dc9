"""An ASGI or WSGI application in this process, hosted as a service is, behind a socket of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from msctl.clock import AsyncClock, SystemClock
from msctl.hosting.frameworks import Found
from msctl.hosting.hosted_app import HostedApp
from msctl.hosting.imported_app import hosted_app
from msctl.http.server import HttpServer
from msctl.model.events import LogLine
from msctl.model.exchange import Exchange
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import Framework, ServiceSpec
from msctl.model.websocket_spec import WebSocketSpec
from msctl.telemetry.logs.hub import LogHub


@dataclass(frozen=True)
class Response:
    """A response as it was received; `cut` where the connection was reset before its end."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    cut: bool

    def __getitem__(self, name: str) -> str | None:
        return next((value for found, value in self.fields if found == name), None)


@dataclass
class Hosted:
    """The application at 127.0.0.1:`port`."""

    app: HostedApp
    server: HttpServer
    port: int
    logs: list[LogLine]
    exchanges: list[Exchange] = field(default_factory=list)
    """Those that were served, in order."""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def raw(self, data: bytes, *, eof: bool = False) -> bytes:
        """Send `data`, return all that comes until the connection ends."""
        reader, writer = await self.connect()
        try:
            writer.write(data)
            if eof:
                writer.write_eof()
            return await reader.read()
        finally:
            writer.close()

    async def request(
        self, line: str = "GET /", body: bytes | None = None, *fields: str, version: str = "1.1"
    ) -> Response:
        """Send one request on a connection of its own."""
        head = [f"{line} HTTP/{version}", "Host: x", "Connection: close", *fields]
        if body is not None:
            head.append(f"Content-Length: {len(body)}")
        reader, writer = await self.connect()
        received = b""
        cut = False
        try:
            writer.write("\r\n".join([*head, "", ""]).encode() + (body or b""))
            while piece := await reader.read(65536):
                received += piece
        except ConnectionResetError:
            cut = True
        finally:
            writer.close()
        return parsed(received, cut=cut)

    def errors(self) -> str:
        """What the service's log says of level error."""
        return "\n".join(line.text for line in self.logs if line.level == "error")


def parsed(received: bytes, *, cut: bool = False) -> Response:
    head, _, body = received.partition(b"\r\n\r\n")
    if not head:
        return Response(0, [], b"", cut)
    status, *lines = head.decode("latin-1").split("\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    if ("transfer-encoding", "chunked") in fields:
        body, ended = dechunked(body)
        cut = cut or not ended
    return Response(int(status.split(" ")[1]), fields, body, cut)


def dechunked(body: bytes) -> tuple[bytes, bool]:
    """Return the content of chunks, and whether the last one has come."""
    content = b""
    while b"\r\n" in body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return content, True
        content, body = content + rest[:length], rest[length + 2 :]
    return content, False


@asynccontextmanager
async def hosted(
    application: Any,
    *,
    wsgi: bool = False,
    threads: int = 10,
    websocket: WebSocketSpec | None = None,
    env: Mapping[str, str] | None = None,
    clock: AsyncClock | None = None,
    prepare: Callable[[Exchange], None] | None = None,
) -> AsyncIterator[Hosted]:
    """Serve `application`; `prepare` sees each exchange before the application does.

    Checks that no connection is left, and no task.
    """
    before = asyncio.all_tasks()
    clock = clock or SystemClock(asyncio.sleep)
    hub = LogHub(clock)
    hub.bind(asyncio.get_running_loop())
    lines: list[LogLine] = []
    hub.listen(lines.append)
    context = ServiceContext(
        name="api", instance="api-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env=env or {}
    )
    found = Found(Framework.WSGI if wsgi else Framework.ASGI, application)
    spec = ServiceSpec("api", threads=threads, websocket=websocket)
    app = hosted_app(found, spec, context, logs=hub, clock=clock)
    exchanges: list[Exchange] = []

    async def handle(exchange: Exchange) -> None:
        exchanges.append(exchange)
        if prepare is not None:
            prepare(exchange)
        await app.handle(exchange)

    server = HttpServer(handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        await app.startup()
        yield Hosted(app, server, listening.sockets[0].getsockname()[1], lines, exchanges)
    finally:
        listening.close()
        await app.drain(5.0)
        await app.cleanup()
        await server.shutdown(1.0)
    assert not server.connections
    left = asyncio.all_tasks() - before
    assert not left, left
