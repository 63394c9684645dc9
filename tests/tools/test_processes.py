"""systemd accepts the exported units, and honcho runs the exported Procfile."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from tests.support import tools
from tests.support.cli import Msctl
from tests.support.course import Course
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.unit.export import projects

EXECUTABLE = str(Path("/bin/true").resolve())


@pytest.mark.parametrize("project", [projects.course(), projects.shop()], ids=["course", "shop"])
def test_systemd_accepts_the_units(project: Project, tmp_path: Path) -> None:
    options = ExportOptions(executable=EXECUTABLE, directory="/")
    paths = []
    for file in export("systemd", project, options).files:
        (tmp_path / file.path).write_text(file.text)
        paths.append(str(tmp_path / file.path))
    output = tools.accepts([tools.require("systemd-analyze"), "verify", "--man=no", *paths])
    assert "Unknown" not in output


def test_systemd_refuses_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "bad.service").write_text("[Service]\nExecStart=relative\n")
    with pytest.raises(AssertionError, match="bad"):
        tools.accepts([tools.require("systemd-analyze"), "verify", "--man=no", str(tmp_path / "bad.service")])


def test_honcho_accepts_the_procfile(tmp_path: Path) -> None:
    (file,) = export("procfile", projects.shop()).files
    (tmp_path / file.path).write_text(file.text)
    output = tools.accepts([sys.executable, "-m", "honcho", "check"], cwd=tmp_path)
    assert "user_service" in output
    assert "gateway" in output


def test_a_procfiles_processes_are_the_same_system_as_the_stack(tmp_path: Path) -> None:
    """Each service in a process of its own, found by the gateway at its URL."""
    (tmp_path / "msctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msctl "$@"\n')
    (tmp_path / "msctl").chmod(0o755)
    with ExitStack() as stack:
        hello, users, gateway = (stack.enter_context(reserved_port()) for _ in range(3))
        lines = [
            f"[services.{name}]\napp = 'msctl.services.{name}:create_app'\n"
            f"port = {port}\nroutes = ['/{name}']\n"
            for name, port in {"hello": hello, "users": users}.items()
        ]
        (tmp_path / "msctl.toml").write_text("".join(lines) + f"[gateway]\nport = {gateway}\n")
        msctl = Msctl(tmp_path, tmp_path / "run", {})
        msctl.ok("export", "procfile")
        env = {**msctl.env, "PATH": f"{tmp_path}{os.pathsep}{msctl.env['PATH']}", "PYTHONUNBUFFERED": "1"}
        env["PYTHONWARNINGS"] = "default"  # honcho's own are not ours to mend
        runner = subprocess.Popen(
            [sys.executable, "-m", "honcho", "start"],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert answer(runner, f"http://127.0.0.1:{gateway}/hello") == b"Hello, World!"
            assert answer(runner, f"http://127.0.0.1:{gateway}/users").startswith(b'[{"id":1,"name":"Alice"}')
        finally:
            runner.terminate()
            runner.communicate(timeout=tools.PATIENCE)


SHOW = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(1000)"


def test_a_procfile_gives_a_command_every_variable_that_up_gives(course: Course) -> None:
    folder, msctl = course.msctl.folder, course.msctl
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT", "MSCTL_BROKER_URL"):
        msctl.env.pop(name, None)
    (folder / ".env").write_text("BROKER_PASSWORD='p/w+x#y=@z'\nFROM_DOTENV=dotenv\n")
    (folder / "msctl.toml").write_text(
        f"""
[services.cache]
command = "sleep 1000"
port = {course.users}
scheme = "redis"
ready_log = "never"
autostart = false
[services.web]
command = ["python3", "-c", {json.dumps(SHOW)}]
port = {course.gateway}
ready_log = "PATH"
depends_on = {{ cache = "started" }}
[gateway]
enabled = false
[broker]
mode = "embedded"
url = "amqp://localhost:{course.broker}/"
username = "me"
password = "${{BROKER_PASSWORD}}"
"""
    )
    msctl.ok("up", "-d", "--no-wait", "web")
    msctl.ok("wait", "web")
    given = json.loads(json.loads(msctl.ok("logs", "web", "--json", "-n", "1"))["data"]["text"])
    msctl.ok("down")
    msctl.ok("export", "procfile")
    (line,) = [each for each in (folder / "Procfile").read_text().splitlines() if each.startswith("web:")]
    (folder / "msctl").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msctl "$@"\n')
    (folder / "msctl").chmod(0o755)
    env = {**msctl.env, "PATH": f"{folder}{os.pathsep}{msctl.env['PATH']}"}
    child = subprocess.Popen(["sh", "-c", f"exec {line[4:]}"], cwd=folder, env=env, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        found = json.loads(child.stdout.readline())
    finally:
        child.kill()
        child.communicate()
    assigned = {name for name in given if name not in msctl.env and not name.startswith("OTEL_")}
    assigned -= {"_MSCTL_RUN"}  # marks the processes of a stack
    assert {"AMQP_URL", "CACHE_URL", "CACHE_HOST", "CACHE_PORT", "HOST", "PORT", "FROM_DOTENV"} <= assigned
    assert assigned <= found.keys()
    assert found["AMQP_URL"] == given["AMQP_URL"]
    assert found["CACHE_URL"] == given["CACHE_URL"]
    assert quote("p/w+x#y=@z", safe="") in found["AMQP_URL"]
    assert "p/w" not in line


def answer(runner: subprocess.Popen[bytes], url: str) -> bytes:
    """The body, once the process behind `url` has started; fails if the runner ends before."""
    deadline = time.monotonic() + tools.PATIENCE
    while time.monotonic() < deadline:
        assert runner.poll() is None, runner.communicate()[0].decode()
        with suppress(OSError):
            if (reply := request(url)).status == 200:
                return reply.body
        assert runner.stdout is not None
        if select.select([runner.stdout], [], [], 0.1)[0]:  # somebody has something to say, or time passes
            os.read(runner.stdout.fileno(), 65536)
    raise AssertionError(f"{url} did not answer within {tools.PATIENCE:g} s")
