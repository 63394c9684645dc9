"""Regular expressions that take hours stop neither the stack nor its other services."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.support.course import Course
from tests.support.http import request

EVIL = r"(a+)+$"


def write_project(course: Course, ready_log: str) -> Path:
    path = course.msctl.folder / "msctl.toml"
    path.write_text(
        f"""
[services.hello]
app = "msctl.services.hello:create_app"
routes = ["/hello"]

[services.noisy]
command = ['python3', '-c', 'import time; print("a" * 60 + "!", flush=True); time.sleep(1000)']
ready_log = '{ready_log}'
start_timeout = "100s"
restart = "no"

[gateway]
port = {course.gateway}

[broker]
mode = "embedded"
url = "amqp://guest:guest@127.0.0.1:{course.broker}/"
"""
    )
    return path


def test_a_grep_that_takes_hours_does_not_stop_the_stack(course: Course) -> None:
    write_project(course, "!")
    course.msctl.ok("up", "-d")
    with course.msctl.process("logs", "noisy", "--grep", EVIL) as grep:
        # The stack answers while the client searches.
        for _ in range(3):
            assert request(course.url("/hello")).status == 200
            assert course.msctl.states()["hello"] == "ready"
        grep.signal(signal.SIGINT)
        assert grep.wait() in (0, 130)


def test_grep_finds_the_last_matching_lines(course: Course) -> None:
    write_project(course, "!")
    course.msctl.ok("up", "-d")
    found = course.msctl.ok("logs", "noisy", "--grep", "a{60}", "-n", "1").splitlines()
    assert len(found) == 1
    assert found[0].endswith("a!")


def test_a_ready_log_that_takes_hours_does_not_stop_the_other_services(course: Course) -> None:
    write_project(course, EVIL)
    failed = course.msctl.run("up", "-d")
    assert failed.returncode == 1
    assert "noisy is fatal: ready_log took more than 1 s for one line" in failed.stdout + failed.stderr
