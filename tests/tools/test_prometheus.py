"""A real Prometheus scrapes a stack under load: every metric that the documentation names has data."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from msctl.telemetry.metrics.histogram import BUCKETS
from tests.support import tools
from tests.support.http import request
from tests.support.prometheus import running_prometheus
from tests.support.shop import Shop

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
DOCUMENTED = dict(re.findall(r"^\| `(\w+)` \| (\w+) \|", DOCUMENT, flags=re.MULTILINE))

STREAMS = "msctl_stream_duration_seconds"
"""The shop has no stream: tests/unit/gateway/test_features.py."""


def garbage(url: str) -> None:
    """Send what is no request."""
    host, _, port = urlsplit(url).netloc.partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400")


@contextmanager
def load(shop: Shop) -> Iterator[None]:
    """Requests of every kind until the block ends."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.02):
            request(shop.gateway + "/users")
            request(shop.gateway + "/nothing")
            request(shop.users + "/users")
            request(shop.gateway + "/messages", method="POST", body=b"x")
            request(shop.gateway + "/broken")
            garbage(shop.gateway)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_every_documented_metric_answers_a_query(shop: Shop) -> None:
    shop.msctl.ok("start", "consumer")
    page, users = (urlsplit(url).netloc for url in (shop.page, shop.users))
    shop.msctl.ok("fault", "add", "delay", "/hello", "--delay", "1ms")
    with load(shop), running_prometheus(stack=page, service=users) as prometheus:
        for name, kind in DOCUMENTED.items():
            if name == STREAMS:
                continue
            prometheus.until(f'{name}{"_count" if kind == "histogram" else ""}{{job="stack"}}')
        rates = prometheus.until(
            'sum by (service) (rate(http_server_request_duration_seconds_count{job="stack"}[10s])) > 0'
        )
        assert {"users", "gateway", "producer"} <= {one["metric"]["service"] for one in rates}
        p95 = prometheus.until(
            "histogram_quantile(0.95, sum by (le) (rate(http_server_request_duration_seconds_bucket"
            '{service="users",job="stack"}[10s]))) > 0'
        )
        assert float(p95[0]["value"][1]) < 10
        refused = prometheus.until('msctl_http_refused_requests_total{job="stack"} > 0')
        labels = refused[0]["metric"]
        assert (labels["service"], labels["http_response_status_code"]) == ("gateway", "400")
        unrouted = prometheus.until('http_server_request_duration_seconds_count{http_route="",job="stack"}')
        assert {one["metric"]["service"] for one in unrouted} == {"gateway"}
        mine = prometheus.until('{__name__=~".+",job="service"}')
        owners = {
            one["metric"][label]
            for one in mine
            for label in ("service", "upstream", "server_address")
            if label in one["metric"]
        }
        assert owners == {"users"}


def test_prometheus_reads_the_same_from_protocol_buffers(shop: Shop) -> None:
    page, users = (urlsplit(url).netloc for url in (shop.page, shop.users))
    shop.msctl.ok("start", "consumer")
    with load(shop), running_prometheus(stack=page, service=users, protobuf=True) as prometheus:
        for name, kind in DOCUMENTED.items():
            if name not in (STREAMS, "msctl_fault_active"):
                prometheus.until(f'{name}{"_count" if kind == "histogram" else ""}{{job="stack"}}')
        labels = 'service="users",job="stack"'
        name = "http_server_request_duration_seconds"
        (whole,) = prometheus.until(f'{name}_bucket{{{labels},le="+Inf",http_route="/users"}} > 0')
        assert whole["metric"]["http_response_status_code"] == "200"
        edges = prometheus.until(f"count(count by (le) ({name}_bucket{{{labels}}}))")
        assert float(edges[0]["value"][1]) == len(BUCKETS) + 1


def test_every_metric_is_documented(shop: Shop) -> None:
    text = request(shop.page.rstrip("/") + "/metrics").body.decode()
    told = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, flags=re.MULTILINE))
    checked = subprocess.run(
        [tools.require("promtool"), "check", "metrics"],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")
    ours = {name: kind for name, kind in told.items() if not name.startswith(("process_", "python_"))}
    assert (
        ours.items()
        <= DOCUMENTED.items()
        | {
            "msctl_broker_queue_messages_published_total": "counter",
            "msctl_broker_queue_messages_delivered_total": "counter",
        }.items()
    )
