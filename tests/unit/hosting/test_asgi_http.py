"""An ASGI application is served as uvicorn serves it; one that breaks the protocol breaks its own request."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import contextvars
from pathlib import Path
from typing import Any

import pytest

from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.telemetry.logs.hub import current_service
from tests.support.hosted import Hosted, hosted, parsed
from tests.unit.gateway.harness import running

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}


def body(data: object = b"", more: bool = False) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def start(status: object = 200, *headers: tuple[object, object]) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


async def hello(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send(START)
        await send(body(b"hello"))


async def test_response_is_sent_with_a_date_and_no_invented_field() -> None:
    async with hosted(hello) as app:
        response = await app.request()
    assert (response.status, response.body, response["content-length"]) == (200, b"hello", "5")
    assert {name for name, _ in response.fields} == {"content-type", "content-length", "date", "connection"}


async def test_scope_is_that_of_uvicorn() -> None:
    scopes: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(dict(scope))
        await hello(scope, receive, send)

    async with hosted(app) as served:
        await served.request("GET /caf%C3%A9/a%2Fb;x?q=%20&r=+", None, "X-Two: a", "X-Two: b")
    scope = scopes[-1]
    port = scope["client"][1]
    assert scope.pop("state")["msctl"].name == "api"
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/café/a/b;x",
        "raw_path": b"/caf%C3%A9/a%2Fb;x",
        "query_string": b"q=%20&r=+",
        "root_path": "",
        "headers": [(b"host", b"x"), (b"connection", b"close"), (b"x-two", b"a"), (b"x-two", b"b")],
        "client": ("127.0.0.1", port),
        "server": ("127.0.0.1", served.port),
    }


@pytest.mark.parametrize(
    ("target", "path", "raw"),
    [
        ("http://shop.test/a?b", "/a", b"/a"),
        ("http://shop.test?b", "/", b"/"),
        ("//a//b", "//a//b", b"//a//b"),
        ("/a%ff", "/a\ufffd", b"/a%ff"),
    ],
)
async def test_path_is_decoded_once(target: str, path: str, raw: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(start())
            await send(body(scope["path"].encode() + b"|" + scope["raw_path"]))

    async with hosted(app) as served:
        assert (await served.request(f"GET {target}")).body == path.encode() + b"|" + raw


async def answered_scope(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send(start())
        assert b"x-forwarded-prefix" not in dict(scope["headers"]) or not scope["root_path"]
        told = (scope["root_path"], scope["path"], scope["raw_path"], scope["client"][0], scope["scheme"])
        await send(body(repr(told).encode()))


FORWARDED = ("X-Forwarded-Prefix: /api", "X-Forwarded-For: 6.6.6.6, 192.0.2.9", "X-Forwarded-Proto: https")


async def test_trusted_peer_says_prefix_client_and_scheme() -> None:
    async with hosted(answered_scope) as served:
        response = await served.request("GET /x", None, *FORWARDED)
    assert response.body == repr(("/api", "/api/x", b"/api/x", "192.0.2.9", "https")).encode()


@pytest.mark.parametrize(("proto", "scheme"), [("https", "https"), ("wss", "https"), ("gopher", "http")])
async def test_gateway_passes_on_the_scheme_that_its_trusted_peer_reports(proto: str, scheme: str) -> None:
    trusting = GatewaySpec(trusted_peers=("127.0.0.1",))
    async with hosted(answered_scope) as behind, running(RouteSpec("/x", "x"), spec=trusting) as gateway:
        gateway.registry.announce(Endpoint("x", "x-1", handler=behind.app.handle))
        reply = await gateway.get("/x", ("X-Forwarded-Proto", proto))
    assert ast.literal_eval(reply.body.decode())[4] == scheme


class OlderFramework:
    """One that matches `path` alone, by the name of its module."""

    __module__ = "falcon.asgi.app"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await answered_scope(scope, receive, send)


class Middleware:
    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.mark.parametrize("application", [OlderFramework(), Middleware(OlderFramework())])
async def test_framework_that_leaves_root_path_in_the_path_gets_it_without(application: Any) -> None:
    async with hosted(application) as served:
        response = await served.request("GET /x", None, *FORWARDED)
    assert response.body == repr(("/api", "/x", b"/x", "192.0.2.9", "https")).encode()


async def test_peer_that_is_not_trusted_says_nothing() -> None:
    async with hosted(answered_scope, env={"FORWARDED_ALLOW_IPS": "10.0.0.0/8"}) as served:
        response = await served.request("GET /x", None, *FORWARDED)
    assert response.body == repr(("", "/x", b"/x", "127.0.0.1", "http")).encode()


async def test_body_arrives_in_pieces_and_ends_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            sizes = 0
            while True:
                message = await receive()
                sizes += len(message["body"])
                if not message["more_body"]:
                    break
            await send(start())
            await send(body(b"%d" % sizes))

    async with hosted(app) as served:
        assert (await served.request("POST /", b"x" * 1_000_000)).body == b"1000000"
        chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
        head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert parsed(await served.raw(head + chunks)).body == b"11"
        assert (await served.request("GET /")).body == b"0"


async def test_stream_is_sent_as_it_is_made() -> None:
    go_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(START)
            await go_on.wait()
            await send(body(b"one", True))
            await send(body(b"two"))

    async with hosted(app) as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head.lower()
        go_on.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        writer.close()


async def test_http10_client_gets_a_stream_that_ends_with_the_connection() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(START)
            await send(body(scope["http_version"].encode(), True))
            await send(body(b" end"))

    async with hosted(app) as served:
        response = await served.request(version="1.0")
    assert (response.body, response["transfer-encoding"]) == (b"1.0 end", None)


@pytest.mark.parametrize("length", [None, b"5"])
async def test_head_has_no_body(length: bytes | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(start(200, *([(b"content-length", length)] if length else [])))
            await send(body(b"hello"))

    async with hosted(app) as served:
        response = await served.request("HEAD /")
    assert (response.body, response["content-length"]) == (b"", "5")


async def test_two_lengths_of_head_are_left_out() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(start(200, (b"content-length", b"300000"), (b"content-length", b"0")))
            await send(body())

    async with hosted(app) as served:
        response = await served.request("HEAD /")
        assert (response.status, response["content-length"], response.body) == (200, None, b"")
        assert (await served.request()).status == 500


@pytest.mark.parametrize("status", [204, 304])
async def test_response_without_content_has_no_body(status: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send(start(status))
            await send(body())

    async with hosted(app) as served:
        response = await served.request()
    assert (response.status, response.body, response["content-length"]) == (status, b"", None)
    assert response["transfer-encoding"] is None


async def test_expect_is_answered_when_the_application_reads() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/read":
                await receive()
            await send(START)
            await send(body())

    head = (
        b"POST %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
    )
    head += b"\r\n"
    async with hosted(app) as served:
        reader, writer = await served.connect()
        writer.write(head % b"/read")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"ok")
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()
        assert (await served.raw(head % b"/refuse")).startswith(b"HTTP/1.1 200")


# --- after the response -----------------------------------------------------------------------------


async def test_background_task_delays_nobody() -> None:
    release, finished = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            if scope["path"] == "/slow":
                await release.wait()
                finished.set()

    async with hosted(app) as served:
        reader, writer = await served.connect()
        writer.write(
            b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        assert (await reader.read()).count(b"hello") == 2
        assert not finished.is_set()
        release.set()
        await finished.wait()
        writer.close()


async def test_failing_background_task_is_logged_and_nothing_else() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await hello(scope, receive, send)
            raise RuntimeError("after the response")

    async with hosted(app) as served:
        reader, writer = await served.connect()
        for _ in range(2):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"hello")).startswith(b"HTTP/1.1 200")
        writer.close()
    assert served.errors().count("RuntimeError: after the response") == 2


async def test_each_request_has_a_context_of_its_own() -> None:
    variable = contextvars.ContextVar("variable", default=0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            variable.set(variable.get() + 1)
            await send(start())
            await send(body(f"{variable.get()} {current_service.get()}\n".encode()))

    async with hosted(app) as served:
        twice = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert (await served.raw(twice)).count(b"1 api\n") == 2


# --- the client leaves ------------------------------------------------------------------------------


async def test_handler_goes_on_when_its_client_leaves_and_learns_it_if_it_asks() -> None:
    entered, done = asyncio.Event(), asyncio.Queue[object]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        assert (await receive())["type"] == "http.request"
        entered.set()
        done.put_nowait((await receive())["type"])
        await send(START)
        await send(body(b"x" * 1000, True))
        await send(body())
        done.put_nowait("finished")

    async with hosted(app) as served:
        _, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await entered.wait()
        writer.close()
        assert await done.get() == "http.disconnect"
        assert await done.get() == "finished"
    assert not served.errors()


async def test_receive_ends_when_the_response_is_complete() -> None:
    received: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await receive()
            listener = asyncio.create_task(receive())
            await asyncio.sleep(0)
            await hello(scope, receive, send)
            received.append((await listener)["type"])
            received.append((await receive())["type"])

    async with hosted(app) as served:
        assert (await served.request()).body == b"hello"
    assert received == ["http.disconnect", "http.disconnect"]


async def test_broken_body_is_the_clients_fault() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            while (message := await receive())["type"] == "http.request":
                assert message["more_body"]
            raise ConnectionError("the client has left, says a framework")

    async with hosted(app) as served:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        response = parsed(await served.raw(head + b"5\r\nhello\r\nnonsense\r\n"))
    assert response.status == 400
    assert not served.errors()


async def test_body_that_is_cut_off_leaves_no_traceback() -> None:
    left = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                while (await receive())["type"] == "http.request":
                    pass
                raise RuntimeError("ClientDisconnect")
            finally:
                left.set()

    async with hosted(app) as served:
        _, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.transport.abort()
        await left.wait()
    assert not served.errors()


async def test_slow_reader_makes_the_application_wait() -> None:
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if scope["type"] == "http":
            await send(START)
            while sent < 200:
                await send(body(b"x" * 1_000_000, True))
                sent += 1

    async with hosted(app) as served:
        _, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while not served.exchanges or not served.exchanges[0].writing_paused:
            await asyncio.sleep(0)
        for _ in range(100):
            await asyncio.sleep(0)
        assert sent < 50
        writer.transport.abort()


# --- applications that break the protocol -----------------------------------------------------------


class Step:
    """An application that sends messages, then raises what it was given."""

    def __init__(
        self, *messages: dict[str, object], error: BaseException | None = None, result: object = None
    ):
        self._messages = messages
        self._error = error
        self._result = result

    async def __call__(self, scope: Any, receive: Any, send: Any) -> object:
        if scope["type"] == "lifespan":
            return None
        for message in self._messages:
            await send(message)
        if self._error is not None:
            raise self._error
        return self._result


BEFORE = [
    (Step(error=ValueError("boom")), "ValueError: boom"),
    (Step(error=SystemExit("boom")), "SystemExit: boom"),
    (Step(error=asyncio.CancelledError("boom")), "CancelledError: boom"),
    (Step(error=GeneratorExit("boom")), "GeneratorExit: boom"),
    (Step(error=BaseExceptionGroup("boom", [asyncio.CancelledError()])), "BaseExceptionGroup: boom"),
    (Step(), "returned without starting"),
    (Step(body(b"x")), "http.response.start"),
    (Step({"type": "http.response.begin"}), "http.response.begin"),
    (Step({}), "KeyError: 'type'"),
    (Step({"type": "http.response.start"}), "KeyError: 'status'"),
    (Step(start("200")), "'200'"),
    (Step(start(101)), "101"),
    (Step(start(200, (b"x-a", b"1\r\nset-cookie: b"))), "header value"),
    (Step(start(200, (b"x a", b"1"))), "header name"),
    (Step(start(200, ("x-a", "1"))), "must be bytes, not str"),
    (Step(start(200, (b"x-a", 1))), "must be bytes, not int"),
    (Step(start(200, (b"content-length", b"-1"))), "Content-Length"),
    (Step(start(200, (b"content-length", b"1"), (b"content-length", b"2"))), "Content-Length"),
    # Nothing of a response is on its way until the first piece of its body, or the loop's next turn.
    (Step(start(), error=ValueError("boom")), "ValueError: boom"),
    (Step(start()), "returned without completing"),
    (Step(start(), start()), "http.response.body"),
    (Step(start(), body("text")), "must be bytes, not str"),
    (Step(start(200, (b"content-length", b"2")), body(b"xxx")), "longer than Content-Length"),
    (Step(start(200, (b"content-length", b"4")), body(b"xxx")), "shorter than Content-Length"),
]
AFTER = [
    (Step(start(), body(b"x", True), error=ValueError("boom")), "ValueError: boom"),
    (Step(start(), body(b"x", True), error=GeneratorExit("boom")), "GeneratorExit: boom"),
    (Step(start(), body(b"x", True)), "returned without completing"),
    (Step(start(), body(b"x", True), start()), "http.response.body"),
    (Step(start(), body(b"x", True), body("text")), "must be bytes, not str"),
    (Step(start(200, (b"content-length", b"2")), body(b"xx", True), body(b"x")), "longer than"),
    (Step(start(200, (b"content-length", b"4")), body(b"xx", True), body(b"")), "shorter than"),
]


async def next_request_is_served(served: Hosted) -> bool:
    return (await served.request("GET /")).status in (200, 500)


@pytest.mark.parametrize(("app", "reason"), BEFORE)
async def test_failure_before_the_response_is_a_500_and_a_traceback_in_the_log(
    app: Step, reason: str
) -> None:
    async with hosted(app) as served:
        response = await served.request()
        assert (response.status, response.body) == (500, b"Internal Server Error")
        assert response["content-type"] == "text/plain; charset=utf-8"
        assert response["set-cookie"] is None
        assert reason in served.errors()
        assert {line.service for line in served.logs} == {"api"}
        assert await next_request_is_served(served)


@pytest.mark.parametrize(("app", "reason"), AFTER)
async def test_failure_within_the_response_aborts_the_connection(app: Step, reason: str) -> None:
    async with hosted(app) as served:
        response = await served.request()
        assert response.cut
        assert reason in served.errors()


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (Step(start(), body(b"x"), body(b"y")), "after response already completed"),
        (Step(start(), body(b"x"), start()), "after response already completed"),
        (Step(start(), body(b"x"), result="done"), "returned 'done' instead of None"),
    ],
)
async def test_failure_after_the_response_is_only_logged(app: Step, reason: str) -> None:
    async with hosted(app) as served:
        response = await served.request()
        assert (response.status, response.body, response.cut) == (200, b"x", False)
    assert reason in served.errors()


async def test_message_that_broke_the_protocol_changes_nothing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        length = (b"content-length", b"2")
        for message in (start("200"), start(200, (b"x-a", b"1\r\n")), start(200, length)):
            with contextlib.suppress(RuntimeError):
                await send(message)
        for message in (body(b"xxx"), body(b"x"), body(b"ok")):
            with contextlib.suppress(RuntimeError):
                await send(message)

    async with hosted(app) as served:
        response = await served.request()
    assert (response.status, response.body) == (200, b"ok")
    assert not served.errors()


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_header_may_be_any_bytes(kind: Any) -> None:
    async with hosted(Step(start(200, (kind(b"X-A"), kind(b"1"))), body(b"x"))) as served:
        response = await served.request()
    assert (response.status, response["x-a"]) == (200, "1")


async def test_failure_is_shown_from_the_users_first_line() -> None:
    async with hosted(Step(error=ValueError("boom"))) as served:
        await served.request()
    assert "msctl/hosting" not in served.errors()
    assert str(Path(__file__)) in served.errors()


async def test_application_asks_for_the_end_of_the_connection() -> None:
    async with hosted(Step(start(200, (b"connection", b"close")), body(b"bye"))) as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"connection: close" in (await reader.read()).lower()
        writer.close()


# --- the service stops ------------------------------------------------------------------------------


async def test_draining_service_finishes_what_it_has_begun_and_begins_nothing() -> None:
    entered, release = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            entered.set()
            await release.wait()
            await hello(scope, receive, send)

    async with hosted(app) as served:
        first = asyncio.create_task(served.request())
        await entered.wait()
        draining = asyncio.create_task(served.app.drain(60.0))
        await asyncio.sleep(0)
        refused = await served.request()
        assert (refused.status, refused["retry-after"]) == (503, "1")
        release.set()
        assert (await first).body == b"hello"
        await draining


async def test_request_whose_time_is_over_gets_a_503() -> None:
    entered = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            entered.set()
            await asyncio.Event().wait()

    async with hosted(app) as served:
        first = asyncio.create_task(served.request())
        await entered.wait()
        await served.app.drain(0.0)
        assert (await first).status == 503
    assert not served.errors()
