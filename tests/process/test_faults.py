"""`msctl fault` on the running stack, as clients in three languages see it."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import pytest

from msctl.faults.active import ActiveFault
from msctl.faults.parse import fault_from
from tests.support.cli import InProcess
from tests.support.course import Course
from tests.support.http import request
from tests.support.tools import require
from tests.support.waiting import eventually

PROGRAMS = Path(__file__).parent / "faults"
GO_PATH = Path("/usr/share/gocode")
BODY = 48
"""Bytes of the answer of /users."""
WORKER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(204)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def stack(course: Course) -> Course:
    """The course's users and gateway with the embedded broker, and a worker in a process of its own."""
    folder = course.msctl.folder
    (folder / "worker.py").write_text(WORKER)
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "broken"
[services.users]
app = "msctl.services.users:create_app"
port = {course.users}
routes = ["/users"]
[services.worker]
command = "{sys.executable} worker.py"
health = {{ http = "/", interval = "100ms", timeout = "1s", retries = 1 }}
routes = ["/worker"]
[gateway]
port = {course.gateway}
retries = 0
[broker]
management = false
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT", "MSCTL_GATEWAY_PORT"):
        del course.msctl.env[name]
    course.msctl.env["MSCTL_BROKER_MODE"] = "embedded"
    course.msctl.ok("up", "-d")
    # The verbs that follow start nothing, and are far quicker in this process.
    return replace(course, msctl=InProcess(folder, course.msctl.runtime, course.msctl.env))


def faults(course: Course) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(course.msctl.ok("fault", "list", "--json"))["data"]
    return found


# --- requests -------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What a client made of an answer."""

    status: int
    size: int
    complete: bool
    milliseconds: int


class HttpClient:
    """An HTTP client in Go, in node, or in this process."""

    def __init__(self, language: str, folder: Path) -> None:
        self._command: list[str] = []
        if language == "go":
            program = folder / "http_client"
            source = str(PROGRAMS / "http_client.go")
            env = {**os.environ, "GO111MODULE": "off"}
            subprocess.run([require("go"), "build", "-o", program, source], check=True, env=env)
            self._command = [str(program)]
        elif language == "node":
            self._command = [require("node"), str(PROGRAMS / "http_client.mjs")]

    def get(self, url: str) -> Seen:
        if not self._command:
            return _get(url)
        out = subprocess.run([*self._command, url], capture_output=True, text=True, check=True, timeout=60)
        status, size, end, milliseconds = out.stdout.split()
        return Seen(int(status), int(size), end == "complete", int(milliseconds))


def _get(url: str) -> Seen:
    began = time.monotonic()
    status, size, complete = 0, 0, False
    connection = http.client.HTTPConnection("127.0.0.1", int(url.split(":")[2].split("/")[0]), timeout=30)
    try:
        connection.request("GET", "/" + url.split("/", 3)[3])
        response = connection.getresponse()
        status = response.status
        size = len(response.read())
        complete = True
    except http.client.IncompleteRead as error:
        size = len(error.partial)
    except OSError:
        pass
    finally:
        connection.close()
    return Seen(status, size, complete, round((time.monotonic() - began) * 1000))


@pytest.mark.parametrize("language", ["go", "node", "python"])
def test_a_client_sees_exactly_the_fault_and_afterwards_none(
    stack: Course, language: str, tmp_path: Path
) -> None:
    client, fault = HttpClient(language, tmp_path), stack.msctl
    for url in (stack.url("/users"), f"http://127.0.0.1:{stack.users}/users"):
        behind_gateway = url == stack.url("/users")
        fault.ok("fault", "add", "delay", "users", "--delay", "300ms")
        slow = client.get(url)
        assert (slow[:3], slow.milliseconds >= 300) == ((200, BODY, True), True)
        fault.ok("fault", "clear")

        fault.ok("fault", "add", "abort", "users", "--status", "418")
        assert client.get(url)[0] == 418
        fault.ok("fault", "clear")

        fault.ok("fault", "add", "abort", "users", "--reset")
        # The gateway's client has a connection to the gateway, which tells what happened behind it.
        assert client.get(url)[0] == (502 if behind_gateway else 0)
        fault.ok("fault", "clear")

        fault.ok("fault", "add", "truncate-body", "users", "--bytes", "7")
        cut = client.get(url)
        assert (cut.status, cut.complete) == (200, False)
        assert cut.size <= 7
        fault.ok("fault", "clear")

        fault.ok("fault", "add", "bandwidth", "users", "--rate", "100")
        limited = client.get(url)
        assert (limited[:3], limited.milliseconds >= 400) == ((200, BODY, True), True)
        fault.ok("fault", "clear")
        assert client.get(url)[:3] == (200, BODY, True)


def test_a_fault_is_seen_everywhere_until_it_ends_by_itself(stack: Course) -> None:
    msctl = stack.msctl
    msctl.ok("fault", "add", "abort", "/users", "--status", "503", "--header", "x-user: alice")
    assert request(stack.url("/users")).status == 200
    hit = request(stack.url("/users"), headers={"X-User": "alice"})
    assert (hit.status, hit.headers["Msctl-Fault"]) == (503, "f1")
    status = msctl.status()["faults"][0]
    assert (status["kind"], status["target"], status["hits"]) == ("abort", "route /users", 1)
    assert "f1" in msctl.ok("status")
    trace = json.loads(msctl.ok("traces", hit.headers["X-Request-Id"], "--json"))["data"]
    assert {span["attributes"].get("msctl.fault") for span in trace["spans"]} == {"f1"}
    found = json.loads(msctl.ok("traces", "--grep", "msctl.fault=f1", "--json"))["data"]
    assert [one["trace_id"] for one in found] == [hit.headers["X-Request-Id"]]
    metrics = f"{msctl.status()['dashboard'].rstrip('/')}/metrics"
    assert b"msctl_fault_active" in request(metrics).body
    msctl.ok("fault", "clear")
    msctl.ok("fault", "add", "abort", "/users", "--status", "503", "--for", "500ms")
    eventually(lambda: not faults(stack))
    assert request(stack.url("/users"), headers={"X-User": "alice"}).status == 200
    assert b"msctl_fault_active" not in request(metrics).body
    lines = msctl.ok("logs", "msctl")
    assert "fault f1 begins" in lines
    assert "fault f2 begins" in lines
    assert "fault f2 ended" in lines


def test_a_scenario_file_begins_all_its_faults_or_none(stack: Course) -> None:
    file = stack.msctl.folder / "faults.toml"
    file.write_text(
        '[[faults]]\nkind = "abort"\nroute = "/users"\nstatus = 500\n'
        '[[faults]]\nkind = "delay"\nservice = "worker"\ndelay = "10ms"\nfor = "30s"\n'
    )
    added = json.loads(stack.msctl.ok("fault", "add", "--file", "faults.toml", "--json"))["data"]
    assert [one["fault"]["id"] for one in added] == ["f1", "f2"]
    file.write_text(file.read_text() + '[[faults]]\nkind = "abort"\nservice = "nobody"\n')
    refused = stack.msctl.run("fault", "add", "--file", "faults.toml")
    assert (refused.returncode, "nobody" in refused.stderr) == (4, True)
    assert [one["id"] for one in faults(stack)] == ["f1", "f2"]
    assert stack.msctl.run("fault", "add", "--file", "none.toml").returncode == 2
    assert stack.msctl.run("fault", "add", "abort", "--file", "faults.toml").returncode == 2


REFUSED = [
    ("abort /user", 2, "/users"),
    ("abort user", 4, "users"),
    ("delay users --delay 1s --share 101", 2, "--share"),
    ("delay users --delay 1s --for never", 2, "--for"),
    ("nack users2", 6, "users2"),
    ("cut connection:nobody", 6, "nobody"),
    ("kill users", 2, "isolation"),
    ("dealy users", 2, "delay"),
    ("abort users --delay 1s", 2, "delay"),
]


def test_what_cannot_be_broken_is_refused_and_breaks_nothing(stack: Course) -> None:
    for words, code, says in REFUSED:
        refused = stack.msctl.run("fault", "add", *words.split())
        assert (refused.returncode, says in refused.stderr) == (code, True), f"{words}: {refused.stderr}"
        assert "Traceback" not in refused.stderr
    assert faults(stack) == []


def test_reload_ends_faults_and_a_killed_stack_leaves_none(course: Course, stack: Course) -> None:
    msctl = stack.msctl
    msctl.ok("fault", "add", "abort", "users")
    msctl.ok("fault", "add", "pause", "worker")
    msctl.ok("reload")
    assert faults(stack) == []
    assert request(stack.url("/worker")).status == 204
    msctl.ok("fault", "add", "pause", "worker")
    os.kill(msctl.status()["pid"], 9)
    eventually(lambda: msctl.run("status").returncode == 3)
    course.msctl.ok("up", "-d")  # the fixture demands that no process is left in the end
    assert faults(stack) == []
    assert request(stack.url("/worker")).status == 204


# --- processes ------------------------------------------------------------------------------------------


def instance(course: Course) -> dict[str, Any]:
    services = {one["name"]: one for one in course.msctl.status()["services"]}
    found: dict[str, Any] = services["worker"]["instances"][0]
    return found


def test_a_killed_worker_restarts_and_a_failing_probe_makes_it_unhealthy_for_its_time(stack: Course) -> None:
    before = instance(stack)["pid"]
    added = json.loads(stack.msctl.ok("fault", "add", "kill", "worker", "--json"))["data"]
    assert added[0]["done"]
    assert faults(stack) == []
    eventually(lambda: instance(stack)["state"] == "ready" and instance(stack)["pid"] != before)
    assert instance(stack)["restarts"] == 1
    stack.msctl.ok("fault", "add", "failing-probe", "worker-1")
    eventually(lambda: instance(stack)["state"] == "unhealthy")
    stack.msctl.ok("fault", "clear")
    eventually(lambda: instance(stack)["state"] == "ready")


def test_a_paused_worker_times_out_and_goes_on_afterwards(stack: Course) -> None:
    stack.msctl.ok("fault", "add", "pause", "worker")
    eventually(lambda: instance(stack)["state"] == "unhealthy")
    stack.msctl.ok("fault", "clear")
    eventually(lambda: instance(stack)["state"] == "ready")
    assert (request(stack.url("/worker")).status, instance(stack)["restarts"]) == (204, 0)


# --- messages -------------------------------------------------------------------------------------------


@pytest.fixture
def go_amqp(tmp_path: Path) -> Iterator[str]:
    """The Go client, built."""
    if not (GO_PATH / "src/github.com/rabbitmq/amqp091-go").is_dir():
        pytest.skip("the Go client of RabbitMQ is not installed; tests/support/install-tools.sh installs it")
    program = tmp_path / "amqp_client"
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": str(GO_PATH)}
    source = str(PROGRAMS / "amqp_client.go")
    subprocess.run([require("go"), "build", "-o", program, source], env=env, check=True)
    yield str(program)


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program while the block runs, whose output is read by line."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            yield child
        finally:
            child.kill()


def line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().rstrip()


def broker_url(course: Course) -> str:
    return f"amqp://guest:guest@127.0.0.1:{course.broker}/"


COUNT = 200
SEED = 5


def struck(kind: str, share: int) -> set[int]:
    """The tags that a fault with SEED strikes: whoever has the seed knows them beforehand."""
    fault = ActiveFault("f1", fault_from({"kind": kind, "queue": "q", "share": share}), SEED, 60.0)
    return {tag for tag in range(1, COUNT + 1) if fault.strikes()}


def published(course: Course, program: str, *fault: str) -> tuple[set[int], set[int]]:
    """The tags that a Go publisher saw acked and nacked during a fault."""
    course.msctl.ok("send", "--queue", "q", "declare it")
    course.msctl.ok("fault", "add", *fault, "--queue", "q", "--seed", str(SEED))
    command = [program, broker_url(course), "publish", "q", str(COUNT)]
    out = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
    course.msctl.ok("fault", "clear")
    acked, nacked = (
        {int(tag) for tag in text.partition("[")[2].rstrip("]").split()} for text in out.splitlines()
    )
    return acked, nacked


def ready(course: Course) -> int:
    queues = course.msctl.status()["broker"]["queues"]
    return next(int(queue["ready"]) for queue in queues if queue["name"] == "q")


def test_a_go_publisher_hears_of_no_confirm_behind_the_one_that_a_fault_takes(
    stack: Course, go_amqp: str
) -> None:
    acked, nacked = published(stack, go_amqp, "confirm-lost", "--share", "20")
    first = min(struck("confirm-lost", 20))
    assert (acked, nacked) == (set(range(1, first)), set())
    assert ready(stack) == COUNT + 1


def test_a_go_publisher_sees_the_nacks_of_exactly_the_messages_that_are_not_stored(
    stack: Course, go_amqp: str
) -> None:
    acked, nacked = published(stack, go_amqp, "nack", "--share", "20")
    refused = struck("nack", 20)
    assert (acked, nacked) == (set(range(1, COUNT + 1)) - refused, refused)
    assert ready(stack) == COUNT + 1 - len(refused)


def test_aio_pika_misses_exactly_the_confirms_that_a_fault_takes(stack: Course) -> None:
    async def scenario() -> None:
        async with await aio_pika.connect(broker_url(stack)) as connection:
            channel = await connection.channel()
            await channel.declare_queue("q")
            arguments = ("confirm-lost", "--queue", "q", "--share", "20", "--seed", str(SEED))
            await asyncio.to_thread(stack.msctl.ok, "fault", "add", *arguments)
            publish = channel.default_exchange.publish
            sent = [
                asyncio.create_task(publish(aio_pika.Message(b"x"), routing_key="q")) for _ in range(COUNT)
            ]
            while not faults(stack)[0]["hits"]:
                await asyncio.sleep(0.01)
            lost = struck("confirm-lost", 20)
            waiting = [task for tag, task in enumerate(sent, 1) if tag not in lost]
            await asyncio.gather(*waiting)
            assert not any(sent[tag - 1].done() for tag in lost)
            for task in sent:
                task.cancel()
            await asyncio.gather(*sent, return_exceptions=True)

    asyncio.run(asyncio.wait_for(scenario(), 60))


@pytest.mark.parametrize(
    ("words", "end"),
    [
        ("channel-close q", "closed 406"),
        ("consumer-cancel q", "cancelled"),
        ("cut connection:{address}* --frames 1", "lost"),
        ("broker-stop --for 1s", "lost 320"),
    ],
)
def test_a_go_consumer_sees_how_its_consuming_ends(stack: Course, go_amqp: str, words: str, end: str) -> None:
    command = [go_amqp, broker_url(stack), "consume", "q"]
    with running(*command) as child:
        word, address = line(child).split()
        assert word == "consuming"
        stack.msctl.ok("send", "--queue", "q", "hello")
        assert line(child) == "got hello"
        stack.msctl.ok("fault", "add", *words.format(address=address).split())
        if end == "lost":  # by its next frame, which is an acknowledgement
            stack.msctl.ok("send", "--queue", "q", "hello")
            assert line(child) == "got hello"
        assert line(child).startswith(end)
    stack.msctl.ok("fault", "clear")
    eventually(lambda: stack.msctl.run("send", "--queue", "q", "again").returncode == 0)
    with running(*command) as child:
        assert line(child).startswith("consuming")
        assert line(child).startswith("got ")


def test_aio_pika_waits_for_a_late_confirm_and_gets_its_messages_late_and_twice(stack: Course) -> None:
    async def scenario() -> None:
        connection = await aio_pika.connect(broker_url(stack))
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("q", durable=True)

            async def msctl(*words: str) -> None:
                await asyncio.to_thread(stack.msctl.ok, "fault", *words)

            await msctl("add", "confirm-delay", "q", "--delay", "10m")
            waiting = asyncio.create_task(
                channel.default_exchange.publish(aio_pika.Message(b"one"), routing_key="q")
            )
            while not faults(stack)[0]["hits"]:
                await asyncio.sleep(0.01)
            assert not waiting.done()
            await msctl("clear")
            await waiting
            await msctl("add", "duplicate", "q")
            await channel.default_exchange.publish(aio_pika.Message(b"two"), routing_key="q")
            await msctl("clear")
            await msctl("add", "delivery-delay", "q", "--delay", "10m")
            got: asyncio.Queue[bytes] = asyncio.Queue()

            async def keep(message: aio_pika.abc.AbstractIncomingMessage) -> None:
                await message.ack()
                await got.put(message.body)

            await queue.consume(keep)
            while not faults(stack)[0]["hits"]:
                await asyncio.sleep(0.01)
            assert got.empty()
            await msctl("clear")
            assert [await got.get() for _ in range(3)] == [b"one", b"two", b"two"]

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_an_external_broker_is_refused_by_the_name_of_the_fault(course: Course) -> None:
    course.msctl.ok("up", "-d", "users", "gateway")
    refused = course.msctl.run("fault", "add", "confirm-lost", "--queue", "hello")
    assert (refused.returncode, "confirm-lost" in refused.stderr, "external" in refused.stderr) == (
        6,
        True,
        True,
    )


def test_a_stack_that_other_machines_reach_is_broken_only_by_force(course: Course) -> None:
    course.msctl.env["MSCTL_GATEWAY_HOST"] = "0.0.0.0"
    course.msctl.ok("up", "-d", "users", "gateway")
    refused = course.msctl.run("fault", "add", "abort", "users")
    assert (refused.returncode, "--force" in refused.stderr) == (2, True)
    course.msctl.ok("fault", "add", "abort", "users", "--force")
