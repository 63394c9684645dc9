"""A request's trace goes on in the processes that the stack runs, and reaches a collector once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tests.support.course import Course
from tests.support.http import request
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{CALLER}-01"}

HOSTED = """
from aiohttp import web

async def hi(_request):
    return web.Response(text="hi")

def create_app():
    app = web.Application()
    app.router.add_get("/hi", hi)
    return app
"""

COMMAND = """
import json, os, time, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer

class Instrumented(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" in os.environ:
            self.tell(self.headers["traceparent"].split("-"))
        body = json.dumps({k: v for k, v in os.environ.items() if k.startswith("OTEL_")}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def tell(self, parent):
        now = time.time_ns()
        span = {
            "traceId": parent[1], "spanId": "00000000000000c0", "parentSpanId": parent[2],
            "name": "GET /any", "kind": 2, "startTimeUnixNano": str(now), "endTimeUnixNano": str(now + 10**6),
            "attributes": [{"key": "http.response.status_code", "value": {"intValue": "200"}}],
        }
        pairs = os.environ["OTEL_EXPORTER_OTLP_TRACES_HEADERS"].split(",")
        urllib.request.urlopen(urllib.request.Request(
            os.environ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"],
            json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode(),
            {"Content-Type": "application/json", **dict(pair.split("=") for pair in pairs)},
        )).read()

    def log_message(self, *_):
        pass

HTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Instrumented).serve_forever()
"""

PROJECT = """
[project]
name = "shop"
[services.apart]
app = "hosted:create_app"
isolation = "process"
routes = ["/hi"]
[services.any]
command = "python3 any.py"
routes = ["/any"]
"""


@pytest.fixture
def own(course: Course) -> Course:
    """A project of a hosted service in a process of its own, and an instrumented command."""
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    for name in [name for name in course.msctl.env if name.startswith("OTEL_")]:
        del course.msctl.env[name]
    (course.msctl.folder / "hosted.py").write_text(HOSTED)
    (course.msctl.folder / "any.py").write_text(COMMAND)
    (course.msctl.folder / "msctl.toml").write_text(PROJECT)
    return course


@contextmanager
def collector() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a collector, and the spans that it has got, each with its service's name."""
    got: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            got.extend(
                span
                for resource in document["resourceSpans"]
                for scope in resource["scopeSpans"]
                for span in scope["spans"]
            )
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spans(course: Course, wanted: int) -> list[dict[str, Any]]:
    """The spans of TRACE, as soon as there are so many: those of other processes come a little later."""
    found: list[dict[str, Any]] = []

    def complete() -> bool:
        found[:] = json.loads(course.msctl.ok("traces", TRACE, "--json"))["data"]["spans"]
        return len(found) >= wanted

    eventually(complete)
    return found


def test_a_service_in_a_process_of_its_own_has_its_span_below_the_gateways(own: Course) -> None:
    own.msctl.ok("up", "-d")
    assert request(own.url("/hi"), headers=HEADERS).body == b"hi"
    gateway, client, server = spans(own, 3)
    assert (gateway["service"], gateway["parent_id"]) == ("gateway", CALLER)
    assert (client["service"], client["kind"], client["parent_id"]) == (
        "gateway",
        "client",
        gateway["span_id"],
    )
    assert (server["service"], server["kind"], server["parent_id"]) == ("apart", "server", client["span_id"])
    assert (
        server["attributes"].items()
        >= {
            "http.request.method": "GET",
            "http.route": "/hi",
            "url.path": "/hi",
            "http.response.status_code": 200,
            "service.instance.id": "apart-1",
        }.items()
    )
    lines = own.msctl.ok("traces", TRACE).splitlines()
    assert [line.split("━")[0].rstrip() for line in lines[1:]] == [
        "gateway: GET /hi",
        "  gateway: GET to apart-1",
        "    apart: GET /hi",
    ]


def test_a_program_that_speaks_otlp_is_told_where_its_spans_go(own: Course) -> None:
    own.msctl.ok("up", "-d")
    told = json.loads(request(own.url("/any"), headers=HEADERS).body)
    assert told["OTEL_SERVICE_NAME"] == "any"
    assert told["OTEL_RESOURCE_ATTRIBUTES"] == "service.namespace=shop,service.instance.id=any-1"
    _, client, server = spans(own, 3)
    assert (server["service"], server["parent_id"]) == ("any", client["span_id"])
    assert server["attributes"]["service.instance.id"] == "any-1"


def test_nobody_posts_spans_without_the_token(own: Course) -> None:
    own.msctl.ok("up", "-d")
    endpoint = json.loads(request(own.url("/any")).body)["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]
    headers = {"Content-Type": "application/json"}
    assert request(endpoint, method="POST", body=b"{}", headers=headers).status == 401


def test_a_collector_gets_each_span_once_also_those_of_the_last_moment(own: Course) -> None:
    with collector() as (url, got):
        own.msctl.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        own.msctl.ok("up", "-d")
        request(own.url("/hi"), headers=HEADERS)
        request(own.url("/any"), headers=HEADERS)
        own.msctl.ok("down")
        assert Counter(span["name"] for span in got if span["traceId"] == TRACE) == {
            "GET /hi": 2,
            "GET": 2,
            "GET /any": 2,
        }
        assert max(Counter(span["spanId"] for span in got).values()) == 1


def test_a_service_that_says_where_its_spans_go_is_left_alone(own: Course) -> None:
    with collector() as (url, got):
        (own.msctl.folder / "msctl.toml").write_text(
            f'{PROJECT}env = {{ OTEL_EXPORTER_OTLP_ENDPOINT = "{url}" }}\n'
        )
        own.msctl.ok("up", "-d")
        assert json.loads(request(own.url("/any")).body) == {"OTEL_EXPORTER_OTLP_ENDPOINT": url}
        own.msctl.ok("down")
        assert got == []


def test_a_reload_that_adds_the_first_process_has_its_spans_too(own: Course) -> None:
    project = own.msctl.folder / "msctl.toml"
    project.write_text(PROJECT.partition("[services.any]")[0].replace('isolation = "process"\n', ""))
    own.msctl.ok("up", "-d")
    project.write_text(PROJECT)
    own.msctl.ok("reload")
    request(own.url("/any"), headers=HEADERS)
    assert {span["service"] for span in spans(own, 3)} == {"gateway", "any"}
