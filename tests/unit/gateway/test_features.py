"""Filters and other features of routes, as seen by a client."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession, web

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import (
    ApiKeySpec,
    ComposeSpec,
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.snapshots import BreakerState
from tests.support.clock import FakeClock
from tests.unit.gateway.harness import HOSTED, KINDS, Harness, running
from tests.unit.gateway.recorder import Recorder

both = pytest.mark.parametrize("kind", KINDS)
ORIGIN = ("Origin", "https://app.example")
KEY = "a-key-of-16-bytes"


async def plain(request: web.Request) -> web.Response:
    return web.Response(text="ok", headers={"Access-Control-Allow-Origin": "https://upstream.example"})


def application(**handlers: object) -> web.Application:
    app = web.Application()
    for name, handler in handlers.items():
        app.router.add_route("*", f"/{name}" + "{rest:.*}", handler)  # type: ignore[arg-type] # handlers, by name
    return app


async def serve(gateway: Harness, kind: str = "hosted") -> None:
    await gateway.serve("x", application(x=plain), kind)


# --- requests that end here: OPTIONS *, Max-Forwards -----------------------------------------------

ANY = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


def limited(value: str) -> tuple[str, str]:
    return ("Max-Forwards", value)


@both
@pytest.mark.parametrize("target", ["*", "http://gateway.localhost"])
async def test_options_about_the_server_as_a_whole_is_answered_for_all_routes(kind: str, target: str) -> None:
    routes = (RouteSpec("/x", "x", methods=("PUT", "GET", "TRACE")), RouteSpec("/y", "y", methods=("LOCK",)))
    async with running(*routes) as gateway:
        await serve(gateway, kind)
        client = await gateway.client()
        reply = await client.request("OPTIONS", target)
        assert (reply.status, reply.get("Allow"), reply.body) == (200, "GET, PUT, LOCK, OPTIONS", b"")
        assert reply.get("Content-Length") == "0"
        assert reply.get("X-Request-Id") is not None
        assert (await client.request("GET", "/x")).status == 200
    async with running(RouteSpec("/x", "x"), RouteSpec("/y", "y", methods=("LOCK", "GET"))) as gateway:
        assert (await gateway.ask("OPTIONS", target)).get("Allow") == f"{ANY}, LOCK"


@both
async def test_options_about_a_path_goes_to_its_service(kind: str) -> None:
    async with running(RouteSpec("/", "x")) as gateway:
        await gateway.serve("x", application(x=plain), kind)
        assert (await gateway.ask("OPTIONS", "http://gateway.localhost/x")).body == b"ok"
        assert (await gateway.ask("OPTIONS", "http://gateway.localhost/")).status == 404


@both
async def test_the_asterisk_is_allowed_only_with_options(kind: str) -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await serve(gateway, kind)
        for method in ("GET", "TRACE", "POST"):
            assert (await gateway.ask(method, "*")).status == 400


@both
async def test_max_forwards_counts_down_for_options_and_trace_alone(kind: str) -> None:
    seen: list[list[str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.getall("Max-Forwards"))
        return web.Response()

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(x=handler), kind)
        for method in ("OPTIONS", "TRACE"):
            for value in ("1", "0010", "9" * 5000):
                assert (await gateway.ask(method, "/x", limited(value))).status == 200
        for value in ("7", "0", "many"):
            assert (await gateway.ask("GET", "/x", limited(value))).status == 200
    assert seen == [["0"], ["9"], ["255"]] * 2 + [["7"], ["0"], ["many"]]


@both
async def test_max_forwards_0_is_answered_by_the_gateway(kind: str) -> None:
    routes = (RouteSpec("/x", "x"), RouteSpec("/some", "x", methods=("GET", "OPTIONS", "TRACE")))
    async with running(*routes) as gateway:
        for target, allow in (("/x", ANY), ("/some", "GET, OPTIONS")):
            for zero in ("0", "00"):
                reply = await gateway.ask("OPTIONS", target, limited(zero))
                assert (reply.status, reply.get("Allow"), reply.body) == (200, allow, b"")
            refused = await gateway.ask("TRACE", target, limited("0"), ("Cookie", "secret=1"))
            assert (refused.status, refused.get("Allow")) == (405, allow)
            assert b"secret" not in refused.body
        await serve(gateway, kind)
        assert (await gateway.ask("TRACE", "/x")).body == b"ok"
        assert (await gateway.ask("OPTIONS", "/nowhere", limited("0"))).status == 404


@both
@pytest.mark.parametrize("fields", [[limited("")], [limited("-1")], [limited("1, 1")], [limited("1")] * 2])
async def test_a_max_forwards_that_is_not_a_number_is_refused(
    kind: str, fields: list[tuple[str, str]]
) -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await serve(gateway, kind)
        for method in ("OPTIONS", "TRACE"):
            assert (await gateway.ask(method, "/x", *fields)).status == 400


@both
async def test_authentication_applies_to_the_gateway_s_own_responses(kind: str) -> None:
    route = RouteSpec("/x", "x", api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": f"me={KEY}"}) as gateway:
        await serve(gateway, kind)
        assert (await gateway.ask("OPTIONS", "/x", limited("0"))).status == 401
        assert (await gateway.ask("OPTIONS", "/x", limited("0"), ("X-API-Key", KEY))).status == 200


async def test_an_unread_body_closes_the_connection() -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        client = await gateway.client()
        fields = [("Expect", "100-continue"), ("Content-Length", "5")]
        reply = await client.request("OPTIONS", "*", fields)
        assert (reply.status, reply.get("Connection")) == (200, "close")
        assert await client.closed()


async def test_explain_covers_the_gateway_s_own_responses() -> None:
    async with running(RouteSpec("/x", "x", methods=("GET", "OPTIONS"))) as gateway:
        explain = gateway.gateway.explain
        whole = explain("OPTIONS", "*")
        assert (whole.status, whole.route) == (200, None)
        assert "server as a whole" in whole.steps[-1]
        assert "GET, OPTIONS" in whole.steps[-1]
        last = explain("OPTIONS", "/x", {"Max-Forwards": "0"})
        assert (last.status, "Max-Forwards is 0" in last.steps[-1]) == (200, True)


# --- CORS -----------------------------------------------------------------------------------------


@both
async def test_without_cors_the_service_s_own_fields_pass(kind: str) -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await serve(gateway, kind)
        reply = await gateway.get("/x", ORIGIN)
    assert reply.all("Access-Control-Allow-Origin") == ["https://upstream.example"]


@both
async def test_an_allowed_origin_may_read_the_answer(kind: str) -> None:
    cors = CorsSpec(origins=("https://app.example",), credentials=True, expose=("X-Total",))
    async with running(RouteSpec("/x", "x", cors=cors)) as gateway:
        await serve(gateway, kind)
        allowed = await gateway.get("/x", ORIGIN)
        other = await gateway.get("/x", ("Origin", "https://evil.example"))
    assert allowed.all("Access-Control-Allow-Origin") == ["https://app.example"]
    assert allowed.get("Access-Control-Allow-Credentials") == "true"
    assert allowed.get("Access-Control-Expose-Headers") == "X-Total"
    assert allowed.get("Vary") == "Origin"
    assert other.get("Access-Control-Allow-Origin") is None


async def test_a_preflight_is_answered_by_the_gateway() -> None:
    cors = CorsSpec(origins=("*",), methods=("GET", "PUT"))
    asked = ORIGIN, ("Access-Control-Request-Method", "PUT"), ("Access-Control-Request-Headers", "x-a, x-b")
    async with running(
        RouteSpec("/x", "x", cors=cors, api_key=ApiKeySpec("KEYS")), environ={"KEYS": KEY}
    ) as gateway:
        reply = await gateway.ask("OPTIONS", "/x", *asked)
    assert reply.status == 204
    assert reply.get("Access-Control-Allow-Origin") == "*"
    assert reply.get("Access-Control-Allow-Methods") == "GET, PUT"
    assert reply.get("Access-Control-Allow-Headers") == "x-a, x-b"
    assert reply.get("Access-Control-Max-Age") == "600"


async def test_a_preflight_takes_the_route_of_the_request_that_it_asks_for() -> None:
    cors = CorsSpec(origins=("https://app.example",), methods=("POST",))
    routes = (
        RouteSpec("/", "other"),
        RouteSpec("/x", "x", methods=("POST",), cors=cors),
        RouteSpec("/own", "x", methods=("POST",), cors=cors),
        RouteSpec("/own", "own", methods=("OPTIONS",)),
    )

    async def options(request: web.Request) -> web.Response:
        return web.Response(text="own")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", options)
    post = ORIGIN, ("Access-Control-Request-Method", "POST")
    async with running(*routes) as gateway:
        for service in ("x", "own", "other"):
            await gateway.serve(service, app, HOSTED)
        for _ in range(2):  # from the plan cache, too
            allowed = await gateway.ask("OPTIONS", "/x/1", *post)
            assert allowed.status == 204
            assert allowed.get("Access-Control-Allow-Origin") == "https://app.example"
            assert (await gateway.ask("OPTIONS", "/own", *post)).body == b"own"
            # What is no preflight, or asks for another route, goes where OPTIONS goes.
            assert (await gateway.ask("OPTIONS", "/x/1", ORIGIN)).body == b"own"
            assert (await gateway.ask("OPTIONS", "/y", *post)).body == b"own"
        assert gateway.gateway.explain("OPTIONS", "/x/1", dict(post)).route == routes[1]


async def test_a_401_has_the_cors_fields() -> None:
    cors = CorsSpec(origins=("https://app.example",))
    route = RouteSpec("/x", "x", cors=cors, api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": KEY}) as gateway:
        reply = await gateway.get("/x", ORIGIN)
    assert (reply.status, reply.get("Access-Control-Allow-Origin")) == (401, "https://app.example")


async def test_a_redirect_has_the_cors_fields() -> None:
    cors = CorsSpec(origins=("https://app.example",))
    async with running(RouteSpec("/x", "", cors=cors, redirect=RedirectSpec(prefix="/y"))) as gateway:
        reply = await gateway.get("/x", ORIGIN)
    assert (reply.status, reply.get("Access-Control-Allow-Origin")) == (302, "https://app.example")


# --- rate limits ----------------------------------------------------------------------------------


@both
async def test_too_many_requests_are_429(kind: str) -> None:
    clock = FakeClock()
    route = RouteSpec("/x", "x", rate_limit=RateLimitSpec(requests=2, period=10))
    async with running(route, clock=clock) as gateway:
        await serve(gateway, kind)
        replies = [await gateway.get("/x") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert replies[0].get("RateLimit") == '"default";r=1;t=5'
        assert replies[0].get("RateLimit-Policy") == '"default";q=2;w=10'
        assert replies[2].get("Retry-After") == "5"
        assert replies[2].get("RateLimit") == '"default";r=0;t=10'
        clock.set(5)
        assert (await gateway.get("/x")).status == 200


async def test_clients_are_distinguished_by_the_configured_key() -> None:
    limit = RateLimitSpec(requests=1, period=60, key=RateLimitKey.HEADER, header="X-Tenant")
    async with running(RouteSpec("/x", "x", rate_limit=limit)) as gateway:
        await serve(gateway)
        statuses = [(await gateway.get("/x", ("X-Tenant", name))).status for name in ("a", "b", "a")]
    assert statuses == [200, 200, 429]


async def test_credentials_have_buckets_of_their_own() -> None:
    limit = RateLimitSpec(requests=1, period=60, key=RateLimitKey.CREDENTIAL)
    route = RouteSpec("/x", "x", rate_limit=limit, api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": f"a={KEY},b={KEY}2"}) as gateway:
        await serve(gateway)
        statuses = [(await gateway.get("/x", ("X-API-Key", key))).status for key in (KEY, f"{KEY}2", KEY)]
    assert statuses == [200, 200, 429]


# --- redirects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("redirect", "target", "expected"),
    [
        (RedirectSpec(path="/new"), "/old/a?b=%2F", "http://gateway.localhost/new?b=%2F"),
        (RedirectSpec(status=301, prefix="/new"), "/old/a%2Fb?c", "http://gateway.localhost/new/a%2Fb?c"),
        (RedirectSpec(scheme="https"), "/old", "https://gateway.localhost/old"),
        (RedirectSpec(host="other.test", port=8443, scheme="https"), "/old", "https://other.test:8443/old"),
        (RedirectSpec(host="::1", port=8443), "/old", "http://[::1]:8443/old"),
        (RedirectSpec(port=80), "/old", "http://gateway.localhost/old"),
    ],
)
async def test_a_route_can_redirect(redirect: RedirectSpec, target: str, expected: str) -> None:
    async with running(RouteSpec("/old", "", redirect=redirect)) as gateway:
        reply = await gateway.get(target)
    assert (reply.status, reply.get("Location"), reply.body) == (redirect.status, expected, b"")


# --- composition ----------------------------------------------------------------------------------


async def user(request: web.Request) -> web.Response:
    return web.json_response({"id": request.path.rpartition("/")[2], "seen": request.headers.get("X-Who")})


async def orders(request: web.Request) -> web.Response:
    return web.json_response([{"user": request.query["user"], "total": 1.10}])


async def broken(request: web.Request) -> web.Response:
    return web.Response(status=500, text="broken")


async def text(request: web.Request) -> web.Response:
    return web.Response(text="no json")


async def slow(request: web.Request) -> web.Response:
    await asyncio.Event().wait()
    raise AssertionError("never reached")


async def composed(gateway: Harness, kind: str) -> None:
    app = application(users=user, orders=orders, broken=broken, text=text, slow=slow)
    await gateway.serve("all", app, kind)


ROUTES = [RouteSpec(path, "all") for path in ("/users", "/orders", "/broken", "/text", "/slow")]


@both
async def test_several_services_are_composed_into_one_document(kind: str) -> None:
    spec = ComposeSpec({"user": "/users/{id}", "orders": "/orders?user={id}"})
    async with running(RouteSpec("/profile/{id}", "", compose=spec), *ROUTES) as gateway:
        await composed(gateway, kind)
        reply = await gateway.get("/profile/7", ("X-Who", "me"))
        head = await gateway.ask("HEAD", "/profile/7")
        post = await gateway.ask("POST", "/profile/7", body=b"x")
    assert (reply.status, reply.get("Content-Type")) == (200, "application/json")
    assert reply.json() == {"user": {"id": "7", "seen": "me"}, "orders": [{"user": "7", "total": 1.1}]}
    assert reply.get("X-Msctl-Partial") is None
    assert head.status == 200
    assert (post.status, post.get("Allow")) == (405, "GET, HEAD")


@both
async def test_a_partial_document_says_what_is_missing(kind: str) -> None:
    spec = ComposeSpec(
        {"user": "/users/1", "broken": "/broken", "text": "/text", "slow": "/slow", "lost": "/nowhere"},
        timeout=0.3,
    )
    async with running(RouteSpec("/all", "", compose=spec), *ROUTES) as gateway:
        await composed(gateway, kind)
        reply = await gateway.get("/all")
    assert reply.status == 200
    assert reply.json() == {
        "user": {"id": "1", "seen": None},
        "broken": None,
        "text": None,
        "slow": None,
        "lost": None,
    }
    partial = reply.get("X-Msctl-Partial")
    assert partial == "broken;status=500, text;status=502, slow;status=504, lost;status=404"


@both
async def test_a_document_without_any_branch_is_502(kind: str) -> None:
    spec = ComposeSpec({"broken": "/broken", "text": "/text"})
    async with running(RouteSpec("/all", "", compose=spec), *ROUTES) as gateway:
        await composed(gateway, kind)
        reply = await gateway.get("/all")
    assert reply.status == 502
    assert reply.json()["branches"]["broken"] == "status 500"


async def test_a_variable_cannot_change_the_path_of_a_branch() -> None:
    spec = ComposeSpec({"orders": "/orders?user={id}"})
    async with running(RouteSpec("/profile/{id}", "", compose=spec), *ROUTES) as gateway:
        await composed(gateway, "hosted")
        reply = await gateway.get("/profile/1&user=2%26x")
    assert reply.json() == {"orders": [{"user": "1&user=2&x", "total": 1.1}]}


# --- explanations and observation -----------------------------------------------------------------


async def test_explain_names_route_and_instance() -> None:
    routes = (
        RouteSpec("/users", "users"),
        RouteSpec("/users", "admin", methods=("DELETE",)),
        RouteSpec("/users", "beta", headers={"X-Beta": "1"}),
        RouteSpec("/files", "files", strip_prefix=True),
        RouteSpec("/old", "", redirect=RedirectSpec(path="/users")),
        RouteSpec("/all", "", compose=ComposeSpec({"a": "/users"})),
    )
    async with running(*routes) as gateway:
        gateway.announce("users", "http://127.0.0.1:1")
        gateway.announce("files", "http://127.0.0.1:1", "files-1")
        gateway.announce("files", "http://127.0.0.1:2", "files-2")
        explain = gateway.gateway.explain
        one = explain("get", "/users/1?a=b")
        assert (one.service, one.instance, one.upstream_path, one.status) == (
            "users",
            "users-1",
            "/users/1?a=b",
            None,
        )
        assert one.route == routes[0]
        assert one.steps[0] == "The route /users matches the path but allows only DELETE."
        assert one.steps[1] == "The route /users matches the path but requires x-beta: 1."
        assert one.steps[-1] == "users-1 (http://127.0.0.1:1) is the only ready instance of users."
        beta = explain("GET", "/users", {"X-Beta": "1"})
        assert (beta.service, beta.instance, beta.status) == ("beta", None, 503)
        assert beta.steps[-1] == "The service beta is not started."
        files = explain("GET", "/files/a")
        assert files.upstream_path == "/a"
        assert "of 2 ready instances of files" in files.steps[-1]
        assert explain("GET", "/old").status == 302
        assert explain("GET", "/all").status is None
        lost = explain("GET", "/user")
        assert (lost.route, lost.status) == (None, 404)
        assert "/users" in lost.steps[-1]
        assert explain("GET", "/users/../x").status == 400


@both
async def test_a_stream_has_a_measure_of_its_own(kind: str) -> None:
    """Its length is nobody's latency, and a client that ends it is not one that gave up."""
    told, finished = Recorder(), asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        if request.path == "/x/ws":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await socket.send_str("hello")
            await socket.receive()
            return socket
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await finished.wait()
        return response

    async with running(RouteSpec("/x", "x"), observer=told) as gateway:
        await gateway.serve("x", application(x=stream), kind)
        async with ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{gateway.port}/x/events") as response:
                assert await response.content.readany() == b"data: 1\n\n"
            async with session.ws_connect(f"http://127.0.0.1:{gateway.port}/x/ws") as socket:
                assert (await socket.receive()).data == "hello"
        finished.set()
        await told.wait("stream", count=2)
    statuses = [event[-1] for event in told.told if event[0] == "finished"]
    assert set(statuses) == {101, 200}


async def test_the_observer_gets_every_event() -> None:
    observer = Recorder()
    spec = GatewaySpec(breaker_failures=2, backoff_min=0.001, backoff_max=0.001)
    async with running(RouteSpec("/x", "x"), spec=spec, observer=observer) as gateway:
        gateway.announce("x", "http://127.0.0.1:1")
        await gateway.get("/x/1")
        await gateway.ask("PURGE", "/secret/path")
        gateway.registry.withdraw("x", "x-1", "is stopped")
        await gateway.get("/x/1")
    assert observer.told == [
        ("started", "GET", "/x/1"),
        ("ready", "x", "x-1", True),
        ("attempt leaves", "GET", "/x/1"),
        ("attempt", "x", "x-1", None),
        ("retried", "x", "connection_refused"),
        ("attempt leaves", "GET", "/x/1"),
        ("breaker", "x", "x-1", BreakerState.OPEN),
        ("attempt", "x", "x-1", None),
        ("finished", "x", "/x", 502),
        ("started", "PURGE", "/secret/path"),
        ("finished", "", "", 404),
        ("started", "GET", "/x/1"),
        ("ready", "x", "x-1", False),
        ("finished", "x", "/x", 503),
    ]


async def test_the_observer_gets_attempts_at_hosted_instances() -> None:
    observer = Recorder()
    async with running(RouteSpec("/y", "x", rewrite="/x"), observer=observer) as gateway:
        await serve(gateway)
        await gateway.get("/y/1?a=b", ("traceparent", "none"))
    assert observer.told == [
        ("started", "GET", "/y/1?a=b", "none"),
        ("ready", "x", "x-1", True),
        ("attempt started", "GET", "/x/1?a=b"),
        ("attempt", "x", "x-1", 200),
        ("finished", "x", "/y", 200),
    ]


async def test_a_path_with_other_methods_is_405() -> None:
    async with running(RouteSpec("/x", "x", methods=("GET", "PUT"))) as gateway:
        reply = await gateway.ask("DELETE", "/x")
    assert (reply.status, reply.get("Allow")) == (405, "GET, PUT")


async def test_response_edits_hold_for_the_gateway_s_own_documents_too() -> None:
    route = RouteSpec("/x", "x", response_headers=HeaderEdit(set={"X-Frame-Options": "DENY"}))
    async with running(route) as gateway:
        await serve(gateway)
        assert (await gateway.get("/x")).get("X-Frame-Options") == "DENY"
