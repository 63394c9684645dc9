"""Faults at the gateway: the client sees exactly the fault, and retries and breakers take it for real."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from msctl.faults.active import ActiveFault
from msctl.faults.http import HttpFaultPoint
from msctl.faults.parse import fault_from
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.snapshots import BreakerState
from tests.unit.gateway.harness import KINDS, TruncatedError, running
from tests.unit.gateway.recorder import Recorder

SPEC = GatewaySpec(backoff_min=0.001, backoff_max=0.002)


def broken(kind: str, target: str = "x", **options: Any) -> tuple[HttpFaultPoint, ActiveFault]:
    point = HttpFaultPoint()
    fault = ActiveFault("f1", fault_from({"kind": kind, "target": target, **options}), 1, 60.0)
    point.set([fault])
    return point, fault


def service(body: bytes = b"0123456789") -> tuple[web.Application, list[str]]:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        seen.append(request.method)
        return web.Response(body=body, content_type="text/plain")

    app = web.Application()
    app.router.add_route("*", "/x", answer)
    return app, seen


@pytest.mark.parametrize("kind", KINDS)
async def test_an_abort_is_the_service_s_answer_without_the_service(kind: str) -> None:
    point, fault = broken("abort", status=418)
    app, seen = service()
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        reply = await gateway.ask("POST", "/x", body=b"data")
        assert (reply.status, reply.get("msctl-fault"), seen) == (418, "f1", [])
        point.set([])
        assert (await gateway.get("/x")).body == b"0123456789"
    assert (fault.hits, seen) == (1, ["GET"])


@pytest.mark.parametrize("kind", KINDS)
async def test_an_abort_after_the_request_has_its_effect_and_loses_the_answer(kind: str) -> None:
    point, _ = broken("abort", status=500, when="after")
    app, seen = service()
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        reply = await gateway.ask("POST", "/x", body=b"data")
        assert (reply.status, seen) == (500, ["POST"])


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reset_is_retried_if_that_is_safe_and_opens_the_breaker(kind: str) -> None:
    point, fault = broken("abort", reset=True, when="after")
    app, seen = service()
    spec = GatewaySpec(retries=1, breaker_failures=3, backoff_min=0.001, backoff_max=0.002)
    async with running(RouteSpec("/x", "x"), spec=spec, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        got = await gateway.get("/x")
        assert (got.status, got.json()["reason"], got.json()["attempt"]) == (502, "connection_terminated", 2)
        posted = await gateway.ask("POST", "/x", body=b"data")
        assert (posted.status, posted.json()["attempt"]) == (502, 1)
        assert (seen, fault.hits) == (["GET", "GET", "POST"], 3)
        assert gateway.gateway.targets()[0].breaker is BreakerState.OPEN


@pytest.mark.parametrize("kind", KINDS)
async def test_a_delay_beyond_the_time_limit_is_a_timeout(kind: str) -> None:
    point, _ = broken("delay", delay="10s")
    app, seen = service()
    spec = GatewaySpec(response_timeout=0.1)
    async with running(RouteSpec("/x", "x"), spec=spec, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        reply = await gateway.get("/x")
        assert (reply.status, reply.json()["reason"], seen) == (504, "http_response_timeout", [])


async def test_a_client_that_leaves_ends_the_delay() -> None:
    point, _ = broken("delay", delay="1h")
    app, seen = service()
    told = Recorder()
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point, observer=told) as gateway:
        await gateway.serve("x", app, "hosted")
        client = await gateway.client()
        client.writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await told.wait("faulted")
        client.close()
        assert await told.wait("attempt") == ("attempt", "x", "x-1", 499)
        assert gateway.gateway.targets()[0].in_flight == 0
    assert seen == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_truncated_body_ends_in_its_middle(kind: str) -> None:
    point, _ = broken("truncate-body", bytes=4)
    app, _ = service()
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        with pytest.raises((TruncatedError, ConnectionResetError, asyncio.IncompleteReadError)):
            await gateway.get("/x")
        point.set([])
        assert (await gateway.get("/x")).body == b"0123456789"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault", [{"kind": "bandwidth", "rate": "4MiB"}, {"kind": "slow-body", "bytes": "64KiB", "delay": "1ms"}]
)
async def test_a_slow_body_arrives_whole_and_in_bounded_memory(kind: str, fault: dict[str, Any]) -> None:
    point, _ = broken(**fault)
    body = bytes(range(256)) * 2048
    app, _ = service(body)
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, kind)
        assert (await gateway.get("/x")).body == body


async def test_a_service_that_writes_on_after_a_cut_is_let_go() -> None:
    point, _ = broken("truncate-body", bytes=4)
    ended = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
        finally:
            ended.set()

    app = web.Application()
    app.router.add_get("/x", endless)
    async with running(RouteSpec("/x", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, "hosted")
        with pytest.raises((TruncatedError, ConnectionResetError, asyncio.IncompleteReadError)):
            await gateway.get("/x")
        async with asyncio.timeout(60):
            await ended.wait()


async def test_a_service_address_has_the_faults_of_services_and_none_of_routes() -> None:
    point = HttpFaultPoint(routed=False)
    faults = [
        ActiveFault(number, fault_from({"kind": "abort", "target": target, "status": status}), 1, 60.0)
        for number, target, status in (("f1", "/", "500"), ("f2", "x", "418"))
    ]
    app, _ = service()
    async with running(RouteSpec("/", "x"), spec=SPEC, faults=point) as gateway:
        await gateway.serve("x", app, "hosted")
        point.set(faults[:1])
        assert (await gateway.get("/x")).status == 200
        point.set(faults)
        assert (await gateway.get("/x")).get("msctl-fault") == "f2"
