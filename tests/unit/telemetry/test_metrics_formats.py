"""A scrape has the same series as text, as OpenMetrics and as Protocol Buffers; the latter are small."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics

from msctl.telemetry.ingest.protobuf import data_of, fields, number_of, text_in
from msctl.telemetry.metrics.exposition import render
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.metrics.point import Point
from msctl.telemetry.metrics.protobuf_format import preferred
from msctl.telemetry.metrics.received import ReceivedMetrics
from tests.unit.telemetry.gateway_requests import request_finished

PROTOBUF = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
NAME = "http_server_request_duration_seconds"
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture
def metrics() -> Metrics:
    metrics = Metrics()
    for seconds in (0.0001, 0.003, 0.003, 70.0):
        request_finished(metrics, "users", '/a"\\b\n', "GET", 200, seconds)
    request_finished(metrics, "orders", "/ü", "POST", 503, 0.2)
    metrics.retried("users", "reset")
    return metrics


@pytest.fixture
def received() -> ReceivedMetrics:
    received = ReceivedMetrics()
    buckets = ((0.5, 1), (float("inf"), 3))
    received.keep([Point("wait", "s", "histogram", (("kind", "x"),), 4.5, buckets)], "users", "users-1")
    return received


def series(families: Iterable[Metric]) -> Series:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
        if sample.name.startswith(("http_", "msctl_", "wait_"))
    }


def decoded(page: bytes) -> Series:
    """The series of a page of Protocol Buffers, as a scraper names them."""
    found: Series = {}
    at = 0
    while at < len(page):
        size = shift = 0
        while True:
            size |= (page[at] & 0x7F) << shift
            shift += 7
            at += 1
            if page[at - 1] < 0x80:
                break
        family = list(fields(page[at : at + size]))
        at += size
        name = next(text_in(value) for number, value in family if number == 1)
        for metric in (data_of(value) for number, value in family if number == 4):
            _add(found, name, metric)
    return {key: value for key, value in found.items() if key[0].startswith(("http_", "msctl_", "wait_"))}


def _add(found: Series, name: str, metric: bytes) -> None:
    labels: dict[str, str] = {}
    for number, value in fields(metric):
        inner = dict(fields(data_of(value)))
        if number == 1:
            labels[text_in(inner[1])] = text_in(inner[2])
        elif number != 7:
            found[name, frozenset(labels.items())] = _double(number_of(inner[1]))
        else:
            found[f"{name}_count", frozenset(labels.items())] = number_of(inner[1])
            found[f"{name}_sum", frozenset(labels.items())] = _double(number_of(inner[2]))
            for bucket in (dict(fields(data_of(one))) for key, one in fields(data_of(value)) if key == 3):
                edge = _double(number_of(bucket[2]))
                le = "+Inf" if edge == float("inf") else str(edge)
                found[f"{name}_bucket", frozenset({**labels, "le": le}.items())] = number_of(bucket[1])


def _double(bits: int) -> float:
    value: float = struct.unpack("<d", bits.to_bytes(8, "little"))[0]
    return value


def test_every_format_has_the_same_series(metrics: Metrics, received: ReceivedMetrics) -> None:
    pages = {
        accept: render(metrics.registry, None, received=received, accept=accept)
        for accept in ("", "application/openmetrics-text; version=1.0.0", PROTOBUF)
    }
    (text, kind), (open_text, open_kind), (protobuf, protobuf_kind) = pages.values()
    assert [one.partition(";")[0] for one in (kind, open_kind, protobuf_kind)] == [
        "text/plain",
        "application/openmetrics-text",
        "application/vnd.google.protobuf",
    ]
    plain = series(parser.text_string_to_metric_families(text.decode()))
    labels = {"http_request_method": "GET", "http_response_status_code": "200", "service": "users"}
    key = frozenset({**labels, "http_route": '/a"\\b\n', "le": "0.005"}.items())
    assert plain[f"{NAME}_bucket", key] == 3
    assert plain == series(openmetrics.text_string_to_metric_families(open_text.decode()))  # type: ignore[no-untyped-call]
    assert plain == pytest.approx(decoded(protobuf))
    assert sum(name == f"{NAME}_bucket" for name, _ in plain) == 30
    assert sum(name.startswith("wait_") for name, _ in plain) == 4


def test_a_combination_of_labels_is_small() -> None:
    sizes = []
    for combinations in (1, 101):
        metrics = Metrics()
        for number in range(combinations):
            request_finished(metrics, "orders", f"/orders/{{id}}/parts/{number:03}", "GET", 200, 0.003)
        sizes.append(len(render(metrics.registry, None, accept=PROTOBUF)[0]))
    assert (sizes[1] - sizes[0]) / 100 < 400


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        (PROTOBUF, True),
        (f"{PROTOBUF};q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2", True),
        (f"application/openmetrics-text;version=1.0.0,{PROTOBUF};q=0.6", False),
        ("application/vnd.google.protobuf", False),
        (PROTOBUF.replace("delimited", "text"), False),
        (f"{PROTOBUF};q=x", False),
        (f"{PROTOBUF};q=0", False),
        (";;,;=,", False),
    ],
)
def test_protocol_buffers_are_for_those_who_prefer_them(accept: str, expected: bool) -> None:
    assert preferred(accept) is expected
