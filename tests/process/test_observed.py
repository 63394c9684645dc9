"""Traces, rates and logs of a stack through the real command line."""

from __future__ import annotations

import json
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.cli import Msctl
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.support.shop import Shop
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
BLOCKING = """
import time
from aiohttp import web

async def slow(_request):
    time.sleep(0.6)
    return web.Response(text="late")

async def fast(_request):
    import logging
    logging.getLogger("shop").warning("paid", extra={"order": 7})
    return web.Response(text="ok")

def create_app():
    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/fast", fast)
    return app
"""


def test_a_trace_spans_gateway_service_queue_and_consumer(shop: Shop) -> None:
    shop.msctl.ok("start", "consumer")
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
    assert request(shop.gateway + "/messages", method="POST", body=b"hi", headers=headers).status == 202

    def services() -> set[str]:
        document = json.loads(shop.msctl.ok("traces", TRACE[:12], "--json"))["data"]
        return {span["service"] for span in document["spans"]}

    eventually(lambda: "consumer" in services())
    assert services() == {"gateway", "producer", "consumer"}
    lines = shop.msctl.ok("traces", TRACE).splitlines()
    assert lines[0].startswith(f"trace {TRACE}")
    assert [line.split("━")[0].strip() for line in lines[1:]] == [
        "gateway: POST /messages",
        "producer: POST /messages",
        "producer: publish hello",
        "consumer: process hello",
    ]
    log = [json.loads(line)["data"] for line in shop.msctl.ok("logs", "consumer", "--json").splitlines()]
    assert [line["text"] for line in log if line["trace"] == TRACE] == ["Received a message: hi"]


def test_traces_are_listed_and_filtered(shop: Shop) -> None:
    request(shop.gateway + "/hello")
    request(shop.gateway + "/broken")
    assert "GET /hello" in shop.msctl.ok("traces")
    failed = json.loads(shop.msctl.ok("traces", "--errors", "--json"))["data"]
    assert failed
    assert all(trace["error"] for trace in failed)
    only = json.loads(shop.msctl.ok("traces", "--service", "hello", "--json", "-n", "1"))["data"]
    assert [trace["services"] for trace in only] == [["gateway", "hello"]]
    assert shop.msctl.run("traces", "--slower-than", "10m").stdout == ""
    unknown = shop.msctl.run("traces", "feedfeed")
    assert unknown.returncode == 2
    assert "trace 'feedfeed' not found" in unknown.stderr
    assert shop.msctl.run("traces", "-n", "0").returncode == 2


def test_status_shows_the_dashboard_and_the_rates(shop: Shop) -> None:
    for _ in range(5):
        request(shop.gateway + "/hello")
    document = shop.msctl.status()
    assert document["dashboard"].rstrip("/").endswith(shop.page.rstrip("/").rpartition(":")[2])
    (hello,) = [service for service in document["services"] if service["name"] == "hello"]
    assert hello["p95_s"] > 0
    assert sum(hello["recent"]) <= 1000


@pytest.fixture
def project(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Msctl:
    (tmp_path / "shop.py").write_text(BLOCKING)
    return Msctl(tmp_path, tmp_path_factory.mktemp("run"), {})


def test_a_blocking_handler_is_reported_and_lines_are_json(project: Msctl) -> None:
    with ExitStack() as stack:
        port, gateway = (stack.enter_context(reserved_port()) for _ in range(2))
        (project.folder / "msctl.toml").write_text(
            f'[services.orders]\napp = "shop:create_app"\nport = {port}\n'
            f'[gateway]\nport = {gateway}\n[dashboard]\nenabled = false\n[broker]\nmode = "external"\n'
        )
        with project.process("up", "--log-format", "json") as up:
            up.line("stderr", "ready")
            while True:
                try:
                    assert request(f"http://127.0.0.1:{port}/fast").status == 200
                    break
                except OSError:
                    continue
            paid = json.loads(up.line("stdout", '"paid"'))
            assert (paid["service"], paid["level"], paid["fields"]) == ("orders", "warning", {"order": 7})
            assert len(paid["trace_id"]) == 32
            assert request(f"http://127.0.0.1:{port}/slow").body == b"late"
            blocked = json.loads(up.line("stdout", "shop.py:6 in slow: time.sleep(0.6)"))
            assert blocked["service"] == "orders"
            assert "blocked the event loop" in blocked["message"]
            up.signal(signal.SIGINT)
            assert up.wait() == 0


def test_a_dashboard_with_a_taken_port_does_not_stop_the_stack(project: Msctl) -> None:
    with ExitStack() as stack:
        port, gateway = (stack.enter_context(reserved_port()) for _ in range(2))
        taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
        (project.folder / "msctl.toml").write_text(
            f'[services.orders]\napp = "shop:create_app"\nport = {port}\n[gateway]\nport = {gateway}\n'
            '[broker]\nmode = "external"\n'
        )
        project.env["MSCTL_DASHBOARD_PORT"] = str(taken)
        project.ok("up", "-d")
        try:
            assert project.status()["dashboard"] is None
            assert "the dashboard cannot listen" in project.ok("logs", "msctl")
        finally:
            project.ok("down")


@pytest.mark.parametrize("variable", ["MSCTL_ORDERS_PORT", "MSCTL_GATEWAY_PORT"])
def test_a_service_on_the_dashboards_port_is_a_configuration_error(project: Msctl, variable: str) -> None:
    (project.folder / "msctl.toml").write_text('[services.orders]\napp = "shop:create_app"\nport = 0\n')
    done = project.run("up", "-d", env={variable: "8090", "MSCTL_DASHBOARD_PORT": "8090"})
    assert done.returncode == 2
    assert "port 8090 is already used by the dashboard" in done.stderr


def test_a_dashboard_on_all_interfaces_needs_a_password(project: Msctl) -> None:
    (project.folder / "msctl.toml").write_text('[services.orders]\napp = "shop:create_app"\nport = 0\n')
    done = project.run("up", "-d", env={"MSCTL_DASHBOARD_HOST": "0.0.0.0", "MSCTL_GATEWAY_PORT": "0"})
    assert done.returncode == 2
    assert "without a password" in done.stderr
    assert "MSCTL_DASHBOARD_PASSWORD" in done.stderr
