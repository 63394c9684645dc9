"""A stack that starts exists: other verbs find it, a second `up` joins it."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from msctl.cli.launch.claim import Claim
from msctl.control.paths import StackPaths, running_stacks
from tests.support.cli import Process
from tests.support.course import Course
from tests.support.waiting import eventually

GATED = """
[services.gated]
command = "sh -c 'cat gate; exec sleep 600'"
ready_log = "open"
[gateway]
enabled = false
"""
SLEEPER = '[services.one]\ncommand = "sleep 600"\n[gateway]\nenabled = false\n'
BROKEN = '[services.broken]\napp = "nowhere:app"\n[gateway]\nenabled = false\n'


@pytest.fixture
def own(course: Course) -> Course:
    """The course's fixture for a test that writes a msctl.toml of its own."""
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def write(course: Course, text: str) -> None:
    (course.msctl.folder / "msctl.toml").write_text(text)


@contextmanager
def starting(course: Course) -> Iterator[Process]:
    """`up` of a stack that does not become ready before its gate opens."""
    os.mkfifo(course.msctl.folder / "gate")
    write(course, GATED)
    with course.msctl.process("up", "-d") as up:
        eventually(lambda: running_stacks(course.msctl.env))
        with course.msctl.process("events", "--json") as events:
            events.line("stdout", '"starting"')
        yield up


def open_gate(course: Course) -> None:
    (course.msctl.folder / "gate").write_text("open\n")


def test_the_verbs_find_a_stack_that_starts(own: Course) -> None:
    with starting(own) as up:
        assert own.msctl.states()["gated"] in ("starting", "running")
        assert own.msctl.run("wait", "gated", "--timeout", "1ms").returncode == 124
        assert own.msctl.run("logs").returncode == 0
        with own.msctl.process("wait", "gated") as waiting:
            open_gate(own)
            assert waiting.wait() == 0
        assert up.wait() == 0


def test_down_during_a_start_stops_the_stack_and_everyone_who_waits_for_it(own: Course) -> None:
    with starting(own) as up, own.msctl.process("up", "-d") as second:
        second.line(
            "stderr", "gated is running"
        )  # it has joined the first, and does not begin a stack of its own
        own.msctl.ok("down")
        assert up.wait() == 1
        assert second.wait() == 1
    assert own.msctl.run("status").returncode == 3


def test_a_stack_answers_from_the_moment_it_holds_its_lock(own: Course) -> None:
    write(own, BROKEN)
    with own.msctl.process("up", "-d") as up:
        up.wait()
    (folder,) = (path for path in own.msctl.runtime.iterdir() if path.name.startswith("anywhere"))
    claim = Claim.take(StackPaths(folder))
    assert claim is not None
    with own.msctl.process("status") as status:
        connection, _ = claim.listening.accept()
        with connection:
            assert connection.recv(100).startswith(b"GET /v1/snapshot")
        claim.close()
        assert status.wait() == 3


def test_ten_ups_at_once_are_one_stack(course: Course) -> None:
    with ExitStack() as stack:
        ups = [stack.enter_context(course.msctl.process("up", "-d")) for _ in range(10)]
        assert [up.wait() for up in ups] == [0] * 10
    assert course.msctl.states()["hello"] == "ready"


def test_a_failed_start_fails_every_up_with_its_reason(own: Course) -> None:
    write(own, BROKEN)
    with ExitStack() as stack:
        ups = [stack.enter_context(own.msctl.process("up", "-d")) for _ in range(4)]
        for up in ups:
            _, problems = up.child.communicate()
            assert up.child.returncode == 1
            assert b"nowhere" in problems
    assert own.msctl.run("status").returncode == 3


def test_up_while_up_applies_an_edited_project(own: Course) -> None:
    sleeper = '[services.{}]\ncommand = "sleep 600"\n'
    alone = "[gateway]\nenabled = false\n"
    write(own, sleeper.format("one") + alone)
    own.msctl.ok("up", "-d")
    pid = own.msctl.status()["pid"]
    write(own, sleeper.format("one") + sleeper.format("two") + alone)
    again = own.msctl.run("up", "-d")
    assert again.returncode == 0
    assert "added two" in again.stderr
    assert set(own.msctl.states()) == {"one", "two"}
    own.msctl.ok("stop", "one")
    assert "started one" in own.msctl.run("up").stderr
    assert "nothing has changed" in own.msctl.run("up").stderr
    assert own.msctl.status()["pid"] == pid


@pytest.mark.parametrize("edit", ["[services.one]\ncommand = 7\n", '[broker]\nmode = "embedded"\n'])
def test_up_with_an_edit_that_cannot_be_applied_leaves_the_stack_as_it_was(own: Course, edit: str) -> None:
    del own.msctl.env["MSCTL_BROKER_MODE"]
    text = '[services.one]\ncommand = "sleep 600"\n[gateway]\nenabled = false\n[broker]\nmode = "external"\n'
    write(own, text)
    own.msctl.ok("up", "-d")
    before = own.msctl.status()["services"][0]["pid"]
    write(own, edit if "[services" in edit else re.sub(r"\[broker\][^[]*", edit, text))
    refused = own.msctl.run("up")
    assert refused.returncode == 2
    write(own, text)
    assert own.msctl.status()["services"][0]["pid"] == before
    assert json.loads(own.msctl.ok("ls", "--json"))["data"][0]["project"] == "anywhere"


def test_a_stack_is_found_by_its_name_from_any_folder(own: Course, tmp_path: Path) -> None:
    shops = [tmp_path / "a" / "订单", tmp_path / "b" / "订单"]
    for folder in shops:
        folder.mkdir(parents=True)
        (folder / "msctl.toml").write_text(
            '[services.one]\ncommand = "sleep 600"\n[gateway]\nenabled = false\n'
        )
    own.msctl.ok("--file", str(shops[0]), "up", "-d")
    try:
        assert own.msctl.ok("ls", "-q") == "订单\n"
        status = json.loads(own.msctl.ok("--project", "订单", "status", "--json"))["data"]
        assert status["root"] == str(shops[0])
        own.msctl.ok("--file", str(shops[1]), "up", "-d")
        refused = own.msctl.run("--project", "订单", "down")
        assert refused.returncode == 2
        assert all(str(folder) in refused.stderr for folder in shops)
    finally:
        for folder in shops:
            own.msctl.ok("--file", str(folder), "down")
    assert own.msctl.run("--project", "订单", "status").returncode == 3


def test_a_port_clash_names_the_project_that_holds_the_port(course: Course, tmp_path: Path) -> None:
    course.msctl.ok("up", "-d", "hello")
    other = tmp_path / "other"
    other.mkdir()
    (other / "msctl.toml").write_text("")
    clash = course.msctl.run("--file", str(other), "up", "-d")
    assert clash.returncode == 5
    assert f"port {course.gateway} is already used by project 'course'" in clash.stderr
    assert "msctl --project course down" in clash.stderr


def test_send_waits_for_the_broker_of_a_stack_that_starts(course: Course) -> None:
    course.msctl.env["MSCTL_BROKER_MODE"] = "embedded"
    with course.msctl.process("up", "-d") as up:
        eventually(lambda: running_stacks(course.msctl.env))
        course.msctl.ok("send", "early")
        assert up.wait() == 0
    assert course.msctl.ok("consume", "-n", "1") == "Received a message: early\n"


def test_a_failed_start_shows_the_output_of_the_last_try_alone(own: Course) -> None:
    command = "sh -c 'echo once more >> tries; wc -l < tries; exit 1'"
    write(
        own,
        f'[services.broken]\ncommand = "{command}"\noneshot = true\nmax_restarts = 2\n'
        "[gateway]\nenabled = false\n",
    )
    done = own.msctl.run("up", "-d")
    assert done.returncode == 1
    report = done.stderr.partition("broken is fatal")[2]
    assert [line.strip() for line in report.splitlines() if line.strip().isdigit()] == ["3"]


def test_a_stack_that_is_killed_while_it_starts_is_said_so(own: Course) -> None:
    with starting(own) as up:
        [stack] = running_stacks(own.msctl.env)
        os.kill(int(json.loads(stack.record.read_text())["pid"]), signal.SIGKILL)
        assert "the stack ended while it started: killed by SIGKILL" in up.line("stderr", "error:")
        assert up.wait() == 1


UNENDING = """
import asyncio, threading
from aiohttp import web

async def task():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass

async def start(app):
    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
    app["task"] = asyncio.create_task(task())

app = web.Application()
app.on_startup.append(start)
"""


def test_what_an_application_never_ends_keeps_neither_the_error_nor_its_code(own: Course) -> None:
    (own.msctl.folder / "unending.py").write_text(UNENDING)
    write(
        own,
        '[services.unending]\napp = "unending:app"\n[services.broken]\ncommand = "false"\nrestart = "no"\n'
        'depends_on = ["unending"]\n[gateway]\nenabled = false\n',
    )
    done = own.msctl.run("up", "--abort-on-failure")
    assert done.returncode == 1
    assert "error: a service did not start" in done.stderr
