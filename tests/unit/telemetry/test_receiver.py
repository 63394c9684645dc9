"""Children get the endpoint for their spans; others are refused, and so are malformed spans."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from io import BytesIO

import aiohttp
import pytest
from aiohttp import web

from msctl.model.service_spec import ServiceSpec
from msctl.model.traces import TraceQuery
from msctl.telemetry.ingest import receiver
from msctl.telemetry.ingest.logs import LogRecord
from msctl.telemetry.ingest.otlp import MAX_SPANS, Sender
from msctl.telemetry.ingest.receiver import HEADER, JSON, MAX_BODY, PROTOBUF, Receiver, Sinks
from msctl.telemetry.metrics.point import Point
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import Tracer
from tests.support.ports import reserved_port
from tests.support.waiting import until
from tests.unit.telemetry.test_protobuf import fixed64, part

USERS = ServiceSpec("users", command=("users",))


def body(spans: int = 1, **more: object) -> bytes:
    written = [
        {"traceId": "ab" * 16, "spanId": f"{number + 1:016x}", "name": "work", **more}
        for number in range(spans)
    ]
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": written}]}]}).encode()


@dataclass
class Rig:
    """A receiver, the spans it kept and forwarded, and a client."""

    receiver: Receiver
    session: aiohttp.ClientSession
    kept: list[EndedSpan]
    forwarded: list[tuple[bytes, str]]
    logged: list[LogRecord]
    measured: list[Point]

    @property
    def env(self) -> Mapping[str, str]:
        return self.receiver.environment(USERS, "users-1", {})

    @property
    def headers(self) -> dict[str, str]:
        pairs = self.env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"].split(",")
        return {"Content-Type": JSON, **dict(pair.split("=", 1) for pair in pairs)}

    async def post(self, data: object, signal: str = "TRACES", **headers: str) -> tuple[int, bytes]:
        endpoint = self.env[f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"]
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.post(endpoint, data=data, headers={**self.headers, **given}) as response:
            return response.status, await response.read()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    kept: list[EndedSpan] = []
    forwarded: list[tuple[bytes, str]] = []
    logged: list[LogRecord] = []
    measured: list[Point] = []
    sinks = Sinks(
        kept.extend,
        lambda records, _: logged.extend(records),
        lambda points, _: measured.extend(points),
        lambda sent, form: forwarded.append((sent, form)),
    )
    async with aiohttp.ClientSession() as session:
        made = Rig(Receiver("shop", sinks), session, kept, forwarded, logged, measured)
        await made.receiver.start()
        yield made
        await made.receiver.stop()


async def test_a_child_gets_the_endpoint_and_a_token(rig: Rig) -> None:
    assert rig.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"].startswith("http://127.0.0.1:")
    assert rig.env["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] == "http/protobuf"
    assert rig.env["OTEL_SERVICE_NAME"] == "users"
    attributes = "service.namespace=shop,service.instance.id=users-1"
    assert rig.env["OTEL_RESOURCE_ATTRIBUTES"] == attributes
    assert rig.env == rig.env
    other = rig.receiver.environment(USERS, "users-2", {"OTEL_RESOURCE_ATTRIBUTES": "a=b"})
    assert other["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] != rig.env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    assert "OTEL_RESOURCE_ATTRIBUTES" not in other


async def test_children_send_all_spans_only_with_a_collector(rig: Rig) -> None:
    assert "latest" not in rig.env["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    nothing: Sinks = Sinks(lambda _: None, lambda *_: None, lambda *_: None)
    alone = Receiver("shop", nothing)
    await alone.start()
    told = alone.environment(USERS, "users-1", {})["OTEL_EXPORTER_OTLP_TRACES_HEADERS"]
    assert told.endswith(f",x-msctl-latest={receiver.LATEST}")
    await alone.stop()


@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", set()),
        ("OTEL_SDK_DISABLED", set()),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", {"LOGS", "METRICS"}),
        ("OTEL_TRACES_EXPORTER", {"LOGS", "METRICS"}),
        ("OTEL_LOGS_EXPORTER", {"TRACES", "METRICS"}),
    ],
)
async def test_a_signal_whose_export_a_service_configures_is_left_to_it(
    rig: Rig, name: str, left: set[str]
) -> None:
    found = rig.receiver.environment(ServiceSpec("a", command=("a",), env={name: "x"}), "a-1", {})
    assert {key.split("_")[3] for key in found if key.endswith("_ENDPOINT")} == left


async def test_logs_and_metrics_go_to_the_collector_of_the_shell(rig: Rig) -> None:
    found = rig.receiver.environment(USERS, "users-1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"})
    assert {key.split("_")[3] for key in found if key.endswith("_ENDPOINT")} == {"TRACES"}


async def test_log_records_are_taken(rig: Rig) -> None:
    record = {
        "severityNumber": 17,
        "body": {"stringValue": "no money"},
        "traceId": "AB" * 16,
        "attributes": [
            {"key": "order", "value": {"intValue": "7"}},
            {"key": "exception.type", "value": {"stringValue": "ValueError"}},
            {"key": "exception.stacktrace", "value": {"stringValue": "Traceback\n  x"}},
        ],
    }
    sent = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]})
    assert await rig.post(sent, "LOGS") == (200, b"{}")
    assert rig.logged == [("error", "no money\nTraceback\n  x", "ab" * 16, {"order": 7})]


async def test_metrics_are_taken(rig: Rig) -> None:
    metrics = [
        {"name": "queue.size", "gauge": {"dataPoints": [{"asInt": "3"}]}},
        {
            "name": "took",
            "unit": "s",
            "histogram": {
                "aggregationTemporality": 2,
                "dataPoints": [
                    {"sum": 1.5, "count": "3", "explicitBounds": [1.0], "bucketCounts": ["2", "1"]}
                ],
            },
        },
        {"name": "delta", "sum": {"aggregationTemporality": 1, "dataPoints": [{"asInt": 1}]}},
    ]
    sent = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]})
    assert await rig.post(sent, "METRICS") == (200, b"{}")
    assert [(point.name, point.kind, point.value) for point in rig.measured] == [
        ("queue.size", "gauge", 3.0),
        ("took", "histogram", 1.5),
    ]
    assert rig.measured[1].buckets == ((1.0, 2), (float("inf"), 3))


@pytest.mark.parametrize(
    ("signal", "sent"),
    [
        ("LOGS", {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"traceId": "x"}]}]}]}),
        ("LOGS", {"resourceLogs": 1}),
        ("METRICS", {"resourceMetrics": [{"scopeMetrics": [{"metrics": [{}]}]}]}),
        (
            "METRICS",
            {
                "resourceMetrics": [
                    {
                        "scopeMetrics": [
                            {
                                "metrics": [
                                    {
                                        "name": "a",
                                        "histogram": {"dataPoints": [{"bucketCounts": [1, 2, 3]}]},
                                    }
                                ]
                            }
                        ]
                    }
                ]
            },
        ),
    ],
)
async def test_malformed_logs_and_metrics_are_refused(rig: Rig, signal: str, sent: object) -> None:
    assert (await rig.post(json.dumps(sent), signal))[0] == 400
    assert (rig.logged, rig.measured) == ([], [])


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ([1.0], ["-1", "2"]),
        ([1.0], ["9" * 20, "2"]),
        ([2.0, 1.0], [1, 1, 1]),
        ([1.0, 1.0], [1, 1, 1]),
        ([], ["-1"]),
    ],
)
async def test_a_histogram_that_is_none_is_refused(
    rig: Rig, bounds: list[float], counts: list[int | str]
) -> None:
    point = {"bucketCounts": counts, "explicitBounds": bounds}
    metric = {"name": "m", "histogram": {"dataPoints": [point]}}
    sent = json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]})
    assert (await rig.post(sent.encode(), "METRICS"))[0] == 400
    assert rig.measured == []


async def test_other_variables_do_not_count_as_export_configuration(rig: Rig) -> None:
    env = {"OTEL_LOG_LEVEL": "debug", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://m"}
    assert rig.receiver.environment(ServiceSpec("a", command=("a",), env=env), "a-1", {})


async def test_children_export_directly_to_a_grpc_collector(rig: Rig) -> None:
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    assert rig.receiver.environment(USERS, "users-1", named) == {}
    named["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"] = "http/json"
    assert rig.receiver.environment(USERS, "users-1", named)


async def test_children_get_nothing_before_start_and_after_stop(rig: Rig) -> None:
    await rig.receiver.start()
    await rig.receiver.stop()
    assert rig.env == {}
    await rig.receiver.stop()
    await rig.receiver.start()
    assert (await rig.post(body()))[0] == 200


async def test_spans_are_kept_for_their_sender_and_forwarded_unchanged(rig: Rig) -> None:
    sent = body(3)
    assert await rig.post(sent) == (200, b"{}")
    assert [(span.service, span.instance, span.title) for span in rig.kept] == [
        ("users", "users-1", "work")
    ] * 3
    assert rig.forwarded == [(sent, JSON)]


async def test_the_binary_form_is_accepted(rig: Rig) -> None:
    ids = b"\x0a\x10" + b"\xab" * 16 + b"\x12\x08" + b"\xcd" * 8
    scope = b"\x12" + bytes([len(ids)]) + ids
    resource = b"\x12" + bytes([len(scope)]) + scope
    sent = b"\x0a" + bytes([len(resource)]) + resource
    assert await rig.post(sent, Content_Type=PROTOBUF) == (200, b"")
    assert [span.trace_id for span in rig.kept] == ["ab" * 16]
    assert rig.forwarded == [(sent, PROTOBUF)]


async def test_a_gzip_body_is_accepted_and_forwarded_uncompressed(rig: Rig) -> None:
    assert (await rig.post(gzip.compress(body(), mtime=0), Content_Encoding="gzip"))[0] == 200
    assert rig.forwarded == [(body(), JSON)]


async def test_requests_without_a_valid_token_are_refused(rig: Rig) -> None:
    for token in ("", "x", rig.headers[HEADER] + "x"):
        status, answer = await rig.post(body(), **{HEADER: token})
        assert status == 401
        assert HEADER.encode() in answer
    endpoint = rig.env["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    async with rig.session.post(endpoint, data=body(), headers={"Content-Type": JSON}) as response:
        assert response.status == 401
    async with rig.session.get(endpoint, headers=rig.headers) as response:
        assert response.status == 405
    assert rig.kept == []


@pytest.mark.parametrize(
    ("sent", "headers", "status", "why"),
    [
        (b"{", {}, 400, "not an ExportTraceServiceRequest"),
        (body(traceId="no"), {}, 400, "traceId"),
        (b"\xff", {"Content_Type": PROTOBUF}, 400, "does not end"),
        (b"not gzip", {"Content_Encoding": "gzip"}, 400, "not gzip"),
        (gzip.compress(body(), mtime=0)[:-9], {"Content_Encoding": "gzip"}, 400, "truncated"),
        (body(), {"Content_Encoding": "br"}, 415, "gzip"),
        (body(), {"Content_Type": "text/plain"}, 415, "application/x-protobuf"),
        (b" " * (MAX_BODY + 1), {}, 413, "smaller batches"),
        (gzip.compress(b" " * (MAX_BODY + 1), mtime=0), {"Content_Encoding": "gzip"}, 413, "smaller batches"),
        (body(MAX_SPANS + 1), {}, 400, "smaller batches"),
    ],
)
async def test_an_invalid_request_is_refused_and_logged_once(
    rig: Rig,
    caplog: pytest.LogCaptureFixture,
    sent: bytes,
    headers: Mapping[str, str],
    status: int,
    why: str,
) -> None:
    for _ in range(2):
        answered, text = await rig.post(BytesIO(sent), **headers)
        assert answered == status
        assert why in text.decode()
    assert rig.kept == []
    assert rig.forwarded == []
    assert len([record for record in caplog.records if record.name == "msctl.otlp"]) <= 1
    assert all(record.levelname == "WARNING" and "users-1" in record.message for record in caplog.records)


async def test_concurrent_requests_are_limited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = asyncio.Semaphore(0)
    go_on = asyncio.Event()
    read = web.Request.read

    async def slowly(request: web.Request) -> bytes:
        arrived.release()
        await go_on.wait()
        return await read(request)

    monkeypatch.setattr(web.Request, "read", slowly)
    monkeypatch.setattr(receiver, "MAX_WAITING", 2)
    async with asyncio.TaskGroup() as group:
        first = [group.create_task(rig.post(body())) for _ in range(receiver.MAX_AT_ONCE)]
        for _ in first:
            await arrived.acquire()
        waiting = [group.create_task(rig.post(body())) for _ in range(2)]
        await until(lambda: rig.receiver._busy == receiver.MAX_AT_ONCE + 2)
        assert (await rig.post(body()))[0] == 503
        assert arrived.locked()
        go_on.set()
    assert [task.result()[0] for task in (*first, *waiting)] == [200] * (receiver.MAX_AT_ONCE + 2)
    assert (await rig.post(body()))[0] == 200


async def test_a_slow_body_times_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "BODY_TIMEOUT_S", 0.01)
    done = asyncio.Event()

    async def never() -> AsyncIterator[bytes]:
        yield b"{"
        await done.wait()

    assert (await rig.post(never()))[0] == 408
    done.set()


async def test_other_programs_send_without_a_token_and_name_themselves(rig: Rig) -> None:
    with reserved_port() as port:
        await rig.receiver.open(port)
        named = {"attributes": [{"key": "service.name", "value": {"stringValue": "elsewhere"}}]}
        spans = [{"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "work"}]
        sent = {"resourceSpans": [{"resource": named, "scopeSpans": [{"spans": spans}]}]}
        for url, headers, status in (
            (f"http://127.0.0.1:{port}/v1/traces", {}, 200),
            (f"http://localhost:{port}/v1/traces", {}, 200),
            (f"http://localhost:{port}/v1/traces", {"Origin": "http://evil.test"}, 403),
            (f"http://localhost:{port}/v1/traces", {"Host": "evil.test"}, 403),
        ):
            async with rig.session.post(url, json=sent, headers=headers) as response:
                assert response.status == status
    assert [span.service for span in rig.kept] == ["elsewhere", "elsewhere"]


async def test_the_services_of_other_programs_are_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver, "MAX_EXTERNAL", 2)
    with reserved_port() as port:
        await rig.receiver.open(port)
        for number in (1, 2, 3, 4, 1):
            named = {"attributes": [{"key": "service.name", "value": {"stringValue": f"s{number}"}}]}
            span = {"traceId": "ab" * 16, "spanId": f"{number:016x}", "name": "work"}
            sent = {"resourceSpans": [{"resource": named, "scopeSpans": [{"spans": [span]}]}]}
            async with rig.session.post(f"http://127.0.0.1:{port}/v1/traces", json=sent) as response:
                assert response.status == 200
    assert [span.service for span in rig.kept] == ["s1", "s2", "_OTHER", "_OTHER", "s1"]


POINT = {"asInt": "1", "attributes": [{"key": "n", "value": {"intValue": "1"}}]}
METRICS = json.dumps(
    {
        "resourceMetrics": [
            {"scopeMetrics": [{"metrics": [{"name": "m", "gauge": {"dataPoints": [POINT] * 900}}]}]}
        ]
    }
).encode()
WIRE_POINT = fixed64(6, 1) + part(7, part(1, b"n") + part(2, part(1, b"v")))
WIRE_METRIC = part(1, b"m") + part(5, b"".join(part(1, WIRE_POINT) for _ in range(900)))
WIRE_METRICS = part(1, part(2, part(2, WIRE_METRIC)))


@pytest.mark.parametrize(
    ("signal", "sent", "content_type"),
    [
        (receiver.TRACES, body(900), JSON),
        (receiver.METRICS, METRICS, JSON),
        (receiver.METRICS, WIRE_METRICS, PROTOBUF),
    ],
    ids=["spans", "metrics", "metrics in Protocol Buffers"],
)
async def test_decoding_yields_to_other_tasks(
    monkeypatch: pytest.MonkeyPatch, signal: receiver._Signal, sent: bytes, content_type: str
) -> None:
    monkeypatch.setattr(receiver, "STEP_S", 0.0)
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count())
    sender = Sender("users", "users-1")
    found = await receiver._decode(signal, sent, content_type, lambda _: sender)
    counting.cancel()
    assert len(found[sender]) == 900
    assert turns >= 900


MANY = b"{}," * (MAX_BODY // 3 - 100) + b"{}"


@pytest.mark.parametrize(
    ("signal", "sent"),
    [
        ("TRACES", b'{"resourceSpans":[{"scopeSpans":[{"spans":[%s]}]}]}' % MANY),
        ("TRACES", b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"attributes":[%s]}]}]}]}' % MANY),
        ("TRACES", b'{"resourceSpans":[{"scopeSpans":[{"spans":[null]}]}]}'),
        ("TRACES", b'{"resourceSpans":[{"resource":{"attributes":[{"key":"a"' + b"[" * 100_000),
        ("TRACES", body(parentSpanId="1" * 100_000)),
        ("TRACES", body(startTimeUnixNano="9" * 19)),
        ("TRACES", body(endTimeUnixNano=2**63)),
        ("LOGS", b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[%s]}]}]}]}' % MANY),
        ("LOGS", b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%s]}]}]}' % MANY),
        ("METRICS", b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%s]}]}]}' % MANY),
        (
            "METRICS",
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[%s]}]}]}'
            % b",".join([b'{"name":"m"}'] * 300_000),
        ),
        (
            "METRICS",
            b'{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[%s]}}]}]}]}'
            % MANY,
        ),
        ("METRICS", METRICS.replace(b'"1"', b'"1e4x"', 1)),
    ],
    ids=range(13),
)
async def test_floods_and_nonsense_are_refused(rig: Rig, signal: str, sent: bytes) -> None:
    status, answer = await rig.post(BytesIO(sent), signal)
    assert status == 400
    assert json.loads(answer)["message"]
    assert (rig.kept, rig.logged, rig.measured) == ([], [], [])
    assert (await rig.post(body()))[0] == 200


async def test_spans_from_the_future_and_the_past_are_kept_and_listed(rig: Rig) -> None:
    tracer = Tracer()
    times: dict[str, int] = {"ab": 4_102_444_800, "cd": 0, "ef": 1_700_000_000}
    for prefix, second in times.items():
        start = f"{second}000000000"
        sent = body(traceId=prefix * 16, startTimeUnixNano=start, endTimeUnixNano="1")
        assert (await rig.post(sent))[0] == 200
    tracer.adopt(rig.kept)
    found = await tracer.traces(TraceQuery())
    assert [one.trace_id[:2] for one in found] == ["ab", "ef", "cd"]
    assert {one.duration_s for one in found} == {0.0, 1e-9}


async def test_names_with_markup_controls_and_emoji_stay_harmless(rig: Rig) -> None:
    name = "<b>GET</b> \u202etxt.exe\u2066 \x1b[2J \N{PILE OF POO} \u0000"
    assert (await rig.post(body(name=name)))[0] == 200
    (span,) = rig.kept
    assert span.title.isprintable()
    assert span.title.startswith("<b>GET</b> \ufffdtxt.exe\ufffd \ufffd[2J \N{PILE OF POO}")
