"""A gateway on a real socket, with hosted or remote upstreams, and clients that send raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.gateway.app import Gateway
from msctl.hosting.aiohttp_app import AiohttpApp
from msctl.http.limits import DEFAULT_LIMITS
from msctl.http.server import HttpServer
from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_context import ServiceContext
from msctl.model.upstream_policy import UpstreamPolicy
from msctl.secret import Secret
from msctl.telemetry.logs.hub import LogHub

HOSTED = "hosted"
REMOTE = "remote"
KINDS = (HOSTED, REMOTE)
PATIENCE = 60.0
"""The timeout of a waiting test in seconds; never what is tested."""


@dataclass
class Reply:
    """A response as received."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    version: str = "HTTP/1.1"

    def get(self, name: str) -> str | None:
        found = self.all(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)


class TruncatedError(Exception):
    """The connection ended before the response did."""


class Client:
    """One connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def request(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        *,
        host: str | None = "gateway.localhost",
        version: str = "HTTP/1.1",
    ) -> Reply:
        lines = [f"{method} {target} {version}"]
        if host is not None:
            lines.append(f"Host: {host}")
        lines += [f"{name}: {value}" for name, value in fields]
        if body is not None and not any(name.lower() == "transfer-encoding" for name, _ in fields):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        await self.send(head + (body or b""))
        return await self.reply(method)

    async def head(self) -> Reply:
        async with asyncio.timeout(PATIENCE):
            try:
                raw = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError as error:
                raise TruncatedError(error.partial) from error
        lines = raw[:-4].decode("latin-1").split("\r\n")
        version, status, reason = lines[0].split(" ", 2)
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines[1:])]
        return Reply(int(status), reason, fields, b"", version)

    async def reply(self, method: str = "GET") -> Reply:
        """Read the next final response; raises TruncatedError or ConnectionError if it is incomplete."""
        while (reply := await self.head()).status < 200 and reply.status != 101:
            pass
        if method == "HEAD" or reply.status in (101, 204, 304):
            return reply
        async with asyncio.timeout(PATIENCE):
            try:
                if reply.get("Transfer-Encoding"):
                    reply.body = b"".join([piece async for piece in self.chunks()])
                elif (length := reply.get("Content-Length")) is not None:
                    reply.body = await self.reader.readexactly(int(length))
                else:
                    reply.body = await self.reader.read()
            except asyncio.IncompleteReadError as error:
                raise TruncatedError(error.partial) from error
        return reply

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            data = await self.reader.readexactly(size + 2)
            yield data[:-2]
        await self.reader.readexactly(2)

    async def closed(self) -> bool:
        """Return whether the gateway closes the connection without another byte."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class Harness:
    """A running gateway; `announce` and `serve` give it upstreams."""

    gateway: Gateway
    registry: Registry
    server: HttpServer
    port: int
    runners: list[web.AppRunner] = field(default_factory=list)
    hosted: list[AiohttpApp] = field(default_factory=list)
    logs: LogHub = field(default_factory=lambda: LogHub(SystemClock(asyncio.sleep)))
    clients: list[Client] = field(default_factory=list)

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**20))
        self.clients.append(client)
        return client

    async def get(self, target: str, *fields: tuple[str, str]) -> Reply:
        return await self.ask("GET", target, *fields)

    async def ask(
        self, method: str, target: str, *fields: tuple[str, str], body: bytes | None = None
    ) -> Reply:
        client = await self.client()
        try:
            return await client.request(method, target, fields, body)
        finally:
            client.close()

    def announce(self, service: str, url: str, instance: str | None = None) -> None:
        self.registry.announce(Endpoint(service, instance or f"{service}-1", base_url=url))

    async def serve(self, service: str, app: web.Application, kind: str, instance: str | None = None) -> None:
        """Run `app` as an instance of `service`, in this process or behind a socket."""
        name = instance or f"{service}-1"
        if kind == HOSTED:
            hosted = await hosted_app(app, service, name, self.logs)
            self.hosted.append(hosted)
            self.registry.announce(Endpoint(service, name, handler=hosted.handle))
        else:
            runner = web.AppRunner(
                app, access_log=None, auto_decompress=False, handler_cancellation=True, shutdown_timeout=1
            )
            await runner.setup()
            self.runners.append(runner)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            host, port = runner.addresses[0][:2]
            self.registry.announce(Endpoint(service, name, base_url=f"http://{host}:{port}"))


async def hosted_app(app: web.Application, service: str, instance: str, logs: LogHub) -> AiohttpApp:
    """Return `app` as a hosted application that has started."""
    clock = SystemClock(asyncio.sleep)
    context = ServiceContext(
        name=service, instance=instance, host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
    )
    hosted = AiohttpApp(app, context, logs=logs, clock=clock)
    await hosted.startup()
    return hosted


@contextlib.asynccontextmanager
async def running(
    *routes: RouteSpec,
    spec: GatewaySpec | None = None,
    services: Mapping[str, UpstreamPolicy] | None = None,
    keep_alive: float = DEFAULT_LIMITS.keepalive,
    environ: Mapping[str, str] | None = None,
    any_host: bool = True,
    **options: Any,
) -> AsyncIterator[Harness]:
    """Run a listening gateway; afterwards no task or descriptor may be left.

    Unless `spec` or `any_host` says otherwise, it answers for any host.
    """
    loop = asyncio.get_running_loop()
    await _warm(loop)
    tasks, descriptors = len(asyncio.all_tasks()), open_descriptors()
    registry = Registry()
    spec = spec or GatewaySpec()
    if any_host and spec.hosts is None:
        spec = replace(spec, hosts=("*",))
    options.setdefault("clock", SystemClock(asyncio.sleep))
    gateway = Gateway(
        spec,
        routes,
        registry,
        services=services,
        secrets=secrets_of(environ or {}),
        **options,
    )
    await gateway.startup()

    server = HttpServer(gateway.handle, limits=replace(DEFAULT_LIMITS, keepalive=keep_alive))
    listener = await loop.create_server(server, "127.0.0.1", 0)
    harness = Harness(gateway, registry, server, listener.sockets[0].getsockname()[1])
    try:
        yield harness
    finally:
        listener.close()
        for client in harness.clients:
            client.close()
        await gateway.drain(2)
        await server.shutdown(1)
        await gateway.cleanup()
        for runner in harness.runners:
            await runner.cleanup()
        for hosted in harness.hosted:
            await hosted.cleanup()
        for client in harness.clients:
            with contextlib.suppress(ConnectionError):
                await client.writer.wait_closed()
    await settled(tasks, descriptors)


def secrets_of(environ: Mapping[str, str]) -> dict[str, Secret]:
    return {name: Secret(value) for name, value in environ.items()}


async def _warm(loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop open the descriptors that it keeps for itself (uvloop does so with its first server)."""
    listener = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.close()
    await writer.wait_closed()
    listener.close()
    await listener.wait_closed()
    for _ in range(3):
        await asyncio.sleep(0)


async def settled(tasks: int, descriptors: int) -> None:
    """Wait until no more tasks and descriptors are open than before."""
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > tasks or open_descriptors() > descriptors:
            await asyncio.sleep(0.01)


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
