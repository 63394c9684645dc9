"""`msctl route` says what a real request gets: both are asked, for routes and requests drawn at random."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from msctl.gateway.app import Gateway
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_policies import CanarySpec, StaticSpec
from msctl.model.route_spec import ComposeSpec, CorsSpec, RedirectSpec, RouteSpec
from msctl.model.routing import conflicts
from tests.unit.gateway.harness import HOSTED, Client, Harness, running

SERVICES = ("s1", "s2", "s3")
SPEC = GatewaySpec(openapi="/api.json", max_body=1000)
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE", "CONNECT", "FOO")
PATHS = (
    *(
        "/",
        "/a",
        "/a/",
        "/a/b",
        "/b/x",
        "/%61",
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/a/%2e%2e/b",
        "/a/b?x=1",
        "/a?",
    ),
    *(
        "/none/x",
        "/a.txt",
        "/sub",
        "/sub/",
        "/a/sub",
        "/index.html",
        "/.hidden",
        "//a",
        "/-/ready",
        "/api.json",
    ),
    *("*", "http://a.test/a", "http://x.b.test/a/b?q", "http://a.test", "a", "/a%zz", "/a%00", "/é", "/a b"),
    *("/a#f", "/" + "x" * 17_000),
)
HEADERS: tuple[Mapping[str, str], ...] = (
    *({"Host": host} for host in ("a.test", "x.b.test", "evil.test", "a b")),
    *({"X-V": value} for value in ("1", "2", "a\x01b")),
    *({"Origin": f"https://{name}.test"} for name in "op"),
    *({"Origin": f"https://{name}.test", "Access-Control-Request-Method": "POST"} for name in "op"),
    {"X-Canary": "always"},
    {"Expect": "more"},
    {"Max-Forwards": "0"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Accept": "text/html"},
    {"Content-Length": "1001"},
    {"Content-Length": "-1"},
    {"Transfer-Encoding": "gzip"},
    {"Via": "1.1 msctl-explain"},
    {"X-Long": "x" * 66_000},
    {"Not a name": "x"},
)


def draw_routes(draw: random.Random, files: Path) -> list[RouteSpec]:
    kinds: list[dict[str, Any]] = [
        {},
        {"strip_prefix": True},
        {"rewrite": "/r"},
        {"redirect": RedirectSpec(status=308, prefix="/z")},
        {"compose": ComposeSpec({"u": "/a"})},
        {"static": StaticSpec(str(files))},
        {"static": StaticSpec(str(files), fallback="index.html"), "strip_prefix": True},
        {"weights": {"s1": 0, "s2": 3}},
        {"canary": CanarySpec("s3", header="X-Canary")},
    ]
    conditions: list[dict[str, Any]] = [
        {"exact": True},
        {"methods": ("POST",)},
        {"methods": ("OPTIONS", "GET")},
        {"hosts": ("a.test",)},
        {"hosts": ("*.b.test",)},
        {"headers": {"X-V": "1"}},
        {"cors": CorsSpec(origins=("https://o.test",))},
    ]
    routes = []
    for _ in range(draw.randint(2, 8)):
        path = "/" + "/".join(draw.choice(("a", "b", "{id}")) for _ in range(draw.randint(0, 2)))
        more: dict[str, Any] = {}
        for condition in draw.sample(conditions, draw.randint(0, 2)):
            more |= condition
        routes.append(RouteSpec(path, draw.choice(SERVICES), **draw.choice(kinds), **more))
    while found := conflicts(routes):
        del routes[found[-1].later]
    return routes


def application(service: str) -> web.Application:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(headers={"X-Service": service, "X-Path": request.raw_path})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


def said(gateway: Gateway, method: str, path: str, headers: Mapping[str, str]) -> tuple[object, ...]:
    found = gateway.explain(method, path, headers)
    if found.status is not None:
        return (found.status,)
    if found.route is not None and found.route.compose is not None:
        return ("composed",)
    return found.service, found.upstream_path


async def got(gateway: Harness, method: str, path: str, headers: Mapping[str, str]) -> tuple[object, ...]:
    client: Client = await gateway.client()
    fields = {"Host": "localhost", **headers}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    await client.send("\r\n".join(lines).encode())
    reply = await client.reply(method)
    client.close()
    if reply.get("X-Service"):
        return reply.get("X-Service"), reply.get("X-Path")
    if reply.get("X-Msctl-Partial") or b"Every service of this document" in reply.body:
        return ("composed",)
    return (reply.status,)


@pytest.mark.parametrize("seed", range(8))
async def test_explanation_is_what_a_request_gets(seed: int, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("index.html", "a.txt", "sub/index.html"):
        (tmp_path / name).write_text("x")
    draw = random.Random(seed)
    routes = draw_routes(draw, tmp_path)
    async with running(*routes, spec=SPEC, any_host=False) as gateway:
        for service in SERVICES:
            await gateway.serve(service, application(service), HOSTED)
        for _ in range(60):
            method = draw.choice(METHODS) if draw.random() < 0.5 else "GET"
            headers = draw.choice(HEADERS) if draw.random() < 0.5 else {}
            path = draw.choice(PATHS)
            expected = said(gateway.gateway, method, path, headers)
            if expected == ("composed",) and method == "HEAD":
                continue
            real = await got(gateway, method, path, headers)
            assert real == expected, (method, path[:40], str(headers)[:80], routes)
