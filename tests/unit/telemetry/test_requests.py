"""Every request is measured, traced and logged once; with real sockets and real aiohttp."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientConnectionError, ClientSession

from msctl.hosting.service_log import ServiceLog
from msctl.http.server import HttpServer
from msctl.model.exchange import Exchange, Handler
from msctl.model.stack_trace import raised_at
from msctl.model.traces import SpanKind, TraceQuery
from msctl.model.views import MessageFacts
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.metrics.exposition import render
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import current_trace
from msctl.telemetry.tracing.access_log import MAX_ERROR_LINES
from msctl.telemetry.tracing.batch import BATCH
from msctl.telemetry.tracing.messaging import MessageObserver
from msctl.telemetry.tracing.requests import RequestObserver
from msctl.telemetry.tracing.span import HttpRequest
from msctl.telemetry.tracing.tracer import Tracer
from tests.support.clock import FakeClock
from tests.support.waiting import until
from tests.unit.telemetry.gateway_requests import request_finished

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


class Bench:
    """A listener and its observers."""

    def __init__(self, sample: float = 0.0) -> None:
        self.metrics = Metrics()
        self.tracer = Tracer()
        self.logs = LogHub(FakeClock())
        self.requests = RequestObserver(
            self.metrics, self.tracer, self.logs, sample=sample, page=self.page, chance=lambda: 0.5
        )
        self.messages = MessageObserver("producer", self.metrics, self.tracer)

    async def page(self, service: str, accept: str) -> tuple[bytes, str]:
        return render(self.metrics.registry, None, service=service, accept=accept)

    def value(self, name: str, **labels: str) -> float | None:
        self.requests.flush()
        return self.metrics.registry.get_sample_value(name, labels)

    def count(self, status: int, route: str = "/users", method: str = "GET") -> float | None:
        return self.value(
            "http_server_request_duration_seconds_count",
            service="users",
            http_route=route,
            http_request_method=method,
            http_response_status_code=str(status),
        )


@pytest.fixture
def bench() -> Bench:
    return Bench()


class Server:
    """A handler on a socket."""

    def __init__(self, handle: Handler) -> None:
        self._http = HttpServer(handle)

    async def start(self) -> str:
        self._listening = await asyncio.get_running_loop().create_server(self._http, "127.0.0.1", 0)
        host, port = self._listening.sockets[0].getsockname()
        return f"http://{host}:{port}"

    @property
    def waiting(self) -> bool:
        """Whether a connection has got a part of a head."""
        return any(connection._parser.buffer for connection in self._http._connections)

    def age(self, seconds: float) -> None:
        """Have such a part arrived so many seconds earlier."""
        for connection in self._http._connections:
            connection._idle_since -= seconds

    async def close(self) -> None:
        self._listening.close()
        await self._http.shutdown(1)


async def serve(handle: Handler) -> tuple[ClientSession, str, Server]:
    server = Server(handle)
    base = await server.start()
    return ClientSession(), base, server


def answer(exchange: Exchange, status: int = 200, text: bytes = b"") -> None:
    exchange.respond(status, b"", [], text)


async def users(exchange: Exchange) -> None:
    if exchange.head.target.partition("?")[0] == "/users":
        exchange.route = "/users"
        answer(exchange, text=b"[]")
    else:
        answer(exchange, 404)


async def get(handle: Handler, path: str = "/users", **options: object) -> tuple[int, str]:
    session, base, server = await serve(handle)
    async with session, session.get(base.rstrip("/") + path, **options) as response:  # type: ignore[arg-type]  # of these tests
        found = response.status, await response.text()
    await server.close()
    return found


async def test_a_request_on_a_services_listener_is_measured_under_its_route(bench: Bench) -> None:
    assert await get(bench.requests.direct("users", "users-1", users)) == (200, "[]")
    assert bench.count(200) == 1
    assert bench.value("http_server_active_requests", service="users") == 0


async def test_a_duration_begins_with_the_first_byte_of_the_head(bench: Bench) -> None:
    """The clock of the loop decides, so that the test needs no time of its own."""
    server = Server(bench.requests.direct("users", "users-1", users))
    url = await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    for slow in (True, False):
        writer.write(b"GET /users HTTP/1.1\r\n")
        if slow:
            await until(lambda: server.waiting)
            server.age(5.0)
        writer.write(b"Host: x\r\n\r\n")
        await reader.readuntil(b"[]")
    writer.close()
    await server.close()
    bench.requests.flush()
    spans = [
        (await bench.tracer.trace(one.trace_id)).spans[0] for one in await bench.tracer.traces(TraceQuery())
    ]
    assert sorted(span.duration_s >= 5.0 for span in spans) == [False, True]


async def test_a_request_without_a_route_has_no_path_in_its_labels(bench: Bench) -> None:
    await get(bench.requests.direct("users", "users-1", users), "/etc/passwd")
    assert bench.count(404, route="") == 1


async def test_an_unknown_method_is_other(bench: Bench) -> None:
    session, base, server = await serve(bench.requests.direct("users", "users-1", users))
    async with session, session.request("PROPFIND", base.rstrip("/") + "/users"):
        pass
    await server.close()
    assert bench.count(200, method="_OTHER") == 1


async def test_a_handler_that_raises_is_a_500(bench: Bench) -> None:
    async def broken(_exchange: Exchange) -> None:
        raise ConnectionResetError("half an answer")

    session, base, server = await serve(bench.requests.direct("users", "users-1", broken))
    async with session:
        with pytest.raises(ClientConnectionError):
            await session.post(base)
    await server.close()
    assert bench.count(500, route="", method="POST") == 1
    assert (await bench.tracer.traces(TraceQuery(errors=True)))[0].status == 500


async def test_a_client_that_disconnects_is_a_499_and_not_an_error(bench: Bench) -> None:
    entered, left = asyncio.Event(), asyncio.Event()

    async def slow(exchange: Exchange) -> None:
        gone = asyncio.Event()
        exchange.on_disconnect(gone.set)
        entered.set()
        await gone.wait()
        asyncio.get_running_loop().call_soon(left.set)
        await exchange.drain()

    session, base, server = await serve(bench.requests.direct("users", "users-1", slow))
    request = asyncio.create_task(session.get(base).__aenter__())
    async with session, asyncio.timeout(60):
        await entered.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        await session.close()
        await left.wait()
    await server.close()
    assert bench.count(499, route="") == 1
    assert not (await bench.tracer.traces(TraceQuery()))[0].error


async def test_a_service_without_a_metrics_page_gets_its_own_series(bench: Bench) -> None:
    request_finished(bench.metrics, "orders", "/orders", "GET", 200, 0.001)
    handle = bench.requests.direct("users", "users-1", users)
    await get(handle)
    status, text = await get(handle, "/metrics")
    assert status == 200
    assert 'service="users"' in text
    assert "orders" not in text


async def test_a_services_own_metrics_page_wins(bench: Bench) -> None:
    async def own(exchange: Exchange) -> None:
        answer(exchange, text=b"mine")

    assert await get(bench.requests.direct("users", "users-1", own), "/metrics") == (200, "mine")


async def test_the_callers_trace_continues(bench: Bench) -> None:
    session, base, server = await serve(bench.requests.direct("users", "users-1", users))
    async with session:
        await session.get(f"{base}/users?token=secret", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    await server.close()
    (span,) = (await bench.tracer.trace(TRACE)).spans
    assert (span.parent_id, span.service, span.name, span.kind) == (
        PARENT,
        "users",
        "GET /users",
        SpanKind.SERVER,
    )
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/users",
        "url.path": "/users",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": int(base.rpartition(":")[2]),
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "http.response.status_code": 200,
        "service.instance.id": "users-1",
    }


@pytest.mark.parametrize(
    ("method", "target", "name", "path"),
    [
        ("GET", "/etc/passwd", "GET", "/etc/passwd"),
        ("PROPFIND", "/users", "HTTP /users", "/users"),
        ("GET", "/\xff\N{BROKEN BAR}", "GET", "/%C3%BF%C2%A6"),
        ("GET", "/\udcff", "GET", "/%FF"),
        ("GET", "http://elsewhere/users", "GET", "/users"),
        ("GET", "/" + "x" * 9000, "GET", "/" + "x" * 199),
    ],
)
def test_a_path_is_an_attribute_and_never_a_name(method: str, target: str, name: str, path: str) -> None:
    request = HttpRequest(method, target, "/users" if "/users" in name else "")
    assert request.name == name
    assert request.attributes()["url.path"] == path


async def test_the_exception_of_a_handler_is_an_event_of_its_span(bench: Bench) -> None:
    async def gateway(exchange: Exchange) -> None:
        span = bench.requests.request_started(exchange, ())
        attempt = span.hosted_attempt("GET", "/inner")
        try:
            raise KeyError("amount")
        except KeyError as error:
            ServiceLog(bench.logs, "users").failed("GET /inner", error)
        attempt.finished("users", "users-1", 500, 0.001)
        span.finished("users", "/users", 500, 0.003)
        answer(exchange, 500)

    await get(gateway)
    (summary,) = await bench.tracer.traces(TraceQuery(text="amount"))
    outer, inner = (await bench.tracer.trace(summary.trace_id)).spans
    (event,) = inner.events
    assert (event.name, event.attributes["exception.type"]) == ("exception", "KeyError")
    assert raised_at(str(event.attributes["exception.stacktrace"])).startswith(__file__)
    assert inner.attributes["error.type"] == "KeyError"
    assert (outer.events, outer.attributes["error.type"]) == ((), "500")


async def test_one_trace_spans_gateway_attempt_service_queue_and_consumer(bench: Bench) -> None:
    headers: dict[str, str] = {}

    async def producer(exchange: Exchange) -> None:
        bench.logs.append("producer", "publishing")
        with bench.messages.publishing("hello") as added:
            headers.update(added)
        answer(exchange, 202)

    async def gateway(exchange: Exchange) -> None:
        # What the gateway tells around a request, and around the attempt in this process.
        span = bench.requests.request_started(exchange, ())
        attempt = span.hosted_attempt("GET", "/inner")
        await producer(exchange)
        attempt.finished("producer", "producer-1", exchange.status, 0.001, "/{inner}")
        bench.logs.append("gateway", "done")
        span.finished("producer", "/messages", exchange.status, 0.002)

    await get(gateway, "/messages")
    with MessageObserver("consumer", bench.metrics, bench.tracer).processing("hello", headers):
        bench.logs.append("consumer", "received")

    (summary,) = await bench.tracer.traces(TraceQuery())
    spans = (await bench.tracer.trace(summary.trace_id)).spans
    root = next(s for s in spans if s.parent_id is None)
    assert (root.service, root.name) == ("gateway", "GET /messages")
    chain = [root]
    while below := [s for s in spans if s.parent_id == chain[-1].span_id]:
        assert len(below) == 1
        chain.append(below[0])
    assert chain[1].name == "GET /{inner}"
    assert [(s.service, s.kind.value) for s in chain[1:]] == [
        ("producer", "server"),
        ("producer", "producer"),
        ("consumer", "consumer"),
    ]
    assert {line.trace for line in bench.logs.tail()} == {summary.trace_id}
    assert bench.value(
        "messaging_client_consumed_messages_total",
        service="consumer",
        messaging_system="rabbitmq",
        messaging_operation_name="process",
        messaging_destination_name="hello",
    )


async def test_attempts_have_child_spans_and_propagate_them(bench: Bench) -> None:
    sent: list[str] = []

    async def gateway(exchange: Exchange) -> None:
        span = bench.requests.request_started(exchange, [f"00-{TRACE}-{PARENT}-01"])
        for port, status in ((9001, None), (9002, 200)):
            url = f"http://127.0.0.1:{port}"
            attempt = span.remote_attempt("GET", "/7?q=1", url)
            sent.append(attempt.traceparent)
            attempt.finished("users", f"users-{port}", status, 0.001)
        span.finished("users", "/users", 200, 0.003)
        answer(exchange)

    await get(gateway, "/users/7?q=secret")
    spans = (await bench.tracer.trace(TRACE)).spans
    (request,) = [s for s in spans if s.kind is SpanKind.SERVER]
    assert (request.name, request.service, request.parent_id) == ("GET /users", "gateway", PARENT)
    assert request.attributes["url.path"] == "/users/7"
    assert request.attributes["http.route"] == "/users"
    assert "secret" not in repr(spans)
    attempts = sorted((s for s in spans if s.kind is SpanKind.CLIENT), key=lambda s: s.error, reverse=True)
    assert [(s.name, s.error, s.parent_id) for s in attempts] == [
        ("GET", True, request.span_id),
        ("GET", False, request.span_id),
    ]
    assert sent == [f"00-{TRACE}-{s.span_id}-01" for s in attempts]
    assert [s.attributes for s in attempts] == [
        {
            "http.request.method": "GET",
            "url.full": "http://127.0.0.1:9001/7",
            "server.address": "127.0.0.1",
            "server.port": 9001,
            "error.type": "no_response",
            "service.peer.name": "users",
            "service.peer.instance.id": "users-9001",
        },
        {
            "http.request.method": "GET",
            "url.full": "http://127.0.0.1:9002/7",
            "server.address": "127.0.0.1",
            "server.port": 9002,
            "http.request.resend_count": 1,
            "http.response.status_code": 200,
            "service.peer.name": "users",
            "service.peer.instance.id": "users-9002",
        },
    ]
    assert len({s.span_id for s in spans}) == 3
    assert bench.count(200) == 1
    assert bench.value("http_server_active_requests", service="gateway") == 0
    assert bench.value(
        "http_client_request_duration_seconds_count",
        server_address="users",
        http_response_status_code="",
        http_request_method="GET",
        error_type="no_response",
    )


async def test_span_start_times_do_not_move_when_the_machine_suspends(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gateway(exchange: Exchange) -> None:
        span = bench.requests.request_started(exchange, [f"00-{TRACE}-{PARENT}-01"])
        attempt = span.remote_attempt("GET", "/users", "http://127.0.0.1:9001")
        attempt.finished("users", "users-1", 200, 0.001)
        span.finished("users", "/users", 200, 0.003)
        await bench.requests.direct("users", "users-1", users)(exchange)

    await get(gateway, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    before = [span.start for span in (await bench.tracer.trace(TRACE)).spans]
    # The monotonic clock stands still meanwhile, and the other one does not.
    for module in ("requests", "request_spans"):
        monkeypatch.setattr(f"msctl.telemetry.tracing.{module}.monotonic", lambda: 0.0)
    assert len(before) == 3
    assert [span.start for span in (await bench.tracer.trace(TRACE)).spans] == before


async def test_an_unknown_method_is_other_at_the_gateway_too(bench: Bench) -> None:
    async def gateway(exchange: Exchange) -> None:
        bench.requests.request_started(exchange, ()).finished("users", "/users", 200, 0.001)
        answer(exchange)

    session, base, server = await serve(gateway)
    async with session, session.request("PROPFIND", base):
        pass
    await server.close()
    assert bench.count(200, method="_OTHER") == 1


async def test_finished_requests_are_processed_in_batches(bench: Bench) -> None:
    async def gateway(exchange: Exchange) -> None:
        span = bench.requests.request_started(exchange, ())
        span.finished("users", "/users", 200, 0.001)
        answer(exchange)

    session, base, server = await serve(gateway)
    async with session:
        for _ in range(BATCH + 1):
            async with session.get(base):
                pass
    await server.close()
    registry = bench.metrics.registry
    assert registry.get_sample_value("http_server_active_requests", {"service": "gateway"}) == 1
    bench.requests.flush()
    assert registry.get_sample_value("http_server_active_requests", {"service": "gateway"}) == 0


async def test_a_failed_publish_is_counted_as_failed(bench: Bench) -> None:
    facts = MessageFacts("127.0.0.1", 5672, 3, "hello", "m-1")
    with pytest.raises(ZeroDivisionError), bench.messages.publishing("hello", facts):
        raise ZeroDivisionError
    name = "messaging_client_sent_messages_total"
    labels = {
        "service": "producer",
        "messaging_system": "rabbitmq",
        "messaging_operation_name": "publish",
        "messaging_destination_name": "hello",
    }
    assert bench.value(name, **labels, error_type="ZeroDivisionError") == 1
    (summary,) = await bench.tracer.traces(TraceQuery())
    (span,) = (await bench.tracer.trace(summary.trace_id)).spans
    assert (span.name, span.kind) == ("publish hello", SpanKind.PRODUCER)
    assert span.attributes == {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "publish",
        "messaging.operation.type": "send",
        "messaging.destination.name": "hello",
        "messaging.rabbitmq.destination.routing_key": "hello",
        "messaging.message.id": "m-1",
        "messaging.message.body.size": 3,
        "server.address": "127.0.0.1",
        "server.port": 5672,
        "error.type": "ZeroDivisionError",
    }
    assert span.events[0].attributes["exception.type"] == "ZeroDivisionError"


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": 7}, {"traceparent": "nonsense"}])
def test_a_message_without_a_trace_starts_one(bench: Bench, headers: dict[str, object] | None) -> None:
    with bench.messages.processing("hello", headers):
        context = current_trace.get()
        assert context is not None
        assert context.parent_id is None
    assert current_trace.get() is None


def test_a_trace_id_may_come_as_bytes(bench: Bench) -> None:
    with bench.messages.processing("hello", {"traceparent": f"00-{TRACE}-{PARENT}-01".encode()}):
        context = current_trace.get()
        assert context is not None
        assert context.trace_id == TRACE


async def test_the_access_log_samples_successful_requests() -> None:
    for sample, lines in ((0.0, []), (0.4, []), (0.6, ["GET /users 200"]), (1.0, ["GET /users 200"])):
        bench = Bench(sample)
        await get(bench.requests.direct("users", "users-1", users), "/users?token=secret")
        assert [line.text.partition(" in ")[0] for line in bench.logs.tail()] == lines


async def test_failures_are_logged_with_their_trace_up_to_a_limit() -> None:
    bench = Bench()

    async def failing(exchange: Exchange) -> None:
        answer(exchange, 503)

    session, base, server = await serve(bench.requests.direct("users", "users-1", failing))
    async with session:
        for _ in range(300):
            async with session.get(base):
                pass
    await server.close()
    lines = bench.logs.tail()
    assert 0 < len(lines) < 300
    assert lines[0].fields["status"] == 503
    assert lines[0].trace
    assert lines[0].level == "error"
    assert len(lines) >= MAX_ERROR_LINES
