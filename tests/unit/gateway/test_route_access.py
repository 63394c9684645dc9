"""Basic authentication, fetched keys and forward authentication, through a running gateway."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import replace

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec

from msctl.gateway import access
from msctl.model.route_policies import BasicAuthSpec, ForwardAuthSpec, JwtSpec
from msctl.model.route_spec import (
    ComposeSpec,
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RouteSpec,
)
from tests.support.ports import reserved_port
from tests.unit.gateway.harness import HOSTED, KINDS, REMOTE, Harness, running
from tests.unit.gateway.test_basic_auth import HASHES

ANN = ("Authorization", "Basic " + base64.b64encode("ann:pä$s wörd".encode()).decode())
EVE = ("Authorization", "Basic " + base64.b64encode(b"ann:guess").decode())
KEY = ec.generate_private_key(ec.SECP256R1())


async def echo(request: web.Request) -> web.Response:
    return web.json_response(
        {"path": request.raw_path, "fields": [list(pair) for pair in request.headers.items()]}
    )


def echoing() -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", echo)
    return app


async def seen(gateway: Harness, target: str, *fields: tuple[str, str]) -> dict[str, list[str]]:
    reply = await gateway.get(target, *fields)
    assert reply.status == 200
    found: dict[str, list[str]] = {}
    for name, value in reply.json()["fields"]:
        found.setdefault(name.lower(), []).append(value)
    return found


async def test_a_password_opens_the_route_and_a_page_of_another_origin_can_read_the_refusal() -> None:
    auth = BasicAuthSpec(env="USERS", realm="shop")
    route = RouteSpec("/x", "x", basic_auth=auth, cors=CorsSpec(("https://app.test",)))
    async with running(route, environ={"USERS": f"ann:{HASHES[0]}"}) as gateway:
        await gateway.serve("x", echoing(), HOSTED)
        assert (await gateway.get("/x")).status == 401
        refused = await gateway.get("/x", EVE, ("Origin", "https://app.test"))
        assert (refused.status, refused.get("Access-Control-Allow-Origin")) == (401, "https://app.test")
        assert refused.get("WWW-Authenticate") == 'Basic realm="shop", charset="UTF-8"'
        for _ in range(3):
            assert (await gateway.get("/x", ANN)).status == 200
        assert (await gateway.get("/x", EVE)).status == 401
        assert (await gateway.get("/x", ANN, ANN)).status == 400


async def test_a_flood_of_passwords_does_not_queue_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_WAITING", 3)
    route = RouteSpec("/x", "x", basic_auth=BasicAuthSpec(env="USERS"))
    async with running(route, environ={"USERS": f"ann:{HASHES[0]}"}) as gateway:
        await gateway.serve("x", echoing(), HOSTED)
        assert (await gateway.get("/x", ANN)).status == 200
        replies = await asyncio.gather(*(gateway.get("/x", EVE) for _ in range(30)))
        assert {reply.status for reply in replies} == {401, 503}
        assert (await gateway.get("/x", ANN)).status == 200


async def test_users_are_told_apart_by_the_rate_limit() -> None:
    route = RouteSpec(
        "/x",
        "x",
        basic_auth=BasicAuthSpec(file="/users"),
        rate_limit=RateLimitSpec(1, period=60, key=RateLimitKey.CREDENTIAL),
    )
    bob = ("Authorization", "Basic " + base64.b64encode("bob:pä$s wörd".encode()).decode())
    async with running(route, environ={"/users": f"ann:{HASHES[2]}\nbob:{HASHES[2]}"}) as gateway:
        await gateway.serve("x", echoing(), HOSTED)
        assert [(await gateway.get("/x", who)).status for who in (ANN, bob, ANN)] == [200, 200, 429]


async def test_tokens_are_verified_with_keys_of_a_real_issuer() -> None:
    served = 0

    async def keys(_: web.Request) -> web.Response:
        nonlocal served
        served += 1
        entry = json.loads(jwt.get_algorithm_by_name("ES256").to_jwk(KEY.public_key()))
        entry.pop("key_ops", None)
        return web.json_response({"keys": [{**entry, "kid": "one"}]})

    async def configuration(_: web.Request) -> web.Response:
        return web.json_response({"issuer": issuer, "jwks_uri": f"{issuer}/keys"})

    app = web.Application()
    app.router.add_get("/keys", keys)
    app.router.add_get("/.well-known/openid-configuration", configuration)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    issuer = f"http://127.0.0.1:{runner.addresses[0][1]}"

    def token(kid: str = "one", **claims: object) -> tuple[str, str]:
        made = {"exp": time.time() + 60, "iss": issuer, "sub": "ann", **claims}
        return "Authorization", "Bearer " + jwt.encode(made, KEY, algorithm="ES256", headers={"kid": kid})

    try:
        async with running(
            RouteSpec("/x", "x", jwt=JwtSpec(issuer=issuer, discovery=True)),
            RouteSpec("/y", "x", jwt=JwtSpec(jwks=f"{issuer}/nothing")),
        ) as gateway:
            await gateway.serve("x", echoing(), HOSTED)
            assert (await gateway.get("/x")).status == 401
            assert served == 0
            statuses = await asyncio.gather(*(gateway.get("/x", token()) for _ in range(10)))
            assert ({reply.status for reply in statuses}, served) == ({200}, 1)
            assert (await gateway.get("/x", token("two"))).status == 401
            assert (await gateway.get("/x", token(iss="http://evil.test"))).status == 401
            missing = await gateway.get("/y", token())
            assert missing.status == 503
            assert "404" in missing.json()["detail"]
    finally:
        await runner.cleanup()


def gatekeeper() -> web.Application:
    async def check(request: web.Request) -> web.StreamResponse:
        who = request.headers.get("X-Token")
        fields = {"X-User": f"user of {who}", "X-Asked": request.headers["X-Forwarded-Uri"]}
        if who == "slow":
            await asyncio.sleep(30)
        if who == "login":
            raise web.HTTPFound("https://login.test/", headers={"Set-Cookie": "a=b"})
        if who is None:
            return web.json_response(
                {"error": "who are you?"}, status=401, headers={"WWW-Authenticate": "Custom"}
            )
        return web.Response(status=204, headers=fields)

    app = web.Application()
    app.router.add_get("/check", check)
    return app


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_url", [False, True])
async def test_another_service_allows_requests_and_says_who_asks(kind: str, by_url: bool) -> None:
    async with running(RouteSpec("/auth", "auth", strip_prefix=True)) as gateway:
        await gateway.serve("auth", gatekeeper(), kind if not by_url else REMOTE)
        where = {"path": "/auth/check"}
        if by_url:
            where = {"url": f"{gateway.registry.endpoints('auth')[0].base_url}/check"}
        auth = ForwardAuthSpec(timeout=5, response_headers=("X-User", "X-Asked"), **where)  # type: ignore[arg-type]
        routes = [RouteSpec("/auth", "auth", strip_prefix=True), RouteSpec("/x", "x", forward_auth=auth)]
        gateway.gateway.reconfigure(gateway.gateway.spec, routes)
        await gateway.serve("x", echoing(), kind)
        refused = await gateway.get("/x")
        assert (refused.status, refused.json()) == (401, {"error": "who are you?"})
        assert refused.get("WWW-Authenticate") == "Custom"
        login = await gateway.get("/x", ("X-Token", "login"))
        assert (login.status, login.get("Location")) == (302, "https://login.test/")
        assert login.get("Set-Cookie") == "a=b"
        fields = await seen(
            gateway,
            "/x/y?z=1",
            ("X-Token", "t"),
            ("X-User", "admin"),
            ("x_user", "admin"),
            ("If-None-Match", "*"),
        )
        assert fields["x-user"] == ["user of t"]
        assert fields["x-asked"] == ["/x/y?z=1"]
        assert "x_user" not in fields
        assert fields["x-token"] == ["t"]
        posted = await gateway.ask("POST", "/x", ("X-Token", "t"), body=b"a" * 1000)
        assert posted.status == 200


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("by_url", "peers", "prefix"),
    [
        (False, (), "/auth"),
        (False, ("127.0.0.1",), "/outer/auth"),
        (True, (), None),
        (True, ("127.0.0.1",), "/outer"),
    ],
)
async def test_the_question_is_the_request_as_it_came(
    kind: str, by_url: bool, peers: tuple[str, ...], prefix: str | None
) -> None:
    """The route's own edits, its prefix among them, are for its service alone."""
    asked: list[web.Request] = []

    async def check(request: web.Request) -> web.Response:
        asked.append(request)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_get("/check", check)
    async with running(RouteSpec("/auth", "auth", strip_prefix=True)) as gateway:
        await gateway.serve("auth", app, kind if not by_url else REMOTE)
        where = {"path": "/auth/check"}
        if by_url:
            where = {"url": f"{gateway.registry.endpoints('auth')[0].base_url}/check"}
        route = RouteSpec(
            "/x",
            "x",
            strip_prefix=True,
            forward_auth=ForwardAuthSpec(**where),  # type: ignore[arg-type]  # as above
            request_headers=HeaderEdit(remove=("Authorization",), set={"X-Env": "dev"}, add={"X-Tag": "b"}),
        )
        spec = replace(gateway.gateway.spec, trusted_peers=peers)
        gateway.gateway.reconfigure(spec, [RouteSpec("/auth", "auth", strip_prefix=True), route])
        await gateway.serve("x", echoing(), kind)
        fields = await seen(
            gateway,
            "/x/y?z",
            ("Authorization", "Bearer t"),
            ("X-Env", "forged"),
            ("X-Tag", "a"),
            ("X-Forwarded-Prefix", "/outer"),
        )
    told = asked[0].headers
    assert told["Authorization"] == "Bearer t"
    assert (told["X-Env"], told.getall("X-Tag")) == ("forged", ["a"])
    assert told["X-Forwarded-Uri"] == "/x/y?z"
    assert told.getall("X-Forwarded-Prefix", [None]) == [prefix]
    assert "authorization" not in fields
    assert (fields["x-env"], fields["x-tag"]) == (["dev"], ["a", "b"])
    assert fields["x-forwarded-prefix"] == ["/outer/x" if peers else "/x"]


async def test_an_explanation_says_which_of_the_gateways_own_requests_have_no_route() -> None:
    async with running(
        RouteSpec("/auth", "auth"),
        RouteSpec("/asked", "x", forward_auth=ForwardAuthSpec(path="/auth/check")),
        RouteSpec("/lost", "x", forward_auth=ForwardAuthSpec(path="/nowhere")),
        RouteSpec("/all/{id}", "", compose=ComposeSpec({"a": "/auth/{id}", "b": "/missing/{id}"})),
    ) as gateway:
        lost, asked, composed = (
            gateway.gateway.explain("GET", path) for path in ("/lost", "/asked", "/all/7")
        )
    assert lost.status == 502
    assert "GET /nowhere" in lost.steps[-1]
    assert not any("No route" in step for step in asked.steps)
    assert [step for step in composed.steps if "No route" in step and "/missing/7" in step]
    assert not any("GET /auth/7" in step for step in composed.steps)


async def test_a_service_that_does_not_answer_allows_nothing() -> None:
    with reserved_port() as port:
        async with running(
            RouteSpec("/auth", "auth", strip_prefix=True),
            RouteSpec("/slow", "x", forward_auth=ForwardAuthSpec(path="/auth/check", timeout=0.1)),
            RouteSpec("/lost", "x", forward_auth=ForwardAuthSpec(path="/nowhere")),
            RouteSpec("/down", "x", forward_auth=ForwardAuthSpec(url=f"http://127.0.0.1:{port}/check")),
            RouteSpec("/gone", "x", forward_auth=ForwardAuthSpec(path="/stopped")),
            RouteSpec("/stopped", "stopped"),
        ) as gateway:
            await gateway.serve("auth", gatekeeper(), HOSTED)
            await gateway.serve("x", echoing(), HOSTED)
            slow = await gateway.get("/slow", ("X-Token", "slow"))
            assert slow.status == 504
            assert [(await gateway.get(path)).status for path in ("/lost", "/down", "/gone")] == [
                502,
                502,
                503,
            ]
