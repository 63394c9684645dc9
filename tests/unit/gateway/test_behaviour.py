"""A client sees the same behaviour from hosted and remote services: one suite for both."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import re
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import HeaderEdit, RouteSpec
from msctl.model.upstream_policy import Balance, FailureKind, UpstreamPolicy
from tests.support.waiting import until
from tests.unit.gateway.harness import HOSTED, KINDS, REMOTE, Reply, TruncatedError, running
from tests.unit.gateway.recorder import Recorder


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Seen:
    """The requests as the application got them."""

    def __init__(self) -> None:
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []

    @property
    def last(self) -> web.Request:
        return self.requests[-1]


async def ask(
    kind: str,
    handler: Handler,
    *fields: tuple[str, str],
    method: str = "GET",
    target: str = "/x",
    body: bytes | None = None,
    spec: GatewaySpec | None = None,
    route: RouteSpec | None = None,
    version: str = "HTTP/1.1",
    host: str | None = "gateway.localhost",
) -> Reply:
    async with running(route or RouteSpec("/x", "x"), spec=spec) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        return await client.request(method, target, fields, body, version=version, host=host)


def application(handler: Handler) -> web.Application:
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", handler)
    return app


def recorder(seen: Seen, response: Callable[[], web.Response] = web.Response) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        seen.bodies.append(await request.read())
        seen.requests.append(request)
        return response()

    return handler


# --- requests: hop by hop, forwarding, identity ---------------------------------------------------


async def test_hop_by_hop_fields_are_not_forwarded(kind: str) -> None:
    seen = Seen()
    await ask(
        kind,
        recorder(seen),
        ("Connection", ""),
        ("Connection", "x-one, close"),
        ("connection", "X-Two"),
        ("X-One", "1"),
        ("X-Two", "2"),
        ("X-Three", "3"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic eA=="),
        ("TE", "trailers"),
        ("Trailer", "X-T"),
    )
    names = {name.lower() for name in seen.last.headers}
    assert "x-three" in names
    gone = {
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "connection",
    }
    assert not names & gone


async def test_connection_cannot_remove_what_the_gateway_adds(kind: str) -> None:
    seen = Seen()
    options = "x-forwarded-for, x-forwarded-host, x-forwarded-proto, via, x-request-id, traceparent, host"
    await ask(kind, recorder(seen), ("Connection", options))
    for name in (
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "Via",
        "X-Request-Id",
        "traceparent",
        "Host",
    ):
        assert name in seen.last.headers, name


async def test_via_is_appended_in_order(kind: str) -> None:
    seen = Seen()
    await ask(kind, recorder(seen), ("Via", "1.0 first"), ("Via", "1.1 second"))
    assert re.fullmatch(r"1\.0 first, 1\.1 second, 1\.1 msctl-[0-9a-f]{8}", seen.last.headers["Via"])


async def test_a_request_that_loops_is_508(kind: str) -> None:
    async with running(RouteSpec("/x", "x"), identity="cafe0001") as gateway:
        await gateway.serve("x", application(recorder(Seen())), kind)
        reply = await gateway.get("/x", ("Via", "1.1 other, 1.1 msctl-cafe0001 (comment)"))
        assert reply.status == 508
        assert (await gateway.get("/x", ("Via", "1.1 msctl-cafe0002"))).status == 200


async def test_repeated_fields_keep_their_order(kind: str) -> None:
    seen = Seen()
    await ask(kind, recorder(seen), ("X-A", "1"), ("X-B", "2"), ("X-A", "3"), ("X-Unknown", "kept"))
    assert seen.last.headers.getall("X-A") == ["1", "3"]
    assert seen.last.headers["X-Unknown"] == "kept"


async def test_repeated_response_fields_keep_their_order(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        response = web.Response()
        for cookie in ("a=1; Path=/", "b=2, with a comma", "a=3"):
            response.headers.add("Set-Cookie", cookie)
        return response

    reply = await ask(kind, handler)
    assert reply.all("Set-Cookie") == ["a=1; Path=/", "b=2, with a comma", "a=3"]


async def test_hop_by_hop_response_fields_are_not_forwarded(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        fields = {"Connection": "X-Hop, close", "X-Hop": "1", "Keep-Alive": "timeout=5", "X-End": "2"}
        return web.Response(text="ok", headers={**fields, "Proxy-Authenticate": "Basic"})

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        for _ in range(2):  # the client's own connection lives on
            reply = await client.request("GET", "/x")
            assert (reply.body, reply.get("X-End")) == (b"ok", "2")
            for name in ("X-Hop", "Keep-Alive", "Proxy-Authenticate", "Connection"):
                assert reply.get(name) is None, name


async def test_forwarding_fields_come_from_the_socket(kind: str) -> None:
    seen = Seen()
    await ask(
        kind,
        recorder(seen),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=6.6.6.6"),
    )
    headers = seen.last.headers
    assert headers.getall("X-Forwarded-For") == ["127.0.0.1"]
    assert headers.getall("X-Forwarded-Host") == ["gateway.localhost"]
    assert headers.getall("X-Forwarded-Proto") == ["http"]
    assert "Forwarded" not in headers


async def test_forwarding_fields_of_a_trusted_peer_are_kept_and_appended_to(kind: str) -> None:
    seen = Seen()
    await ask(
        kind,
        recorder(seen),
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Host", "public.test"),
        ("X-Forwarded-Proto", "https"),
        ("Forwarded", "for=9.9.9.9;proto=https"),
        spec=GatewaySpec(trusted_peers=("127.0.0.0/8",), forwarded=True),
    )
    headers = seen.last.headers
    assert headers["X-Forwarded-For"] == "9.9.9.9, 127.0.0.1"
    assert headers["X-Forwarded-Host"] == "public.test"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Forwarded"] == "for=9.9.9.9;proto=https, for=127.0.0.1;host=gateway.localhost;proto=http"


async def test_a_trace_continues_with_a_new_parent(kind: str) -> None:
    seen = Seen()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    await ask(kind, recorder(seen), ("traceparent", f"00-{trace}-00f067aa0ba902b7-00"), ("tracestate", "a=1"))
    given = seen.last.headers["traceparent"]
    assert re.fullmatch(rf"00-{trace}-[0-9a-f]{{16}}-00", given)
    assert "00f067aa0ba902b7" not in given
    assert seen.last.headers["tracestate"] == "a=1"


async def test_an_invalid_traceparent_starts_a_new_trace_without_tracestate(kind: str) -> None:
    seen = Seen()
    await ask(
        kind,
        recorder(seen),
        ("traceparent", "00-" + "0" * 32 + "-00f067aa0ba902b7-01"),
        ("tracestate", "a=1"),
    )
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", seen.last.headers["traceparent"])
    assert "0" * 32 not in seen.last.headers["traceparent"]
    assert "tracestate" not in seen.last.headers


async def test_a_valid_request_id_is_kept_and_returned(kind: str) -> None:
    seen = Seen()
    reply = await ask(kind, recorder(seen), ("X-Request-Id", "abc-123"))
    assert seen.last.headers.getall("X-Request-Id") == ["abc-123"]
    assert reply.all("X-Request-Id") == ["abc-123"]


@pytest.mark.parametrize("given", ["has space", "x" * 129, 'quo"te', ""])
async def test_an_invalid_request_id_is_replaced(kind: str, given: str) -> None:
    seen = Seen()
    reply = await ask(kind, recorder(seen), ("X-Request-Id", given))
    assert reply.get("X-Request-Id") == seen.last.headers["X-Request-Id"]
    assert re.fullmatch(r"[0-9a-f]{32}", seen.last.headers["X-Request-Id"])


async def test_every_request_has_its_own_ids(kind: str) -> None:
    seen = Seen()
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(recorder(seen)), kind)
        client = await gateway.client()
        for _ in range(3):
            await client.request("GET", "/x")
    for name in ("X-Request-Id", "traceparent"):
        assert len({request.headers[name] for request in seen.requests}) == 3


# --- targets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/x/a%2Fb",
        "/x/%3B;p=1",
        "/x/a+b?c=d+e",
        "/x/y?",
        "/x//y",
        "/x/?a=b&a=c",
        "/x/%7euser/%41",
        "/x/y?q=%2e%2e/..",
    ],
)
async def test_path_and_query_bytes_are_unchanged(kind: str, target: str) -> None:
    seen = Seen()
    await ask(kind, recorder(seen), target=target)
    assert seen.last.raw_path == target


async def test_an_encoded_letter_does_not_bypass_a_route(kind: str) -> None:
    async with running(RouteSpec("/", "open"), RouteSpec("/admin", "closed")) as gateway:
        await gateway.serve("open", application(recorder(Seen())), kind)
        assert (await gateway.get("/%61dmin")).json()["service"] == "closed"
        assert (await gateway.get("/./admin")).json()["service"] == "closed"
        assert (await gateway.get("/administrator")).status == 200


async def test_an_absolute_target_overrides_host(kind: str) -> None:
    seen = Seen()
    await ask(kind, recorder(seen), target="http://other.test:81/x/y?z", host="gateway.localhost")
    assert (seen.last.headers["Host"], seen.last.raw_path) == ("other.test:81", "/x/y?z")


async def test_the_prefix_can_be_stripped_or_replaced(kind: str) -> None:
    for route, target, expected in (
        (RouteSpec("/x", "x", strip_prefix=True), "/x/a%2Fb//c?d", "/a%2Fb//c?d"),
        (RouteSpec("/x", "x", strip_prefix=True), "/x", "/"),
        (RouteSpec("/x", "x", rewrite="/v2/y"), "/x/z", "/v2/y/z"),
        (RouteSpec("/x", "x", rewrite="/"), "/x/z", "/z"),
        (RouteSpec("/{id}", "x", strip_prefix=True), "/x/z", "/z"),
    ):
        seen = Seen()
        await ask(kind, recorder(seen), target=target, route=route)
        assert seen.last.raw_path == expected
        assert seen.last.headers["X-Forwarded-Prefix"] == "/x"


async def test_headers_are_edited_as_configured(kind: str) -> None:
    seen = Seen()
    route = RouteSpec(
        "/x",
        "x",
        request_headers=HeaderEdit(remove=("X-Secret",), set={"X-Env": "dev"}, add={"X-Tag": "b"}),
        response_headers=HeaderEdit(remove=("Server",), set={"X-Frame-Options": "DENY"}),
    )
    reply = await ask(kind, recorder(seen), ("X-Secret", "s"), ("X-Env", "prod"), ("X-Tag", "a"), route=route)
    headers = seen.last.headers
    assert "X-Secret" not in headers
    assert headers.getall("X-Env") == ["dev"]
    assert headers.getall("X-Tag") == ["a", "b"]
    assert reply.get("Server") is None
    assert reply.get("X-Frame-Options") == "DENY"


# --- responses ------------------------------------------------------------------------------------


async def test_redirects_pass_untouched(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/elsewhere?a=%2F"})

    reply = await ask(kind, handler)
    assert (reply.status, reply.get("Location")) == (302, "http://127.0.0.1:1/elsewhere?a=%2F")


async def test_encoded_bodies_pass_untouched_both_ways(kind: str) -> None:
    packed = gzip.compress(b"hello" * 100, mtime=0)
    seen = Seen()

    def response() -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "text/plain"})

    fields = (("Content-Encoding", "gzip"), ("Accept-Encoding", "identity"))
    reply = await ask(kind, recorder(seen, response), *fields, method="POST", body=packed)
    assert (reply.body, reply.get("Content-Encoding")) == (packed, "gzip")
    # The gateway forwards the bytes; an aiohttp application reads them decompressed, as under its own server.
    assert seen.bodies == [b"hello" * 100 if kind == HOSTED else packed]


async def test_no_fields_are_invented(kind: str) -> None:
    seen = Seen()
    await ask(kind, recorder(seen), method="POST", body=b"x")
    for name in ("User-Agent", "Accept", "Accept-Encoding", "Content-Type", "Cookie"):
        assert name not in seen.last.headers


async def test_cookies_of_one_client_never_reach_another(kind: str) -> None:
    seen = Seen()

    def response() -> web.Response:
        return web.Response(headers={"Set-Cookie": "session=1"})

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(recorder(seen, response)), kind)
        await gateway.get("/x", ("Cookie", "mine=1"))
        await gateway.get("/x")
    assert "Cookie" not in seen.last.headers


async def test_server_is_kept(kind: str) -> None:
    reply = await ask(kind, recorder(Seen(), lambda: web.Response(headers={"Server": "theirs/1"})))
    assert reply.all("Server") == ["theirs/1"]


async def test_head_keeps_content_length_and_has_no_body(kind: str) -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(recorder(Seen(), lambda: web.Response(text="hello"))), kind)
        client = await gateway.client()
        reply = await client.request("HEAD", "/x")
        assert (reply.status, reply.get("Content-Length")) == (200, "5")
        # Nothing stands between that head and the next one.
        assert (await client.request("GET", "/x")).body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body_have_none(kind: str, status: int) -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(recorder(Seen(), lambda: web.Response(status=status))), kind)
        client = await gateway.client()
        reply = await client.request("GET", "/x")
        assert reply.status == status
        assert reply.get("Transfer-Encoding") is None
        assert (await client.request("GET", "/x")).status == status


async def test_http_1_0_gets_a_response_it_can_read(kind: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"streamed")
        return response

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        reply = await client.request("GET", "/x", [("Connection", "keep-alive")], version="HTTP/1.0")
        assert reply.get("Transfer-Encoding") is None
        assert reply.body == b"streamed"
        assert await client.closed()


async def test_http_1_0_without_a_host_is_served(kind: str) -> None:
    seen = Seen()
    reply = await ask(kind, recorder(seen, lambda: web.Response(text="ok")), version="HTTP/1.0", host=None)
    assert reply.body == b"ok"


# --- streams, sizes, expectations -----------------------------------------------------------------


async def test_the_first_event_goes_out_when_it_arrives(kind: str) -> None:
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await go_on.wait()
        await response.write(b"data: 2\n\n")
        return response

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).get("Content-Type") == "text/event-stream"
        events = client.chunks()
        assert await anext(events) == b"data: 1\n\n"
        go_on.set()
        assert [event async for event in events] == [b"data: 2\n\n"]


async def test_a_head_goes_out_before_there_is_a_body(kind: str) -> None:
    go_on = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await go_on.wait()
        return response

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        go_on.set()
        assert [piece async for piece in client.chunks()] == []


async def test_large_bodies_pass_both_ways(kind: str) -> None:
    size = 8 * 1024 * 1024
    block = bytes(range(256)) * 256

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        async for piece in request.content.iter_any():
            await response.write(piece)
        return response

    async def pump(client_send: Callable[[bytes], Awaitable[None]]) -> None:
        for _ in range(size // len(block)):
            await client_send(block)

    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(max_body=0)) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        sending = asyncio.create_task(pump(client.send))
        reply = await client.reply("POST")
        await sending
    assert reply.body == block * (size // len(block))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_413(kind: str, chunked: bool) -> None:
    fields = [("Transfer-Encoding", "chunked")] if chunked else []
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (2000, b"x" * 2000) if chunked else b"x" * 2000
    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(max_body=1000)) as gateway:
        await gateway.serve("x", application(recorder(Seen())), kind)
        client = await gateway.client()
        reply = await client.request("POST", "/x", fields, body)
        assert reply.status == 413
        assert "max_body" in reply.json()["detail"]
        assert reply.get("Content-Type") == "application/problem+json"
        assert await client.closed()


async def test_a_body_that_turns_out_too_large_is_told_as_413_of_the_attempt(kind: str) -> None:
    told = Recorder()
    spec = GatewaySpec(max_body=3)
    async with running(RouteSpec("/x", "x"), spec=spec, observer=told) as gateway:
        await gateway.serve("x", application(wait_for_body), kind)
        client = await gateway.client()
        await client.send(
            b"POST /x HTTP/1.1\r\nHost: gateway.localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"
        )
        await told.wait("attempt leaves" if kind == REMOTE else "attempt started")
        await client.send(b"2\r\ncd\r\n0\r\n\r\n")
        assert (await client.reply()).status == 413
        assert await told.wait("attempt") == ("attempt", "x", "x-1", 413)


async def test_a_route_can_take_larger_bodies(kind: str) -> None:
    seen = Seen()
    route = RouteSpec("/x", "x", policy=UpstreamPolicy(max_body=0))
    await ask(
        kind, recorder(seen), method="POST", body=b"x" * 2000, spec=GatewaySpec(max_body=10), route=route
    )
    assert len(seen.bodies[0]) == 2000


async def test_a_client_that_waits_for_100_gets_it_once(kind: str) -> None:
    seen = Seen()
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(recorder(seen)), kind)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.head()).status == 200
    assert seen.bodies == [b"hello"]


@pytest.mark.parametrize("refused", [False, True])
async def test_an_expectation_is_met_by_the_handler_that_the_application_has_for_it(
    kind: str, refused: bool
) -> None:
    async def meet(request: web.Request) -> None:
        if refused:
            raise web.HTTPExpectationFailed
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    app = web.Application()
    app.router.add_route("POST", "/x", recorder(seen := Seen()), expect_handler=meet)
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", app, kind)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert (await client.head()).status == (417 if refused else 100)
        if not refused:
            await client.send(b"hello")
            assert (await client.head()).status == 200
    assert seen.bodies == ([] if refused else [b"hello"])


async def test_no_100_comes_before_an_early_refusal(kind: str) -> None:
    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(max_body=10)) as gateway:
        await gateway.serve("x", application(recorder(Seen())), kind)
        client = await gateway.client()
        await client.send(
            b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nExpect: 100-continue\r\n\r\n"
        )
        assert (await client.head()).status == 413


async def test_an_unknown_expectation_is_417(kind: str) -> None:
    reply = await ask(kind, recorder(Seen()), ("Expect", "something-else"), method="POST", body=b"x")
    assert reply.status == 417


# --- failures -------------------------------------------------------------------------------------


async def test_a_service_that_does_not_answer_in_time_is_504(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    reply = await ask(kind, handler, spec=GatewaySpec(response_timeout=0.2))
    assert reply.status == 504
    assert reply.json()["service_instance"] == "x-1"
    assert "http_response_timeout" in (reply.get("Proxy-Status") or "")


async def test_a_response_that_stops_is_aborted(kind: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"some")
        await asyncio.Event().wait()
        raise AssertionError("never reached")

    with pytest.raises((TruncatedError, ConnectionError)):
        await ask(kind, handler, spec=GatewaySpec(idle_timeout=0.2))


async def wait_for_body(request: web.Request) -> web.StreamResponse:
    return web.Response(body=await request.read())


async def send_back(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    async for piece in request.content.iter_any():
        await response.write(piece)
    return response


async def send_much(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(bytes(65536))


HALF = b"POST /x HTTP/1.1\r\nHost: gateway.localhost\r\nContent-Length: 10\r\n\r\n12345"
GET = b"GET /x HTTP/1.1\r\nHost: gateway.localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("handler", "sent", "status"),
    [(wait_for_body, HALF, 408), (send_back, HALF, None), (send_much, GET, None)],
    ids=["body awaited", "body awaited within the response", "response not read"],
)
async def test_a_client_that_stalls_is_no_failure_of_the_instance(
    kind: str, handler: Handler, sent: bytes, status: int | None
) -> None:
    spec = GatewaySpec(response_timeout=0.1, idle_timeout=0.15, breaker_failures=1)
    told = Recorder()
    async with running(RouteSpec("/x", "x"), spec=spec, observer=told) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        await client.send(sent)
        if status is not None:
            reply = await client.reply()
            assert (reply.status, reply.get("Connection")) == (status, "close")
        else:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await until(lambda: not gateway.server.connections)
        assert gateway.gateway.targets()[0].breaker == "closed"
        assert await told.wait("attempt") == ("attempt", "x", "x-1", status or 499)


@pytest.mark.parametrize("length", [None, "100"])
async def test_a_handler_that_fails_during_its_body_resets_the_connection(
    kind: str, length: str | None
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={} if length is None else {"Content-Length": length})
        await response.prepare(request)
        await response.write(b"some")
        raise RuntimeError("in the middle")

    with pytest.raises((TruncatedError, ConnectionError)):
        await ask(kind, handler)


async def test_a_truncated_body_without_a_length_is_reset(kind: str) -> None:
    """To an HTTP/1.0 client a closed connection is a whole body: only a reset says that it is not."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"some")
        await go_on.wait()
        raise RuntimeError("in the middle")

    go_on = asyncio.Event()
    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.0\r\nHost: x\r\n\r\n")
        assert (await client.head()).status == 200
        assert await client.reader.readexactly(4) == b"some"
        go_on.set()
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_body_shorter_than_its_length_resets_the_connection(kind: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"some")
        return response

    with pytest.raises((TruncatedError, ConnectionError)):
        await ask(kind, handler, spec=GatewaySpec(idle_timeout=1))


async def test_the_request_to_an_http_upstream_is_cancelled_when_its_client_leaves() -> None:
    started, stopped = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        raise AssertionError("never reached")

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), REMOTE)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        client.reset()
        async with asyncio.timeout(60):
            await stopped.wait()
        # It is no failure of the service's.
        assert gateway.gateway.targets()[0].breaker == "closed"


async def test_a_hosted_handler_runs_to_its_end_when_its_client_leaves() -> None:
    started, gone, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        started.set()
        while request.transport is not None:
            await asyncio.sleep(0)
        gone.set()
        await asyncio.sleep(0.01)
        finished.set()
        return web.Response()

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), HOSTED)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        client.reset()
        async with asyncio.timeout(60):
            await gone.wait()
            await finished.wait()
        assert gateway.gateway.targets()[0].breaker == "closed"


async def test_an_application_that_fails_opens_no_breaker(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/x/good":
            return web.Response()
        if request.path == "/x/raises":
            raise ValueError
        return web.Response(status=500)

    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(breaker_failures=3)) as gateway:
        await gateway.serve("x", application(handler), kind)
        statuses = [
            (await gateway.get(path)).status for path in 5 * ["/x/bad"] + 5 * ["/x/raises"] + ["/x/good"]
        ]
        assert gateway.gateway.targets()[0].breaker == "closed"
    assert statuses == [500] * 10 + [200]


async def test_a_hosted_application_that_fails_within_its_response_opens_no_breaker() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"half")
        raise ValueError

    async with running(RouteSpec("/x", "x"), spec=GatewaySpec(breaker_failures=3)) as gateway:
        await gateway.serve("x", application(handler), HOSTED)
        for _ in range(5):
            with pytest.raises((TruncatedError, ConnectionError)):
                await gateway.get("/x")
        assert gateway.gateway.targets()[0].breaker == "closed"


async def test_where_5xx_count_a_failing_instance_gets_no_requests(kind: str) -> None:
    asked: list[str] = []

    def handler(name: str, status: int) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            asked.append(name)
            return web.Response(status=status)

        return handle

    spec = GatewaySpec(breaker_failures=3, breaker_on=(FailureKind.STATUS_5XX,), balance=Balance.ROUND_ROBIN)
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        await gateway.serve("x", application(handler("bad", 500)), kind, "x-1")
        await gateway.serve("x", application(handler("good", 200)), kind, "x-2")
        for _ in range(20):
            await gateway.get("/x")
        assert {one.instance: one.breaker for one in gateway.gateway.targets()} == {
            "x-1": "open",
            "x-2": "closed",
        }
    assert asked.count("bad") == 3


async def test_the_last_instance_is_asked_though_its_breaker_is_open(kind: str) -> None:
    statuses = iter([500] * 4 + [200] * 9)

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=next(statuses))

    spec = GatewaySpec(breaker_failures=2, breaker_on=(FailureKind.STATUS_5XX,))
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        await gateway.serve("x", application(handler), kind)
        answered = [(await gateway.get("/x")).status for _ in range(4)]
        assert gateway.gateway.targets()[0].breaker == "open"
        answered.append((await gateway.get("/x")).status)
        assert gateway.gateway.targets()[0].breaker == "closed"
    assert answered == [500, 500, 500, 500, 200]


async def test_a_new_life_of_an_instance_begins_with_a_closed_breaker(kind: str) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=500)

    spec = GatewaySpec(breaker_failures=1, breaker_on=(FailureKind.STATUS_5XX,))
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        await gateway.serve("x", application(handler), kind)
        await gateway.get("/x")
        assert gateway.gateway.targets()[0].breaker == "open"
        (endpoint,) = gateway.registry.endpoints("x")
        gateway.registry.withdraw("x", endpoint.instance, "is restarting")
        gateway.registry.announce(endpoint)
        assert gateway.gateway.targets()[0].breaker == "closed"


async def test_load_is_spread_over_instances(kind: str) -> None:
    served = itertools.count()
    names: set[str] = set()

    def handler(name: str) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            next(served)
            names.add(name)
            return web.Response()

        return handle

    async with running(RouteSpec("/x", "x")) as gateway:
        for name in ("x-1", "x-2", "x-3"):
            await gateway.serve("x", application(handler(name)), kind, name)
        for _ in range(40):
            await gateway.get("/x")
    assert names == {"x-1", "x-2", "x-3"}


async def test_the_gateway_drains(kind: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        started.set()
        await go_on.wait()
        return web.Response(text="finished")

    async with running(RouteSpec("/x", "x")) as gateway:
        await gateway.serve("x", application(handler), kind)
        assert (await gateway.get("/-/ready")).status == 200
        client, other = await gateway.client(), await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await started.wait()
        draining = asyncio.create_task(gateway.gateway.drain(5))
        await asyncio.sleep(0)
        reply = await other.request("GET", "/-/ready")
        assert (reply.status, reply.get("Connection")) == (503, "close")
        assert not draining.done()
        go_on.set()
        assert (await client.reply()).body == b"finished"
        await draining
