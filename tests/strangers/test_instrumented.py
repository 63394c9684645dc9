"""Programs with OpenTelemetry's SDKs: their traces are whole, and their exporters print no error."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.strangers.conftest import HERE, INSTRUMENTED, require_installed
from tests.support.cli import Msctl
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.support.tools import require
from tests.support.waiting import eventually

PYTHON = "{bin}/opentelemetry-instrument {bin}"
NODE = "node --require @opentelemetry/auto-instrumentations-node/register"
CONFIGURATION = f"""
[project]
name = "instrumented"

[services.orders]
command = "{PYTHON}/uvicorn orders:app --host $HOST --port $PORT --no-access-log"
routes = ["/orders", "/broken"]
health = "/healthz"
env = {{{{ OTEL_METRIC_EXPORT_INTERVAL = "500" }}}}

[services.prices]
command = "{PYTHON}/flask --app prices run --host $HOST --port $PORT"
routes = ["/prices"]
health = "/healthz"

[services.stock]
command = "{NODE} stock.js"
health = "/healthz"
port = {{stock}}

[services.worker]
command = "{NODE} worker.js"
depends_on = ["stock", "orders"]
ready_log = "ready"

[gateway]
port = {{gateway}}

[dashboard]
port = {{page}}
otlp_port = 0

[broker]
mode = "embedded"
management_port = 0
url = "amqp://guest:guest@127.0.0.1:{{broker}}/"
"""
TRACES = {"post": "0af7651916cd43dd8448eb211c80319c", "fail": "1af7651916cd43dd8448eb211c80319d"}
COMPLAINTS = re.compile("exporter|failed to export|OTLP|4318|ECONNREFUSED", re.IGNORECASE)


class Shop:
    def __init__(self, msctl: Msctl, ports: dict[str, int]) -> None:
        self.msctl = msctl
        self.ports = ports

    def url(self, path: str, port: str = "gateway") -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def ask(self, path: str, trace: str, method: str = "GET") -> int:
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        return request(self.url(path), method=method, headers=headers).status

    def spans(self, trace: str, service: str, kind: str) -> dict[str, Any]:
        """The first span of this service and kind, once it has come."""
        found: list[dict[str, Any]] = []

        def come() -> bool:
            shown = self.msctl.run("traces", trace, "--json")
            spans = json.loads(shown.stdout)["data"]["spans"] if shown.returncode == 0 else []
            found[:] = [span for span in spans if (span["service"], span["kind"]) == (service, kind)]
            return bool(found)

        eventually(come)
        return found[0]


@pytest.fixture
def shop(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    for program in ("node", "npm"):
        require(program)
    require_installed(INSTRUMENTED)
    folder = tmp_path / "project"
    shutil.copytree(HERE / "instrumented", folder)
    (folder / "node_modules").symlink_to(INSTRUMENTED / "node_modules")
    with ExitStack() as stack:
        names = ("gateway", "stock", "page", "broker")
        ports = {name: stack.enter_context(reserved_port()) for name in names}
        (folder / "msctl.toml").write_text(CONFIGURATION.format(bin=INSTRUMENTED / "venv" / "bin", **ports))
        msctl = Msctl(folder, tmp_path_factory.mktemp("run"), {})
        for name in ("PYTHONWARNINGS", "MSCTL_DASHBOARD_PORT"):
            msctl.env.pop(name, None)
        yield Shop(msctl, ports)
        msctl.run("down")


def test_a_trace_is_whole_from_fastapi_over_a_queue_to_node(shop: Shop) -> None:
    shop.msctl.ok("up", "-d")
    assert shop.ask("/orders/13", TRACES["post"], "POST") == 202
    assert shop.ask("/broken/3", TRACES["fail"]) == 500
    assert request(shop.url("/prices/tea")).body == b"3\n"

    stock = shop.spans(TRACES["post"], "stock", "server")
    assert (stock["name"], stock["attributes"]["url.path"]) == ("GET /stock/:number", "/stock/13")
    whole = json.loads(shop.msctl.ok("traces", TRACES["post"], "--json"))["data"]["spans"]
    known = {span["span_id"]: span for span in whole}
    above, span = [], stock
    while span["parent_id"] in known:
        span = known[span["parent_id"]]
        above.append((span["service"], span["kind"]))
    assert above == [
        ("worker", "client"),
        ("worker", "consumer"),
        ("orders", "producer"),
        ("orders", "server"),
        ("gateway", "client"),
        ("gateway", "server"),
    ]

    broken = shop.spans(TRACES["fail"], "orders", "server")
    (event,) = [event for event in broken["events"] if event["name"] == "exception"]
    assert event["attributes"]["exception.type"] == "ZeroDivisionError"
    assert "raised at " in shop.msctl.ok("traces", TRACES["fail"])
    eventually(lambda: "order 13 is on its way" in shop.msctl.ok("logs", "orders"))
    lines = [json.loads(line)["data"] for line in shop.msctl.ok("logs", "orders", "--json").splitlines()]
    (told,) = [line for line in lines if "is on its way" in line["text"]]
    assert (told["level"], told["trace"]) == ("warning", TRACES["post"])
    eventually(lambda: re.search(r'^http_server\w+_count{.*service="orders"', scraped(shop), re.MULTILINE))

    shop.msctl.ok("down")
    log = shop.msctl.ok("logs", "--run", "1", "-n", "100000").splitlines()
    assert [line for line in log if COMPLAINTS.search(line)] == []
    assert any("cannot be shipped" in line for line in log)


def scraped(shop: Shop) -> str:
    return request(shop.url("/metrics", "page")).body.decode()


HOSTED = """
from aiohttp import web

async def fail(request):
    raise ValueError(request.match_info["number"])

def create_app():
    app = web.Application()
    app.router.add_get("/fail/{number}", fail)
    return app
"""
PLAIN = """
[services.failing]
app = "failing:create_app"
routes = ["/fail"]
[gateway]
port = {gateway}
[dashboard]
enabled = false
[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{broker}/"
"""
CHECK = """
import base64, json, sys
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

def in_base64(value):  # OTLP has ids in hex, where Protocol Buffers' JSON has base64
    if isinstance(value, list):
        return [in_base64(one) for one in value]
    if not isinstance(value, dict):
        return value
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(one)).decode() if key in ids else in_base64(one)
        for key, one in value.items()
    }

for document in json.load(sys.stdin):
    for resource in ParseDict(in_base64(document), ExportTraceServiceRequest()).resource_spans:
        described = {one.key: one.value.string_value for one in resource.resource.attributes}
        for span in resource.scope_spans[0].spans:
            assert (len(span.trace_id), len(span.span_id)) == (16, 8), span
            assert 0 < span.start_time_unix_nano <= span.end_time_unix_nano, span
            names = {one.key for one in span.attributes}
            events = [event.name for event in span.events]
            print(described["service.name"], span.name, span.kind, span.status.code, len(names) > 4, *events)
"""


@contextmanager
def documents() -> Iterator[tuple[str, list[Any]]]:
    """The URL of a collector, and the requests that it has got."""
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_what_goes_to_a_collector_is_what_opentelemetry_proto_describes(shop: Shop) -> None:
    folder = shop.msctl.folder
    (folder / "msctl.toml").write_text(PLAIN.format(**shop.ports))
    (folder / "failing.py").write_text(HOSTED)
    with documents() as (url, got):
        shop.msctl.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        shop.msctl.ok("up", "-d")
        assert request(shop.url("/fail/3")).status == 500
        shop.msctl.ok("down")
        read = subprocess.run(
            [INSTRUMENTED / "venv" / "bin" / "python", "-c", CHECK],
            input=json.dumps(got),
            capture_output=True,
            text=True,
            check=False,
        )
    assert read.returncode == 0, read.stderr
    assert sorted(read.stdout.splitlines()) == [
        "failing GET /fail/{number} 2 2 True exception",
        "gateway GET /fail 2 2 True",
    ]
