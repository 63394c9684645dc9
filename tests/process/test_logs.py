"""What services print, while the stack runs and after it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.course import Course
from tests.support.http import request
from tests.support.waiting import eventually

APP = """
import sys, warnings
from aiohttp import web

async def talk(request):
    print("printed by the handler")
    print("complained by the handler", file=sys.stderr)
    warnings.warn("warned by the handler")
    breakpoint()
    return web.Response(text="talked")

def create_app():
    app = web.Application()
    app.router.add_get("/talk", talk)
    return app
"""
FLOOD = "for n in range(200000): print('x' * 10, n)"
FAILING = """
import json, logging, sys
print(json.dumps({"level": "error", "message": "no money", "trace_id": "ab" * 16, "order": {"id": 7}}))
logging.basicConfig()
try:
    1 / 0
except ZeroDivisionError:
    logging.exception("cannot divide")
import time; time.sleep(1000)
"""
LONG = "for n in range(5000): print('number', n)\nprint('the end'); import time; time.sleep(1000)"
BOTH = "import sys, time; print('to stdout'); print('to stderr', file=sys.stderr); time.sleep(1000)"


@pytest.fixture
def chatty(course: Course) -> Course:
    folder = course.msctl.folder
    (folder / "talker.py").write_text(APP)
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "chatty"
[services.talker]
app = "talker:create_app"
routes = ["/talk"]
[services.both]
command = ["python3", "-uc", {json.dumps(BOTH)}]
replicas = 2
ready_log = "to stdout"
[services.failing]
command = ["python3", "-uc", {json.dumps(FAILING)}]
autostart = false
[services.long]
command = ["python3", "-uc", {json.dumps(LONG)}]
autostart = false
[services.flood]
command = ["python3", "-uc", {json.dumps(FLOOD)}]
oneshot = true
autostart = false
[gateway]
port = {course.gateway}
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT", "PYTHONWARNINGS"):
        del course.msctl.env[name]
    return course


def records(course: Course, *args: str) -> list[dict[str, object]]:
    return [json.loads(line)["data"] for line in course.msctl.ok("logs", "--json", *args).splitlines()]


def test_a_hosted_handler_prints_warns_and_meets_a_breakpoint(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "talker", "gateway")
    assert request(chatty.url("/talk")).status == 200
    found = {str(line["text"]): line for line in records(chatty, "talker")}
    assert found["printed by the handler"]["stream"] == "stdout"
    assert found["complained by the handler"]["stream"] == "stderr"
    assert any("warned by the handler" in text for text in found)
    assert any("breakpoint() at" in text and "talker.py:9" in text for text in found)


def test_streams_and_instances_are_told_apart(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "both")
    eventually(lambda: len(records(chatty, "both")) == 4)
    lines = records(chatty, "both", "--stream", "stderr")
    assert {(line["text"], line["instance"]) for line in lines} == {
        ("to stderr", "both-1"),
        ("to stderr", "both-2"),
    }
    shown = chatty.msctl.ok("logs", "both", "-t").splitlines()
    # The first line is shown by service: only the next shows that there are several instances.
    assert {line.split()[1] for line in shown[1:]} & {"both-1", "both-2"}
    assert all(line[:4].isdigit() and "T" in line.split()[0] for line in shown)


def check_failing(course: Course) -> None:
    by_text = {
        str(line["text"]).partition("\n")[0]: line for line in records(course, "failing", "--level", "error")
    }
    assert by_text["no money"]["trace"] == "ab" * 16
    assert by_text["no money"]["fields"] == {"order.id": 7}
    failed = by_text["ERROR:root:cannot divide"]
    assert (failed["level"], failed["stream"]) == ("error", "stderr")
    assert str(failed["text"]).endswith("ZeroDivisionError: division by zero")


def test_what_a_program_logs_is_read_while_it_runs_and_after_down(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "failing")
    eventually(lambda: "division by zero" in chatty.msctl.ok("logs", "failing"))
    check_failing(chatty)
    chatty.msctl.ok("down")
    check_failing(chatty)


def test_logs_are_there_after_down(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "both")
    eventually(lambda: len(records(chatty, "both")) == 4)
    chatty.msctl.ok("down")
    done = chatty.msctl.run("logs", "both", "-n", "4")
    assert done.returncode == 0
    assert "last run" in done.stderr
    assert done.stdout.count("to stdout") + done.stdout.count("to stderr") == 4
    assert chatty.msctl.run("logs", "nobody").returncode == 4


def test_without_any_run_logs_says_that_nothing_runs(chatty: Course) -> None:
    assert chatty.msctl.run("logs").returncode == 3


def test_a_flood_is_kept_whole_in_the_file_and_its_end_in_the_log(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "flood", "talker", "gateway")
    chatty.msctl.ok("wait", "flood", "--for", "stopped")
    shown = [str(line["text"]) for line in records(chatty, "flood", "-n", "1000")]
    assert shown == [f"xxxxxxxxxx {n}" for n in range(199_000, 200_000)]
    chatty.msctl.ok("down")
    files = list(Path(chatty.msctl.env["MSCTL_STATE_DIR"]).rglob("flood.log*"))
    assert sum(file.read_bytes().count(b"xxxxxxxxxx") for file in files) == 200_000


def test_a_running_stack_shows_what_only_its_files_still_have(chatty: Course) -> None:
    chatty.msctl.ok("up", "-d", "long")
    eventually(lambda: "the end" in chatty.msctl.ok("logs", "long", "-n", "1"))
    texts = [str(line["text"]) for line in records(chatty, "long")]
    assert texts == [*(f"number {n}" for n in range(5000)), "the end"]
    assert [line["text"] for line in records(chatty, "long", "-n", "4000")] == texts[-4000:]
    assert [line["text"] for line in records(chatty, "long", "--grep", "number 1$")] == ["number 1"]
    assert [line["text"] for line in records(chatty, "long", "-n", "2")] == ["number 4999", "the end"]
