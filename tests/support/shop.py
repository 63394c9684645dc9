"""A real stack with a dashboard on a port of its own, and a real browser."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support.browser import Browser, running_browser
from tests.support.cli import Msctl
from tests.support.ports import reserved_port

BROKEN = """
import os, socket
with socket.create_server(("127.0.0.1", int(os.environ["PORT"]))) as server:
    while True:
        server.accept()[0].close()
"""
"""A service that accepts every connection and answers none."""

PROJECT = """
[project]
name = "shop"

[services.hello]
app = "msctl.services.hello:create_app"
routes = ["/hello"]

[services.users]
app = "msctl.services.users:create_app"
port = {users}
routes = [{{ path = "/users", rate_limit = {{ requests = 1000000 }} }}]
depends_on = ["hello"]

[services.producer]
app = "msctl.services.producer:create_app"
routes = ["/messages"]

[services.consumer]
app = "msctl.services.consumer:create_app"
autostart = false

[services.worker]
command = "sleep 100000"
restart = "no"

[services.broken]
command = {broken}
routes = ["/broken"]

[gateway]
port = {gateway}

[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{broker}/"
"""


@dataclass(frozen=True)
class Shop:
    """A running project: its command line, and where it answers."""

    msctl: Msctl
    gateway: str
    users: str
    page: str


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(reserved_port()) for name in ("users", "gateway", "broker", "dashboard")
        }
        (folder / "msctl.toml").write_text(
            PROJECT.format(**ports, broken=json.dumps([sys.executable, "-c", BROKEN]))
        )
        env = {"MSCTL_DASHBOARD_PORT": str(ports["dashboard"])}
        msctl = Msctl(folder, tmp_path_factory.mktemp("run"), env)
        url = "http://127.0.0.1:{}".format
        try:
            msctl.ok("up", "-d")
            yield Shop(
                msctl, url(ports["gateway"]), url(ports["users"]), f"http://localhost:{ports['dashboard']}/"
            )
        finally:
            msctl.run("down", "--timeout", "10s")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as browser:
        yield browser
