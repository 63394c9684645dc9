"""Live keys of [gateway], changed while it serves: the next request finds the new value."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.table import OnReload
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.snapshots import BreakerState, TargetSnapshot
from msctl.model.upstream_policy import Balance, FailureKind
from tests.support.clock import FakeClock
from tests.unit.gateway.harness import REMOTE, Harness, running

ROUTES = (RouteSpec("/x", "x"),)


@dataclass
class Upstream:
    """An instance that drops the next `drops` requests without a response."""

    port: int = 0
    requests: int = 0
    drops: int = 0
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line[15:])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                await reader.readexactly(length)
                self.requests += 1
                if self.drops:
                    self.drops -= 1
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()


@contextlib.asynccontextmanager
async def dropping(gateway: Harness) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    gateway.announce("x", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield upstream
    finally:
        server.close()
        for writer in upstream.writers:
            writer.close()
        await server.wait_closed()


def edit(gateway: Harness, **values: Any) -> None:
    gateway.gateway.reconfigure(replace(gateway.gateway.spec, **values), ROUTES)


def target(gateway: Harness) -> TargetSnapshot:
    (found,) = gateway.gateway.targets()
    return found


async def echo(request: web.Request) -> web.Response:
    await request.read()
    return web.json_response(dict(request.headers))


async def slow(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError("the gateway has given up long ago")


async def stalling(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"half")
    await asyncio.sleep(60)
    return response


def application(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.Application:
    app = web.Application(client_max_size=2**20)
    app.router.add_route("*", "/x", handler)
    return app


async def check_hosts(gateway: Harness) -> None:
    edit(gateway, hosts=("shop.test",))
    client = await gateway.client()
    assert (await client.request("GET", "/x", host="elsewhere.test")).status == 421
    edit(gateway, hosts=("*",))
    client = await gateway.client()
    assert (await client.request("GET", "/x", host="elsewhere.test")).status == 503


async def check_max_body(gateway: Harness) -> None:
    await gateway.serve("x", application(echo), REMOTE)
    assert (await gateway.ask("POST", "/x", body=b"x" * 100)).status == 200
    edit(gateway, max_body=10)
    assert (await gateway.ask("POST", "/x", body=b"x" * 100)).status == 413


async def check_response_timeout(gateway: Harness) -> None:
    await gateway.serve("x", application(slow), REMOTE)
    edit(gateway, response_timeout=0.05)
    assert (await gateway.get("/x")).status == 504


async def check_idle_timeout(gateway: Harness) -> None:
    await gateway.serve("x", application(stalling), REMOTE)
    edit(gateway, idle_timeout=0.05)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await asyncio.wait_for(gateway.get("/x"), 60)


async def check_stream_idle_timeout(gateway: Harness) -> None:
    """A silent event stream ends, and no earlier because of the idle timeout."""

    async def events(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(60)
        return response

    await gateway.serve("x", application(events), REMOTE)
    edit(gateway, idle_timeout=0.05)
    client = await gateway.client()
    await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    await client.head()
    chunks = client.chunks()
    assert await anext(chunks) == b"data: 1\n\n"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.reader.read(1), 0.2)
    edit(gateway, idle_timeout=0.05, stream_idle_timeout=0.05)
    assert (await asyncio.wait_for(gateway.get("/x"), 60)).body == b"data: 1\n\n"


async def check_connect_timeout(gateway: Harness) -> None:
    """A listener with a full backlog answers no connection attempt."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        gateway.announce("x", f"http://127.0.0.1:{full.getsockname()[1]}")
        edit(gateway, connect_timeout=0.05, retries=0)
        reply = await gateway.get("/x")
        assert reply.status == 504
        assert "0.05 s" in reply.body.decode()


async def check_ready_path(gateway: Harness) -> None:
    assert (await gateway.get("/-/ready")).status == 200
    edit(gateway, ready_path="/healthz")
    assert [(await gateway.get(path)).status for path in ("/healthz", "/-/ready")] == [200, 404]


async def check_forwarded(gateway: Harness) -> None:
    await gateway.serve("x", application(echo), REMOTE)
    assert "Forwarded" not in (await gateway.get("/x")).json()
    edit(gateway, forwarded=True)
    assert "Forwarded" in (await gateway.get("/x")).json()


async def check_trusted_peers(gateway: Harness) -> None:
    await gateway.serve("x", application(echo), REMOTE)
    claimed = ("X-Forwarded-For", "192.0.2.1")
    assert "192.0.2.1" not in (await gateway.get("/x", claimed)).json()["X-Forwarded-For"]
    edit(gateway, trusted_peers=("127.0.0.1",))
    assert "192.0.2.1" in (await gateway.get("/x", claimed)).json()["X-Forwarded-For"]


async def check_retries(gateway: Harness) -> None:
    async with dropping(gateway) as upstream:
        edit(gateway, retries=0, pool_idle=0.0)
        upstream.drops = 1
        assert (await gateway.get("/x")).status == 502
        edit(gateway, retries=2)
        upstream.drops = 2
        assert (await gateway.get("/x")).status == 200


async def check_retry_body(gateway: Harness) -> None:
    """The body is larger than what arrives with the head, which is kept in any case."""
    body = b"x" * 3_000_000
    async with dropping(gateway) as upstream:
        edit(gateway, retry_body=len(body), pool_idle=0.0)
        upstream.drops = 1
        assert (await gateway.ask("PUT", "/x", body=body)).status == 200
        edit(gateway, retry_body=10)
        upstream.drops = 1
        assert (await gateway.ask("PUT", "/x", body=body)).status == 502


async def budget(gateway: Harness, **values: float) -> None:
    async with dropping(gateway) as upstream:
        edit(gateway, **{"retry_budget": 0.0, "retry_floor": 0.0, "pool_idle": 0.0, **values})
        for _ in range(3):
            await gateway.get("/x")
        upstream.drops = 1
        assert (await gateway.get("/x")).status == (200 if values else 502)


async def check_retry_budget(gateway: Harness) -> None:
    await budget(gateway)
    await budget(gateway, retry_budget=1.0)


async def check_retry_floor(gateway: Harness) -> None:
    await budget(gateway)
    await budget(gateway, retry_floor=10.0)


async def broken(gateway: Harness, **values: float) -> None:
    async with dropping(gateway) as upstream:
        await gateway.get("/x")
        edit(gateway, retries=0, pool_idle=0.0, **values)
        upstream.drops = 1
        await gateway.get("/x")


async def check_breaker_failures(gateway: Harness) -> None:
    await broken(gateway, breaker_failures=2)
    assert target(gateway).breaker is BreakerState.CLOSED
    edit(gateway, breaker_failures=1)
    await broken(gateway, breaker_failures=1)
    assert target(gateway).breaker is BreakerState.OPEN


async def check_breaker_open(gateway: Harness) -> None:
    await broken(gateway, breaker_failures=1, breaker_open=33.0)
    assert 30 < (target(gateway).retry_in_s or 0) <= 33


async def check_breaker_cap(gateway: Harness) -> None:
    await broken(gateway, breaker_failures=1, breaker_open=33.0, breaker_cap=3.0)
    assert (target(gateway).retry_in_s or 99) <= 3


async def check_breaker_on(gateway: Harness) -> None:
    async def fail(request: web.Request) -> web.Response:
        return web.Response(status=500)

    await gateway.serve("x", application(fail), REMOTE)
    edit(gateway, breaker_failures=1)
    await gateway.get("/x")
    assert target(gateway).breaker is BreakerState.CLOSED
    edit(gateway, breaker_failures=1, breaker_on=(FailureKind.STATUS_5XX,))
    await gateway.get("/x")
    assert target(gateway).breaker is BreakerState.OPEN


async def check_balance(gateway: Harness) -> None:
    """Round robin chooses an instance in its turn even while it is busy; least-loaded does not."""
    held, done = asyncio.Event(), asyncio.Event()

    def named(name: str) -> web.Application:
        async def say(request: web.Request) -> web.Response:
            if "Hold" in request.headers:
                held.set()
                await done.wait()
            return web.Response(text=name)

        return application(say)

    for instance in ("x-1", "x-2", "x-3"):
        await gateway.serve("x", named(instance), REMOTE, instance)
    holding = asyncio.create_task(gateway.get("/x", ("Hold", "yes")))
    await held.wait()
    assert len({(await gateway.get("/x")).body for _ in range(30)}) == 2
    edit(gateway, balance=Balance.ROUND_ROBIN)
    assert len({(await gateway.get("/x")).body for _ in range(6)}) == 3
    done.set()
    await holding


async def check_pool_size(gateway: Harness) -> None:
    await gateway.serve("x", application(slow), REMOTE)
    edit(gateway, pool_size=1)
    requests = [asyncio.create_task(gateway.get("/x")) for _ in range(2)]
    while target_waiting(gateway) != (1, 1):
        await asyncio.sleep(0)
    edit(gateway, pool_size=2)
    for request in requests:
        request.cancel()
    await asyncio.gather(*requests, return_exceptions=True)


def target_waiting(gateway: Harness) -> tuple[int, int]:
    found = gateway.gateway.targets()
    return (found[0].pool_open, found[0].pool_waiting) if found else (0, 0)


async def check_openapi(gateway: Harness) -> None:
    edit(gateway, openapi="/documents")
    assert (await gateway.get("/documents")).status == 200
    edit(gateway, openapi=None)
    assert (await gateway.get("/documents")).status == 404


async def check_pool_idle(gateway: Harness) -> None:
    async with dropping(gateway) as upstream:
        await gateway.get("/x")
        await gateway.get("/x")
        assert len(upstream.writers) == 1
        edit(gateway, pool_idle=0.0)
        await gateway.get("/x")
        assert len(upstream.writers) == 2


async def backoff(gateway: Harness, lowest: float, highest: float) -> float:
    """Seconds on the fake clock until a dropped request has been retried."""
    clock = gateway.gateway._clock
    assert isinstance(clock, FakeClock)
    edit(gateway, backoff_min=lowest, backoff_max=highest, pool_idle=0.0)
    async with dropping(gateway) as upstream:
        upstream.drops, began = 1, clock.monotonic()
        asking = asyncio.create_task(gateway.get("/x"))
        while not asking.done():
            await clock.advance(0.25 if upstream.requests else 0.0)
            await asyncio.sleep(0.001)
        assert (await asking).status == 200
        return clock.monotonic() - began


async def check_backoff_min(gateway: Harness) -> None:
    assert await backoff(gateway, 8.0, 8.0) >= 8.0


async def check_backoff_max(gateway: Harness) -> None:
    assert await backoff(gateway, 0.0, 0.0) < 8.0


CHECKS: dict[str, Callable[[Harness], Awaitable[None]]] = {
    name.removeprefix("check_"): check for name, check in globals().items() if name.startswith("check_")
}
ELSEWHERE = {
    "access_log_sample": "tests/unit/telemetry/test_observation.py",
    "drain_timeout": "it is the stop_timeout of the gateway's spec: tests/unit/supervisor/test_live_keys.py",
    "tls": "tests/process/test_tls.py",
}


def test_every_live_key_is_checked() -> None:
    assert set(CHECKS) | set(ELSEWHERE) == GATEWAY.fields_of(OnReload.LIVE)


@pytest.mark.parametrize("key", CHECKS)
async def test_a_live_key_applies_to_the_next_request(key: str) -> None:
    options: dict[str, Any] = {"clock": FakeClock()} if key.startswith("backoff") else {}
    async with running(*ROUTES, spec=GatewaySpec(), **options) as gateway:
        await CHECKS[key](gateway)
