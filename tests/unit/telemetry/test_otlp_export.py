"""Spans reach a collector as OTLP/JSON; an unreachable one costs neither requests nor memory."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from msctl.model.traces import SpanEvent, SpanKind
from msctl.telemetry.export import otlp
from msctl.telemetry.export.otlp import Exporter, document
from msctl.telemetry.tracing.span import EndedSpan, HttpRequest

SPAN = EndedSpan(
    "ab" * 16,
    "000000000000001f",
    "cd" * 8,
    HttpRequest("GET", "/users/7?secret=1", "/users/{id}"),
    "users",
    SpanKind.SERVER,
    1_700_000_000.5,
    0.25,
    True,
    500,
    "users-1",
    {"ok": True, "ratio": 0.5, "word": "x"},
    (SpanEvent("exception", 1_700_000_000.6, {"exception.type": "ValueError"}),),
)


class Collector:
    """Answers with a given status and keeps the requests."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.got: asyncio.Queue[tuple[dict[str, Any], dict[str, str]]] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.Response:
        status = self.statuses.pop(0) if self.statuses else 200
        self.got.put_nowait((json.loads(await request.read()), dict(request.headers)))
        return web.Response(status=status)

    async def body(self) -> dict[str, Any]:
        async with asyncio.timeout(60):
            body, _ = await self.got.get()
        return body

    async def spans(self) -> list[dict[str, Any]]:
        body = await self.body()
        return [
            span
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]


async def serve(collector: Collector) -> TestServer:
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/traces", collector.handle)
    server = TestServer(app)
    await server.start_server()
    return server


def exporter(server: TestServer, **more: str) -> Exporter:
    found = Exporter.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": str(server.make_url("/")), **more}, "shop")
    assert found is not None
    return found


def test_a_span_is_encoded_as_the_protocol_specifies() -> None:
    written: Any = document([SPAN], "shop")
    (resource,) = written["resourceSpans"]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "users"}},
        {"key": "service.namespace", "value": {"stringValue": "shop"}},
        {"key": "service.instance.id", "value": {"stringValue": "users-1"}},
    ]
    (span,) = resource["scopeSpans"][0]["spans"]
    assert span == {
        "traceId": "ab" * 16,
        "spanId": "000000000000001f",
        "parentSpanId": "cd" * 8,
        "name": "GET /users/{id}",
        "kind": 2,
        "startTimeUnixNano": "1700000000500000000",
        "endTimeUnixNano": "1700000000750000000",
        "attributes": [
            {"key": "http.request.method", "value": {"stringValue": "GET"}},
            {"key": "http.route", "value": {"stringValue": "/users/{id}"}},
            {"key": "url.path", "value": {"stringValue": "/users/7"}},
            {"key": "ok", "value": {"boolValue": True}},
            {"key": "ratio", "value": {"doubleValue": 0.5}},
            {"key": "word", "value": {"stringValue": "x"}},
            {"key": "error.type", "value": {"stringValue": "ValueError"}},
            {"key": "http.response.status_code", "value": {"intValue": "500"}},
        ],
        "status": {"code": 2, "message": ""},
        "events": [
            {
                "timeUnixNano": "1700000000600000000",
                "name": "exception",
                "attributes": [{"key": "exception.type", "value": {"stringValue": "ValueError"}}],
            }
        ],
    }


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_a_collector_nothing_is_exported(env: dict[str, str]) -> None:
    assert Exporter.from_env(env, "shop") is None


async def test_spans_are_sent_in_batches_with_the_configured_headers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector()
    server = await serve(collector)
    sender = exporter(server, OTEL_EXPORTER_OTLP_HEADERS="x-key=a%20b, x-other=c")
    sender.start()
    for _ in range(otlp.BATCH + 3):
        sender.add(SPAN)
    body, headers = await collector.got.get()
    assert len(body["resourceSpans"][0]["scopeSpans"][0]["spans"]) == otlp.BATCH
    assert (headers["x-key"], headers["x-other"]) == ("a b", "c")
    assert headers["Content-Type"] == "application/json"
    assert len(await collector.spans()) == 3
    await sender.stop()
    await server.close()


async def test_remaining_spans_are_sent_on_stop() -> None:
    collector = Collector()
    server = await serve(collector)
    sender = exporter(server)
    sender.start()
    sender.add(SPAN)
    await sender.stop()
    assert len(await collector.spans()) == 1
    await server.close()


async def test_a_retryable_status_is_retried(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector(503, 503, 200)
    server = await serve(collector)
    sender = exporter(server)
    with caplog.at_level("INFO", "msctl.otlp"):
        sender.start()
        sender.add(SPAN)
        for _ in range(3):
            assert len(await collector.spans()) == 1
        async with asyncio.timeout(60):
            while len(caplog.records) < 2:
                await asyncio.sleep(0.01)
        await sender.stop()
    await server.close()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert collector.got.empty()


async def test_a_permanent_refusal_drops_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector(400)
    server = await serve(collector)
    sender = exporter(server)
    sender.start()
    sender.add(SPAN)
    assert len(await collector.spans()) == 1
    sender.add(SPAN._replace(name="second"))
    assert [span["name"] for span in await collector.spans()] == ["second"]
    await sender.stop()
    await server.close()


async def test_an_unreachable_collector_costs_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector()
    server = await serve(collector)
    sender = exporter(server)
    await server.close()
    sender.start()
    for number in range(otlp.MAX_WAITING * 2):
        sender.add(SPAN._replace(name=str(number)))
    await asyncio.sleep(0.05)
    assert len(sender._waiting) <= otlp.MAX_WAITING
    *_, newest = sender._waiting.take(otlp.MAX_WAITING * 2)
    assert newest.name == str(otlp.MAX_WAITING * 2 - 1)
    await sender.stop()


async def test_trace_headers_have_precedence_over_general_ones() -> None:
    collector = Collector()
    server = await serve(collector)
    sender = exporter(
        server, OTEL_EXPORTER_OTLP_HEADERS="x-key=all", OTEL_EXPORTER_OTLP_TRACES_HEADERS="x-key=traces"
    )
    sender.start()
    sender.add(SPAN)
    await sender.stop()
    await server.close()
    _, headers = collector.got.get_nowait()
    assert headers["x-key"] == "traces"


async def test_forwarded_requests_are_unchanged_and_retried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector(503)
    server = await serve(collector)
    sender = exporter(server)
    sender.start()
    sender.forward(b'{"first": 1}', "application/json")
    sender.forward(b'{"second": 2}', "application/x-protobuf")
    for expected in ({"first": 1}, {"first": 1}, {"second": 2}):
        async with asyncio.timeout(60):
            body, headers = await collector.got.get()
        assert body == expected
    assert headers["Content-Type"] == "application/x-protobuf"
    await sender.stop()
    await server.close()
    assert collector.got.empty()


async def test_forwarded_requests_are_bounded_in_bytes() -> None:
    collector = Collector()
    server = await serve(collector)
    sender = exporter(server)
    quarter = b" " * (otlp.MAX_FORWARDED // 4)
    for number in range(9):
        sender.forward(b"%d" % number + quarter, "application/json")
    sender.start()
    await sender.stop()
    await server.close()
    got: list[Any] = [collector.got.get_nowait()[0] for _ in range(collector.got.qsize())]
    assert got == [6, 7, 8]


async def test_a_busy_process_sends_only_the_latest_spans_on_request() -> None:
    collector = Collector()
    server = await serve(collector)
    sender = exporter(server, OTEL_EXPORTER_OTLP_HEADERS=f"{otlp.LATEST_HEADER}=3")
    sender.start()
    for number in range(otlp.BATCH * 3):
        sender.add(SPAN._replace(name=str(number), error=number == 1, duration_s=0.001))
    await asyncio.sleep(0)  # what is eager would begin to send now
    assert collector.got.empty()
    await sender.stop()
    await server.close()
    assert [span["name"] for span in await collector.spans()] == ["1", "1533", "1534", "1535"]
