"""The exported compose file, run: every service a host of its own, a real RabbitMQ and a real Prometheus."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

import msctl
from msctl.export.monitoring import grafana, prometheus
from tests.support import netns, rabbitmq, tools
from tests.support.compose import ComposeRun, MissingVariableError
from tests.support.http import Answer, request
from tests.support.waiting import eventually

PASSWORD = "p/w+x#y=@z"
HOSTILE = 'it\'s "quoted" $HOME ${NOT_SET} `id` \\ a#b\nsecond line'
TOML = """
[services.hello]
app = "msctl.services.hello:create_app"
port = 8080
routes = ["/hello"]
[services.users]
app = "msctl.services.users:create_app"
port = 8081
routes = ["/users"]
[services.producer]
app = "msctl.services.producer:create_app"
routes = ["/messages"]
[services.consumer]
app = "msctl.services.consumer:create_app"
autostart = false
[services.people]
command = "node users.mjs"
routes = [{ path = "/people", rewrite = "/users" }]
health = "/healthz"
[services.echo]
command = "python3 echo.py ${HOSTILE_WORD}"
routes = [{ path = "/echo", request_headers = { set = { X-Key = "${HEADER_KEY}" } } }]
depends_on = ["users"]
[services.echo.env]
FROM_DOTENV = "${HOSTILE}"
MARKED = { value = "marked-secret", secret = true }
DEFAULTED = "${NOT_SET:-fallback}"
[broker]
url = "amqp://localhost:5672/"
username = "shop"
password = "${BROKER_PASSWORD}"
"""
ECHO = """
import http.server, json, os, sys

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = {"env": dict(os.environ), "argv": sys.argv[1:], "headers": dict(self.headers)}
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""
GIVEN = {
    "BROKER_PASSWORD": PASSWORD,
    "HOSTILE": HOSTILE,
    "HOSTILE_WORD": "a-$b-#c",
    "HEADER_KEY": "header-secret",
    "SHARED": "from .env",
}


def exported(folder: Path) -> None:
    """Write the project and its compose file, as a user does."""
    folder.mkdir()
    (folder / "msctl.toml").write_text(TOML)
    (folder / "echo.py").write_text(ECHO)
    (folder / ".env").write_text("SHARED='from .env'\n")
    shutil.copy(Path(msctl.__path__[0]) / "config/examples/shop/users.mjs", folder)
    done = subprocess.run(
        [sys.executable, "-m", "msctl", "export", "compose", "--monitoring"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("MSCTL_")} | GIVEN,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    written = "".join(
        file.read_text() for file in folder.rglob("*") if file.suffix in (".yaml", ".toml", ".payments")
    )
    for secret in (PASSWORD, "header-secret", "second line", "a-$b-#c"):
        assert secret not in written.replace(TOML, ""), secret


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeRun]:
    netns.require()
    rabbitmq.require_binary()
    for program in ("prometheus", "node", "setpriv"):
        tools.require(program)
    work = tmp_path_factory.mktemp("compose")
    exported(work / "app")
    env = GIVEN | {"MARKED": "marked-secret", "BROKER_PASSWORD_QUOTED": quote(PASSWORD, safe="")}
    run = ComposeRun(work / "app", env, work)
    try:
        up(run)
        yield run
    finally:
        run.close()


def ask(run: ComposeRun, path: str, *, host: str = "gateway:8080", **more: Any) -> Answer:
    """Ask a host by the name that the file gives it."""
    name, _, port = host.partition(":")
    with run.network.entered():
        return request(f"http://{run.network.address(name)}:{port}{path}", headers={"Host": host}, **more)


def up(run: ComposeRun) -> None:
    """Start the system, and wait for the services that have no health check."""
    run.up()
    eventually(lambda: {ask(run, path).status for path in ("/people", "/echo")} == {200})


def answers(run: ComposeRun) -> None:
    """The requests of the course, and a message to a queue of the real RabbitMQ."""
    assert ask(run, "/hello").body == b"Hello, World!"
    assert ask(run, "/users").body == b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'
    assert json.loads(ask(run, "/people").body)[0]["name"] == "Alice"
    eventually(lambda: ask(run, "/messages", method="POST", body=b"over RabbitMQ").status == 202)


def query(run: ComposeRun, expression: str) -> list[dict[str, Any]]:
    with suppress(OSError):
        answer = ask(run, f"/api/v1/query?{urlencode({'query': expression})}", host="prometheus:9090")
        if answer.status == 200:
            found: list[dict[str, Any]] = json.loads(answer.body)["data"]["result"]
            return found
    return []


def test_requests_and_messages_cross_the_hosts(system: ComposeRun) -> None:
    answers(system)
    system.start("consumer")
    eventually(lambda: "Received a message: over RabbitMQ" in system.containers["consumer"].output())


def test_a_command_has_every_variable_whatever_is_in_it(system: ComposeRun) -> None:
    found = json.loads(ask(system, "/echo").body)
    env = found["env"]
    assert env["FROM_DOTENV"] == HOSTILE
    assert env["MARKED"] == "marked-secret"
    assert env["DEFAULTED"] == "fallback"
    assert env["SHARED"] == "from .env"
    assert env["AMQP_URL"] == f"amqp://shop:{quote(PASSWORD, safe='')}@rabbitmq:5672/"
    assert (env["USERS_URL"], env["USERS_HOST"], env["USERS_PORT"]) == ("http://users:8081", "users", "8081")
    assert found["argv"] == ["a-$b-#c"]
    assert found["headers"]["X-Key"] == "header-secret"


def test_every_alert_and_panel_has_a_series_and_every_target_is_up(system: ComposeRun) -> None:
    answers(system)
    ask(system, "/nowhere")
    system.start("consumer")
    expressions = [expression for _, expression in prometheus.rules(is_exported=True)]
    expressions += [text for _, text in grafana.queries()]
    names = {
        name
        for text in expressions
        for name in re.findall(r"\b(?:msctl|http|process|rabbitmq|messaging)_\w+", text)
    }
    names -= {"http_response_status_code"} | {n for n in names if n.startswith("messaging_destination")}
    embedded = {"msctl_broker_queue_messages_ready", "msctl_broker_queue_consumers"}  # `or` those of RabbitMQ
    assert {"rabbitmq_queue_messages_ready", "msctl_gateway_breaker_state"} <= names
    missing = names - embedded

    def all_there() -> bool:
        answers(system)
        missing.difference_update({name for name in missing if query(system, name)})
        return not missing

    with suppress(TimeoutError):
        eventually(all_there)
    assert not missing
    eventually(lambda: {one["metric"]["job"] for one in query(system, "up == 0")} <= {"consumer"})
    eventually(lambda: not query(system, "msctl_broker_up == 0"))  # one late answer is no alert: it is for 1m


def test_the_metrics_of_the_gateway_are_not_at_its_public_port(system: ComposeRun) -> None:
    assert ask(system, "/metrics").status == 404
    assert b"http_server_request_duration_seconds" in ask(system, "/metrics", host="gateway:9464").body


def test_a_container_has_neither_a_writable_root_nor_capabilities(system: ComposeRun) -> None:
    process = system.containers["users"].process
    assert process is not None
    status = Path(f"/proc/{process.pid}/status").read_text()
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Uid:\t10001"):
        assert line in status
    mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
    (root,) = [line for line in mounts if line.split()[4] == "/"]
    assert root.split()[5].startswith("ro")


def test_a_second_start_works_and_no_log_has_the_password(system: ComposeRun) -> None:
    system.down()
    up(system)
    answers(system)
    logs = system.logs()
    for secret in (PASSWORD, quote(PASSWORD, safe=""), "header-secret", "marked-secret"):
        assert secret not in logs
    assert "Traceback" not in logs


def test_a_missing_secret_is_named_before_anything_starts(tmp_path: Path) -> None:
    netns.require()
    exported(tmp_path / "app")
    with pytest.raises(MissingVariableError, match="BROKER_PASSWORD"):
        ComposeRun(tmp_path / "app", GIVEN | {"BROKER_PASSWORD": "", "MARKED": "x"}, tmp_path)
