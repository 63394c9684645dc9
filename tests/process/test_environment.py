"""What a service finds in its environment, from every layer."""

from __future__ import annotations

import json

import pytest

from tests.support.course import Course

SHOW = "import json, os, time; print(json.dumps(dict(os.environ)), flush=True); time.sleep(1000)"


@pytest.fixture
def shown(course: Course) -> Course:
    folder = course.msctl.folder
    (folder / ".env").write_text("FROM_DOTENV=dotenv\nBOTH=dotenv\nAPI_TOKEN='a b $c'\n")
    (folder / "web.env").write_text('export FROM_FILE="two\\nlines"\nBOTH=file # and a comment\n')
    (folder / "sub").mkdir()
    (folder / "msctl.toml").write_text(
        f"""
[project]
name = "shown"
[services.redis]
command = "sleep 1000"
port = {course.users}
scheme = "redis"
ready_log = "never"
autostart = false
[services.web]
command = ["python3", "-c", {json.dumps(SHOW)}]
cwd = "sub"
env_file = "web.env"
env = {{ X = "${{REDIS_URL}}/0", Y = "$MSCTL_SERVICE:$MSCTL_INSTANCE", FROM_SHELL = "${{FROM_SHELL:-none}}" }}
depends_on = {{ redis = "started" }}
[gateway]
port = {course.gateway}
"""
    )
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def test_a_child_gets_every_layer_and_the_values_that_refer_to_others(shown: Course) -> None:
    shown.msctl.env |= {"FROM_SHELL": "shell", "PWD": "/nowhere"}
    shown.msctl.ok("up", "-d", "--no-wait", "web")
    shown.msctl.ok("wait", "web")
    redis = next(s for s in shown.msctl.status()["services"] if s["name"] == "redis")
    assert redis["addresses"] == [f"redis://127.0.0.1:{shown.users}"]
    with shown.msctl.process("logs", "web", "--json", "--follow") as logs:
        env = json.loads(json.loads(logs.line("stdout", "FROM_DOTENV"))["data"]["text"])
    assert env["FROM_DOTENV"] == "dotenv"
    assert env["API_TOKEN"] == "a b $c"
    assert env["FROM_FILE"] == "two\nlines"
    assert env["BOTH"] == "file"
    assert env["REDIS_URL"] == f"redis://127.0.0.1:{shown.users}"
    assert env["REDIS_HOST"] == "127.0.0.1"
    assert env["REDIS_PORT"] == str(shown.users)
    assert env["X"] == f"redis://127.0.0.1:{shown.users}/0"
    assert env["Y"] == "web:web-1"
    assert env["FROM_SHELL"] == "shell"
    assert env["PWD"] == str(shown.msctl.folder / "sub")


def test_an_env_file_that_is_missing_or_wrong_is_named(shown: Course) -> None:
    (shown.msctl.folder / "web.env").write_text("FINE=1\nnot a line\n")
    refused = shown.msctl.run("config")
    assert refused.returncode == 2
    assert "web.env:2" in refused.stderr
    (shown.msctl.folder / "web.env").unlink()
    refused = shown.msctl.run("config")
    assert refused.returncode == 2
    assert "web.env" in refused.stderr
    assert "env_file" in refused.stderr


def test_a_command_runs_with_the_variables_of_the_stack_or_of_a_service(shown: Course) -> None:
    assert shown.msctl.run("run", "--", "true").returncode == 3
    shown.msctl.ok("up", "-d", "--no-wait", "web")
    shown.msctl.ok("wait", "web")
    show = "import os, sys; print(*(os.environ.get(name) for name in sys.argv[1:]))"
    command = ("--", "python3", "-c", show, "REDIS_PORT", "Y", "FROM_DOTENV")
    assert shown.msctl.ok("run", *command) == f"{shown.users} None dotenv\n"
    assert shown.msctl.ok("run", "web", *command) == f"{shown.users} web:web-1 dotenv\n"
    assert shown.msctl.run("run", "web", "--", "sh", "-c", "exit 7").returncode == 7
    assert shown.msctl.run("run", "nobody", "--", "true").returncode == 4
    assert shown.msctl.run("run", "web", "--", "no-such-program").returncode == 2
    assert shown.msctl.run("run", "web").returncode == 2
