"""What another user of the machine prepares is refused: no process is signalled, no message delivered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from msctl.control.paths import stack_paths
from msctl.control.record import StackRecord, read_record, signal_stack
from msctl.processes.pid_file import start_time
from tests.support import other_user
from tests.support.cli import Msctl
from tests.support.course import Course
from tests.support.other_user import as_root


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder as /tmp is: everybody may create files in it."""
    folder = Path(tempfile.mkdtemp(prefix="msctl-shared-"))
    folder.chmod(0o1777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def msctl(shared: Path, tmp_path: Path) -> Msctl:
    """The command where XDG_RUNTIME_DIR and MSCTL_RUNTIME_DIR are not set, as after su or in cron."""
    command = Msctl(tmp_path, tmp_path, {"TMPDIR": str(shared)})
    for name in ("MSCTL_RUNTIME_DIR", "XDG_RUNTIME_DIR"):
        command.env.pop(name, None)
    return command


LISTENER = """
import fcntl, json, os, socket, sys
folder, pid = sys.argv[1], int(sys.argv[2])
os.makedirs(folder, mode=0o755)
os.chmod(os.path.dirname(folder), 0o755)
lock = open(folder + "/lock", "w")
os.chmod(folder + "/lock", 0o666)
fcntl.flock(lock, fcntl.LOCK_EX)
with open(folder + "/stack.json", "w") as file:
    json.dump({"project": "course", "root": None, "pid": pid, "started": 0, "addresses": ["evil:1"],
               "broker_url": "amqp://evil:5672/", "dashboard_url": "http://evil/"}, file)
server = socket.socket(socket.AF_UNIX)
server.bind(folder + "/control.sock")
os.chmod(folder + "/control.sock", 0o666)
server.listen()
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.recv(65536)
    connection.close()
"""


@as_root
@pytest.mark.parametrize(
    "verb", [("down",), ("status",), ("ls",), ("send", "secret"), ("logs",), ("up", "-d")]
)
def test_a_runtime_folder_that_another_user_made_first_is_refused(
    msctl: Msctl, shared: Path, verb: tuple[str, ...]
) -> None:
    with subprocess.Popen(["sleep", "1000"]) as victim:
        folder = shared / f"msctl-{os.getuid()}" / "course"
        mallory = other_user.run(LISTENER, str(folder), str(victim.pid))
        try:
            assert mallory.stdout is not None
            assert mallory.stdout.readline() == "ready\n"
            done = msctl.run(*verb)
            assert done.returncode != 0
            assert f"refusing to use {folder.parent}" in done.stderr
            assert "uid 65534" in done.stderr
            assert "evil" not in done.stdout + done.stderr
            assert victim.poll() is None
        finally:
            victim.kill()
            mallory.kill()
            mallory.communicate()


@as_root
def test_a_planted_stack_folder_in_a_shared_base_is_refused_and_not_listed(
    msctl: Msctl, shared: Path
) -> None:
    msctl.env["MSCTL_RUNTIME_DIR"] = str(shared)
    (shared / "course").mkdir()
    (shared / "course" / "stack.json").write_text("{}")
    (shared / "course" / "lock").touch()
    other_user.give(shared / "course", shared / "course" / "stack.json", shared / "course" / "lock")
    done = msctl.run("down")
    assert done.returncode == 1
    assert f"refusing to use {shared / 'course'}" in done.stderr
    assert msctl.ok("ls", "--json").count("course") == 0


def test_a_shared_folder_keeps_its_mode_when_up_fails(msctl: Msctl, shared: Path) -> None:
    msctl.env["MSCTL_RUNTIME_DIR"] = str(shared)
    (msctl.folder / "msctl.toml").write_text('[services.a]\ncommand = "no-such-program"\n')
    assert msctl.run("up", "-d").returncode != 0
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


@as_root
def test_a_socket_of_another_user_is_not_talked_to(msctl: Msctl, shared: Path) -> None:
    folder = shared / f"msctl-{os.getuid()}" / "course"
    folder.mkdir(parents=True, mode=0o700)
    program = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
server.listen()
print("ready", flush=True)
connection, _ = server.accept()
print(repr(connection.recv(65536)), flush=True)
"""
    mallory = other_user.run(program, str(shared / "socket"))
    try:
        assert mallory.stdout is not None
        assert mallory.stdout.readline() == "ready\n"
        (folder / "control.sock").symlink_to(shared / "socket")
        done = msctl.run("status")
        assert done.returncode == 1
        assert "control.sock" in done.stderr
        assert "uid 65534" in done.stderr
        assert mallory.stdout.readline() in ("b''\n", "")
    finally:
        mallory.kill()
        mallory.communicate()


def test_a_reused_process_id_is_not_signalled(tmp_path: Path) -> None:
    paths = stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")})
    paths.prepare()
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        try:
            started = start_time(stranger.pid)
            for wrong in (
                StackRecord("shop", None, stranger.pid, started - 100),
                StackRecord("shop", None, stranger.pid, started),
            ):
                wrong.write(paths)
                record = read_record(paths)
                assert record == wrong
                # The second has the start time, but does not hold the stack's lock.
                assert not signal_stack(paths, record, signal.SIGKILL)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_record_in_a_private_folder_is_complete(tmp_path: Path) -> None:
    paths = stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")})
    paths.prepare()
    StackRecord("shop", None, 7, 1.0).write(paths)
    assert stat.S_IMODE(paths.record.stat().st_mode) == 0o600
    assert json.loads(paths.record.read_text())["started"] == 1.0


@pytest.fixture
def planted(msctl: Msctl, shared: Path) -> Path:
    """A project of another user in a parent folder of the one that msctl runs in."""
    (shared / "msctl.toml").write_text('[services.evil]\ncommand = "touch /tmp/evil"\n')
    (shared / "below").mkdir()
    msctl.folder = shared / "below"
    other_user.give(shared / "msctl.toml")
    return shared / "msctl.toml"


@as_root
@pytest.mark.parametrize(
    "verb", [("status",), ("up", "-d"), ("config",), ("doctor",), ("graph",)], ids=" ".join
)
def test_a_project_of_another_user_in_a_parent_folder_is_refused(
    msctl: Msctl, planted: Path, verb: tuple[str, ...]
) -> None:
    done = msctl.run(*verb)
    assert done.returncode != 0
    output = done.stdout + done.stderr
    assert f"refusing to use {planted}" in output
    assert "uid 65534" in output
    assert f"--file {planted}" in output


@as_root
def test_a_project_of_another_user_is_used_if_it_is_named(msctl: Msctl, planted: Path) -> None:
    assert "evil" in msctl.ok("--file", str(planted), "config")


@as_root
def test_a_project_in_the_current_folder_is_used_unless_everybody_can_write_there(
    msctl: Msctl, planted: Path
) -> None:
    msctl.folder = planted.parent
    assert msctl.run("config").returncode == 2
    planted.parent.chmod(0o755)
    assert msctl.run("config").returncode == 0


@as_root
def test_a_planted_env_file_beside_a_found_project_is_refused(msctl: Msctl, planted: Path) -> None:
    planted.unlink()
    planted.write_text('[services.mine]\ncommand = "true"\n')
    planted.with_name(".env").write_text("MSCTL_MINE_COMMAND=evil\n")
    other_user.give(planted.with_name(".env"))
    for verb in ("config", "status", "down"):
        done = msctl.run(verb)
        assert done.returncode == 2
        assert f"refusing to use {planted.with_name('.env')}" in done.stderr
    assert msctl.run("--file", str(planted), "config").returncode == 0


def test_a_project_writable_by_the_own_group_is_found_in_a_parent_folder(
    msctl: Msctl, tmp_path: Path
) -> None:
    (tmp_path / "msctl.toml").write_text('[services.mine]\ncommand = "true"\n')
    (tmp_path / "msctl.toml").chmod(0o664)
    (tmp_path / "below").mkdir()
    msctl.folder = tmp_path / "below"
    assert "mine" in msctl.ok("config")
    (tmp_path / "msctl.toml").chmod(0o666)
    assert msctl.run("config").returncode == 2


@as_root
def test_another_user_gets_nothing_from_the_dashboard(course: Course, shared: Path) -> None:
    course.msctl.ok("up", "-d", "hello")
    link = course.msctl.ok("open", "--print").strip()
    url = link.partition("?")[0]
    program = """
import http.client, json, sys, urllib.parse
address = urllib.parse.urlsplit(sys.argv[1])
answers = {}
for path in ("/", "/api/session", "/api/stream", "/api/traces", "/static/page.js", "/metrics"):
    connection = http.client.HTTPConnection(address.hostname, address.port)
    connection.request("GET", path)
    answers[path] = connection.getresponse().status
connection = http.client.HTTPConnection(address.hostname, address.port)
connection.request("POST", "/api/services/hello/stop", "{}", {"Content-Type": "application/json"})
answers["stop"] = connection.getresponse().status
print(json.dumps(answers))
"""
    mallory = other_user.run(program, url)
    output, errors = mallory.communicate(timeout=60)
    answers = json.loads(output)
    assert answers.pop("/metrics") == 200
    assert set(answers.values()) == {401}, errors
    assert course.msctl.states()["hello"] == "ready"
    assert link.partition("token=")[2] not in course.msctl.ok("status", "--json")
    assert link.partition("token=")[2] not in course.msctl.ok("ls", "--json")
    assert link.partition("token=")[2] not in course.msctl.ok("logs")
    for name in ("stack.json", "dashboard-token"):
        (file,) = course.msctl.runtime.rglob(name)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_up_prints_the_link_and_open_repeats_it(course: Course) -> None:
    started = course.msctl.ok("up", "-d", "hello")
    link = course.msctl.ok("open", "--print").strip()
    assert f"  {link}\n" in started
    assert json.loads(course.msctl.ok("open", "--json"))["data"] == {"url": link}
    course.msctl.ok("down")
    refused = course.msctl.run("open")
    assert refused.returncode == 3
    course.msctl.env["MSCTL_DASHBOARD_TOKEN"] = "false"
    assert "token" not in course.msctl.ok("up", "-d", "hello")
    assert "open to every user" in course.msctl.run("doctor").stdout


def test_a_browser_gets_a_file_and_not_the_link(course: Course, tmp_path: Path) -> None:
    """The arguments of a process can be seen by every user."""
    browser = tmp_path / "browser"
    browser.write_text('#!/bin/sh\necho "$@" > "$0.arguments"\n')
    browser.chmod(0o755)
    course.msctl.env |= {"BROWSER": f"{browser} %s", "DISPLAY": ":77"}
    course.msctl.ok("up", "-d", "hello")
    link = course.msctl.ok("open").strip()
    arguments = browser.with_suffix(".arguments").read_text().strip()
    assert "token" not in arguments
    file = Path(arguments.removeprefix("file://"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert link in file.read_text()


@as_root
def test_logs_of_a_planted_state_folder_are_neither_shown_nor_written(course: Course, shared: Path) -> None:
    course.msctl.env["MSCTL_STATE_DIR"] = str(shared)
    planted = shared / "course" / "runs" / "20990101T000000-1"
    planted.mkdir(parents=True)
    (planted / "hello.stdout.log").write_text("evil\n")
    other_user.give(shared / "course", planted.parent, planted, planted / "hello.stdout.log")
    done = course.msctl.run("logs")
    assert done.returncode != 0
    assert f"refusing to use {shared / 'course'}" in done.stderr
    assert "evil" not in done.stdout
    course.msctl.ok("up", "-d", "hello")
    course.msctl.ok("down")
    assert [path.name for path in planted.parent.iterdir()] == [planted.name]
