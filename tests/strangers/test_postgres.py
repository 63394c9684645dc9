"""PostgreSQL, which refuses to run as root, as a service of a stack of root's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.course import Course
from tests.support.ports import reserved_port
from tests.support.supervisor import alive
from tests.support.tools import require
from tests.support.waiting import eventually

NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def database(course: Course) -> Iterator[tuple[Course, int]]:
    """A project with a database in a folder of `nobody`'s, and its port."""
    postgres, initdb = (_program(name) for name in ("postgres", "initdb"))
    other = AS_NOBODY if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="msctl-pg-", dir="/tmp"))  # pytest's own is closed to other users
    try:
        if other:
            os.chown(folder, NOBODY, NOBODY)
        data = folder / "data"
        subprocess.run([*other, initdb, "-A", "trust", "-U", "shop", data], check=True, capture_output=True)
        with reserved_port() as port:
            command = [*other, postgres, "-D", str(data), "-k", str(folder), "-p", "$PORT", "-h", "$HOST"]
            (course.msctl.folder / "msctl.toml").write_text(
                f'[services.db]\ncommand = {command}\nport = {port}\nscheme = "postgres"\n'
                'health = { exec = ["pg_isready", "-h", "$HOST", "-p", "$PORT"], interval = "1s" }\n'
                'stop_signal = "SIGINT"\n[gateway]\nenabled = false\n'
            )
            for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
                del course.msctl.env[name]
            yield course, port
            course.msctl.run("down")
    finally:
        shutil.rmtree(folder)


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else require(name)


def query(port: int, statement: str) -> str:
    command = ["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "shop", "-d", "postgres", "-tAc", statement]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_postgres_runs_as_another_user_survives_a_kill_and_leaves_nothing(
    database: tuple[Course, int],
) -> None:
    course, port = database
    course.msctl.ok("up", "-d")
    query(port, "create table cups (name text); insert into cups values ('tea')")
    (service,) = (one for one in course.msctl.status()["services"] if one["name"] == "db")
    main = psutil.Process(service["pid"])
    if os.getuid() == 0:
        assert main.uids().real == NOBODY
    workers = main.children()
    main.send_signal(signal.SIGKILL)
    eventually(lambda: course.msctl.status()["services"][0]["pid"] not in (None, main.pid))
    course.msctl.ok("wait", "db", "--timeout", "30s")
    assert query(port, "select name from cups") == "tea"
    workers += psutil.Process(course.msctl.status()["services"][0]["pid"]).children()
    course.msctl.ok("down")
    assert [one for one in workers if one.is_running() and alive(one.pid)] == []
