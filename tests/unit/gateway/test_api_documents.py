"""The gateway serves one OpenAPI document, of the services that have one, whatever the others do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from msctl.gateway import api_documents
from msctl.gateway.api_documents import LEFT_OUT
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.clock import FakeClock
from tests.unit.gateway.harness import HOSTED, KINDS, running

SPEC = GatewaySpec(openapi="/openapi.json")


def serving(
    answer: web.Response | None = None, asked: list[str] | None = None, **document: Any
) -> web.Application:
    async def handler(_: web.Request) -> web.Response:
        if asked is not None:
            asked.append("asked")
        if answer is not None:
            return web.Response(status=answer.status, body=answer.body)
        return web.json_response({"openapi": "3.1.0", "info": {}, "paths": {"/x": {"get": {}}}, **document})

    app = web.Application()
    app.router.add_get("/openapi.json", handler)
    return app


async def test_documents_of_hosted_and_remote_services_are_joined() -> None:
    routes = [RouteSpec(f"/{kind}", kind, strip_prefix=True) for kind in KINDS]
    async with running(*routes, spec=SPEC) as gateway:
        for kind in KINDS:
            await gateway.serve(kind, serving(), kind)
        reply = await gateway.get("/openapi.json")
        assert reply.get("Content-Type") == "application/json"
        document = reply.json()
        assert set(document["paths"]) == {"/hosted/x", "/remote/x"}
        assert LEFT_OUT not in document
        assert (await gateway.ask("HEAD", "/openapi.json")).status == 200
        assert (await gateway.ask("POST", "/openapi.json")).status == 405


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.Response(status=404), "404"),
        (web.Response(body=b"<html>"), "not JSON"),
        (web.Response(body=b'{"swagger": "2.0"}'), "OpenAPI 2.0"),
        (
            web.Response(
                body=b'{"openapi": "3.1.0", "components": {"schemas": ' + b'{"a":' * 200 + b"1" + b"}" * 202
            ),
            "deep",
        ),
        (web.Response(body=b'"' + b"x" * 5_000_000 + b'"'), "longer than"),
    ],
)
async def test_unusable_document_is_left_out_and_named(answer: web.Response, reason: str) -> None:
    routes = [RouteSpec("/good", "good", strip_prefix=True), RouteSpec("/bad", "bad")]
    async with running(*routes, RouteSpec("/down", "down"), spec=SPEC) as gateway:
        await gateway.serve("good", serving(), HOSTED)
        await gateway.serve("bad", serving(answer), HOSTED)
        document = (await gateway.get("/openapi.json")).json()
    assert set(document["paths"]) == {"/good/x"}
    assert reason in document[LEFT_OUT]["bad"]
    assert "down" in document[LEFT_OUT]


async def test_service_that_does_not_answer_is_waited_for_a_limited_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_documents, "TIMEOUT_S", 0.05)

    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/openapi.json", never)
    async with running(RouteSpec("/slow", "slow"), spec=SPEC) as gateway:
        await gateway.serve("slow", app, HOSTED)
        document = (await gateway.get("/openapi.json")).json()
    assert "within" in document[LEFT_OUT]["slow"]


async def test_services_are_asked_once_for_many_requests_and_again_later() -> None:
    asked: list[str] = []
    clock = FakeClock()
    async with running(RouteSpec("/x", "x"), spec=SPEC, clock=clock) as gateway:
        await gateway.serve("x", serving(asked=asked), HOSTED)
        await asyncio.gather(*(gateway.get("/openapi.json") for _ in range(5)))
        assert len(asked) == 1
        await clock.advance(api_documents.FRESH_S)
        await gateway.get("/openapi.json")
    assert len(asked) == 2


async def test_without_the_key_the_path_is_a_route_like_any() -> None:
    async with running(RouteSpec("/", "x")) as gateway:
        await gateway.serve("x", serving(), HOSTED)
        assert set((await gateway.get("/openapi.json")).json()["paths"]) == {"/x"}
