"""The course's system from the outside: what a reader of the README does, and what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import psutil
import pytest

from msctl.control.paths import is_locked, stack_paths
from msctl.control.record import read_record
from tests.support.course import Course
from tests.support.http import request


def test_up_in_the_background_serves_the_courses_urls(course: Course) -> None:
    started = course.msctl.ok("up", "-d")
    assert f"http://127.0.0.1:{course.users}" in started

    hello = request(course.url("/hello"))
    assert (hello.status, hello.body) == (200, b"Hello, World!")
    assert hello.headers["Content-Type"] == "text/plain; charset=utf-8"
    users = b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'
    assert request(course.url("/users")).body == users
    assert request(f"http://127.0.0.1:{course.users}/users").body == users
    lost = request(course.url("/nowhere"))
    assert (lost.status, lost.headers["Content-Type"]) == (404, "application/problem+json")

    assert course.msctl.states() == {
        "hello": "ready",
        "users": "ready",
        "producer": "ready",
        "consumer": "stopped",
        "gateway": "ready",
    }
    assert "stopped the stack" in course.msctl.ok("down").lower()
    with pytest.raises(OSError):
        request(course.url("/hello"))


def test_up_in_the_foreground_stays_until_ctrl_c_and_ends_with_0(course: Course) -> None:
    with course.msctl.process("up") as up:
        up.line("stderr", "gateway")
        assert request(course.url("/users")).status == 200
        up.signal(signal.SIGINT)
        assert up.wait() == 0
    assert course.msctl.run("status").returncode == 3


def test_ctrl_c_while_it_starts_leaves_nothing(course: Course) -> None:
    paths = stack_paths("course", None, course.msctl.env)
    with course.msctl.process("up") as up:
        while not is_locked(paths):
            assert up.child.poll() is None
        up.signal(signal.SIGINT)
        assert up.wait() in (0, 130)
    assert course.msctl.run("status").returncode == 3


def test_down_twice_is_fine(course: Course) -> None:
    course.msctl.ok("up", "-d")
    course.msctl.ok("down")
    again = course.msctl.run("down")
    assert again.returncode == 0
    assert "no stack is running" in again.stderr.lower()


def test_up_while_up_says_so_and_starts_what_is_missing(course: Course) -> None:
    course.msctl.ok("up", "-d", "users")
    assert course.msctl.states()["hello"] == "stopped"
    again = course.msctl.run("up")
    assert again.returncode == 0
    assert "already running" in again.stderr
    assert course.msctl.states()["hello"] == "ready"


def test_one_chapter_of_the_course_can_run_alone(course: Course) -> None:
    course.msctl.ok("up", "-d", "hello")
    assert request(course.url("/hello")).body == b"Hello, World!"
    assert course.msctl.states()["gateway"] == "stopped"
    assert request(course.url("/users")).status == 404


def test_a_stopped_service_answers_503_while_the_rest_runs_on(running: Course) -> None:
    running.msctl.ok("stop", "users")
    refused = request(running.url("/users"))
    assert refused.status == 503
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "Retry-After" in refused.headers
    assert b"users" in refused.body
    assert request(running.url("/hello")).status == 200
    with pytest.raises(OSError):
        request(f"http://127.0.0.1:{running.users}/users")

    running.msctl.ok("start", "users")
    assert request(running.url("/users")).status == 200
    running.msctl.ok("restart", "u*")
    assert request(f"http://127.0.0.1:{running.users}/users").status == 200


def test_without_the_gateway_its_listener_still_serves_hello(running: Course) -> None:
    running.msctl.ok("stop", "gateway")
    assert request(running.url("/hello")).body == b"Hello, World!"
    assert request(running.url("/users")).status == 404


def test_without_a_broker_http_is_served_and_the_producer_says_what_it_waits_for(running: Course) -> None:
    refused = request(running.url("/messages"), method="POST", body=b"Hello World!")
    assert refused.status == 503
    assert running.msctl.status()["broker"]["state"] == "unhealthy"
    assert str(running.broker) in running.msctl.ok("logs", "producer")


def test_a_stack_that_was_killed_leaves_nothing_in_the_way_of_the_next(course: Course) -> None:
    course.msctl.ok("up", "-d")
    pid = course.msctl.status()["pid"]
    process = psutil.Process(pid)
    os.kill(pid, signal.SIGKILL)
    process.wait(30)
    gone = course.msctl.run("status")
    assert gone.returncode == 3
    assert "msctl up" in gone.stderr
    course.msctl.ok("up", "-d")
    assert course.msctl.status()["pid"] != pid


def test_a_stack_that_does_not_answer_is_killed_by_down(course: Course) -> None:
    course.msctl.ok("up", "-d")
    process = psutil.Process(course.msctl.status()["pid"])
    process.suspend()
    ended = course.msctl.run("down", "--timeout", "0s")
    assert ended.returncode == 0, ended.stderr
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_taken_port_is_named_with_its_holder_before_anything_starts(course: Course) -> None:
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", course.users))
        holder.listen()
        for arguments in (("up", "-d"), ("up",)):
            refused = course.msctl.run(*arguments)
            assert refused.returncode == 5
            assert f"127.0.0.1:{course.users}" in refused.stderr
            assert f"pid {os.getpid()}" in refused.stderr
            assert "Traceback" not in refused.stderr
    assert course.msctl.run("status").returncode == 3


def test_an_unknown_service_is_refused_with_the_nearest_name(course: Course) -> None:
    refused = course.msctl.run("up", "-d", "user")
    assert refused.returncode == 4
    assert "users" in refused.stderr
    course.msctl.ok("up", "-d")
    for verb in ("start", "stop", "restart", "logs"):
        refused = course.msctl.run(verb, "helo")
        assert refused.returncode == 4, verb
        assert "hello" in refused.stderr


@pytest.mark.parametrize("verb", ["status", "stop", "start", "restart", "logs"])
def test_without_a_stack_a_verb_says_so(course: Course, verb: str) -> None:
    refused = course.msctl.run(verb)
    assert refused.returncode == 3
    assert "msctl up" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_status_is_a_table_and_a_versioned_document(running: Course) -> None:
    table = running.msctl.ok("status").splitlines()
    assert any(line.startswith("users ") and "ready" in line for line in table)
    assert "\x1b" not in "".join(table)
    document = json.loads(running.msctl.ok("status", "--json"))
    assert (document["schema"], document["kind"]) == (1, "status")
    assert "guest:guest" not in json.dumps(document)
    assert running.msctl.ok("status", "-q").split() == ["hello", "users", "producer", "consumer", "gateway"]
    assert running.msctl.ok("ps", "-q").split() == running.msctl.ok("status", "-q").split()


def test_logs_are_shown_and_followed_until_ctrl_c(running: Course) -> None:
    assert running.msctl.ok("logs", "-n", "0") == ""
    with running.msctl.process("logs", "-f", "-n", "0", "producer") as logs:
        with running.msctl.process("logs", "-f", "producer") as other:
            other.line("stdout", "producer")
            other.signal(signal.SIGINT)
            assert other.wait() == 0
        running.msctl.ok("restart", "producer")
        logs.line("stdout", "producer")


def test_a_reader_that_has_had_enough_ends_a_verb_quietly(running: Course) -> None:
    with running.msctl.process("logs", "-f") as logs:
        logs.line("stdout", "|")
        assert logs.child.stdout is not None
        logs.child.stdout.close()
        logs.child.stdout = None
        running.msctl.ok("restart")
        assert logs.wait() == 0


def test_an_app_that_does_not_start_takes_nothing_else_down(course: Course) -> None:
    folder = course.msctl.folder
    (folder / "broken.py").write_text("def create_app():\n    raise ValueError('no database')\n")
    (folder / "msctl.toml").write_text(
        f"""
[services.broken]
app = "broken:create_app"
routes = ["/broken"]

[services.hello]
app = "msctl.services.hello:create_app"
routes = ["/hello"]

[gateway]
port = {course.gateway}
"""
    )
    del course.msctl.env["MSCTL_HELLO_PORT"], course.msctl.env["MSCTL_USERS_PORT"]
    failed = course.msctl.run("up", "-d")
    assert failed.returncode == 1
    assert "ValueError: no database" in failed.stderr
    assert course.msctl.run("status").returncode == 3

    with course.msctl.process("up") as up:
        up.line("stderr", "broken")
        assert request(course.url("/hello")).status == 200
        assert request(course.url("/broken")).status == 503
        assert course.msctl.states()["broken"] == "fatal"
        up.signal()
        assert up.wait() == 0


def test_a_handler_that_raises_fails_its_own_request_alone(course: Course) -> None:
    folder = course.msctl.folder
    (folder / "faulty.py").write_text(
        """
from aiohttp import web

async def fail(request):
    raise ValueError("in the handler")

async def fine(request):
    return web.Response(text="fine")

def create_app():
    app = web.Application()
    app.router.add_get("/fail", fail)
    app.router.add_get("/fail/not", fine)
    return app
"""
    )
    (folder / "msctl.toml").write_text(
        '[services.faulty]\napp = "faulty:create_app"\nroutes = ["/fail"]\n'
        f"[gateway]\nport = {course.gateway}\n"
    )
    del course.msctl.env["MSCTL_HELLO_PORT"], course.msctl.env["MSCTL_USERS_PORT"]
    course.msctl.ok("up", "-d")
    assert request(course.url("/fail")).status == 500
    assert request(course.url("/fail/not")).body == b"fine"
    assert "ValueError: in the handler" in course.msctl.ok("logs", "faulty")


def test_wait_timeout_gives_up_with_124_and_leaves_nothing(course: Course) -> None:
    folder = course.msctl.folder
    (folder / "slow.py").write_text(
        "import asyncio\nasync def create_app():\n    await asyncio.Event().wait()\n"
    )
    (folder / "msctl.toml").write_text(
        '[services.slow]\napp = "slow:create_app"\n[gateway]\nenabled = false\n'
    )
    del course.msctl.env["MSCTL_HELLO_PORT"], course.msctl.env["MSCTL_USERS_PORT"]
    late = course.msctl.run("up", "-d", "--wait-timeout", "5s")
    assert late.returncode == 124, late.stderr
    assert "slow" in late.stderr
    assert course.msctl.run("status").returncode == 3


def test_an_error_in_the_file_names_it_with_line_and_key(course: Course) -> None:
    (course.msctl.folder / "msctl.toml").write_text('[services.hello]\napp = "x:y"\nprot = 1\n')
    refused = course.msctl.run("up", "-d")
    assert refused.returncode == 2
    for part in ("msctl.toml:3", "prot", "port"):
        assert part in refused.stderr


def test_config_prints_the_course_system(course: Course) -> None:
    assert "[services.hello]" in course.msctl.ok("config")
    assert json.loads(course.msctl.ok("config", "--json"))["kind"] == "config"


def test_a_runtime_folder_that_cannot_be_written_is_an_error_with_a_hint(
    course: Course, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    refused = course.msctl.run("up", "-d", env={"MSCTL_RUNTIME_DIR": str(tmp_path / "file" / "run")})
    assert refused.returncode == 1
    assert "MSCTL_RUNTIME_DIR" in refused.stderr


def test_the_record_names_the_stack(running: Course) -> None:
    record = read_record(stack_paths("course", None, running.msctl.env))
    assert record is not None
    assert record.pid == running.msctl.status()["pid"]


def test_a_second_signal_ends_the_stack_at_once(course: Course) -> None:
    (course.msctl.folder / "stuck.py").write_text(
        """
import asyncio
from aiohttp import web

async def wait(app):
    yield
    await asyncio.Event().wait()

def create_app():
    app = web.Application()
    app.cleanup_ctx.append(wait)
    return app
"""
    )
    (course.msctl.folder / "msctl.toml").write_text(
        '[services.stuck]\napp = "stuck:create_app"\n[gateway]\nenabled = false\n'
    )
    del course.msctl.env["MSCTL_HELLO_PORT"], course.msctl.env["MSCTL_USERS_PORT"]
    with course.msctl.process("up") as up:
        up.line("stderr", "stuck")
        up.signal()
        up.line("stdout", "stopping")
        up.signal()
        assert up.wait() == 130
    assert course.msctl.run("status").returncode == 3
