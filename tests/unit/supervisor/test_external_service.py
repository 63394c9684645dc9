"""Services that run elsewhere: found, lost, told to others, and never started or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from msctl.errors import UsageError
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import Kind, State
from tests.support.clock import FakeClock
from tests.support.supervisor import MakeRig, free_port


@asynccontextmanager
async def answering(port: int, status: str = "200 OK") -> AsyncIterator[None]:
    """An HTTP server that gives everyone the same answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # a probe that only connects
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


def elsewhere(port: int, health: str | None = None) -> ServiceSpec:
    # What would hold for it here counts for nothing.
    return ServiceSpec(
        "users",
        command=("no-such-program",),
        port=1,
        replicas=3,
        depends_on=(Dependency("other"),),
        routes=(RouteSpec("/users", "users"),),
        health=health,
        url=f"http://127.0.0.1:{port}/",
    )


OTHER = ServiceSpec("other", command=("sleep", "600"), autostart=False)


async def test_it_is_ready_where_it_answers_and_is_not_ours(rig: MakeRig) -> None:
    port = free_port()
    async with answering(port):
        r = rig(elsewhere(port), OTHER)
        await r.supervisor.start()
        users = r.service("users")
        assert (users.kind, users.state) == (Kind.REMOTE, State.READY)
        assert users.addresses == (f"http://127.0.0.1:{port}",)
        assert (users.pid, len(users.instances)) == (None, 1)
        assert [e.base_url for e in r.registry.endpoints("users")] == [f"http://127.0.0.1:{port}"]
        assert r.service("other").state is State.STOPPED
        await r.supervisor.stop(["users"])
        assert r.registry.endpoints("users") == ()
        assert r.registry.absence("users") == "is stopped"
        await r.supervisor.start(["users"])
        assert r.service("users").state is State.READY


async def test_a_start_does_not_wait_for_what_does_not_answer_and_it_is_found_later(rig: MakeRig) -> None:
    port = free_port()
    r = rig(elsewhere(port), OTHER)
    await r.supervisor.start()
    users = r.service("users")
    assert users.state is State.UNHEALTHY
    assert "connection refused" in users.reason
    assert r.registry.endpoints("users") == ()
    async with answering(port):
        await r.until_state("users", State.READY)


async def test_its_health_path_is_asked_where_there_is_one(rig: MakeRig) -> None:
    port = free_port()
    async with answering(port, "503 Service Unavailable"):
        r = rig(elsewhere(port, "/healthz"), OTHER)
        await r.supervisor.start()
        assert r.service("users").state is State.UNHEALTHY
        assert r.service("users").reason == "GET /healthz: 503 Service Unavailable"


async def test_it_is_out_of_use_after_three_failures(rig: MakeRig) -> None:
    port = free_port()
    clock = FakeClock()
    r = rig(elsewhere(port), OTHER, clock=clock)
    async with answering(port):
        await r.supervisor.start()
    for pause in (10, 1, 1):
        assert r.service("users").state is State.READY
        await clock.advance(pause)
    await r.until_state("users", State.UNHEALTHY)


async def test_it_is_not_scaled_from_here(rig: MakeRig) -> None:
    r = rig(elsewhere(free_port()), OTHER)
    with pytest.raises(UsageError, match="elsewhere"):
        await r.supervisor.scale({"users": 2})
