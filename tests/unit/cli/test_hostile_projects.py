"""Read-only verbs in hostile project folders: they end with a message, and print no control characters."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from msctl.export import KINDS
from tests.support.cli import InProcess

VERBS = [
    ("config",),
    ("config", "--json"),
    ("config", "--explain"),
    ("graph",),
    ("graph", "--format", "mermaid"),
    ("graph", "--format", "json"),
    ("doctor",),
    ("doctor", "--json"),
    ("status",),
    ("ls",),
    ("logs",),
    ("routes",),
    ("traces",),
    ("events",),
    ("down",),
    *(("export", kind.name, "--stdout") for kind in KINDS),
]
UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that a terminal obeys; line ends and tabs are allowed."""
EVIL = "x\\u001b[2J\\u202ey\\u2028z\\u0007<b>[red]\\n\\u009b31m"


def service(extra: str) -> str:
    return f'[services.a]\napp = "a:b"\nport = 0\nroutes = ["/a"]\n{extra}\n'


def write(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "msctl.toml").write_text(text)


def fifo(name: str) -> Callable[[Path], object]:
    return lambda folder: os.mkfifo(folder / name)


def link(name: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).symlink_to(target)


def sparse(name: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        with (folder / name).open("wb") as stream:
            stream.truncate(1 << 40)

    return make


def both(*makers: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for maker in makers:
            maker(folder)

    return make


VALID = write(service(""))
FOLDERS: dict[str, Callable[[Path], object]] = {
    "name of a service": write(f'[services."{EVIL}"]\napp = "a:b"\n'),
    "name of the project": write(f'[project]\nname = "{EVIL}"\n'),
    "unknown key": write(f'[services.a]\n"{EVIL}" = 1\n'),
    "unknown table": write(f'["{EVIL}"]\nx = 1\n'),
    "values": write(
        service(
            f'ready_log = "{EVIL}"\nenv = {{ A = "{EVIL}", SECRET = "{EVIL}" }}\ncwd = "{EVIL}"\n'
            f'[services.b]\ncommand = ["{EVIL}", "{EVIL}"]\nhealth = "/x"\ndepends_on = ["a"]\n'
        )
    ),
    "app": write(f'[services.a]\napp = "{EVIL}"\n'),
    "route": write(f'[services.a]\napp = "a:b"\nroutes = ["/{EVIL}"]\n'),
    "route with conditions": write(
        '[services.a]\napp = "a:b"\nroutes = [{ path = "/a", '
        f'headers = {{ X = "{EVIL}" }}, hosts = ["{EVIL}"], methods = ["{EVIL}"] }}]\n'
    ),
    "dependency": write(service(f'depends_on = ["{EVIL}"]')),
    "broker's URL": write(f'[broker]\nurl = "amqp://{EVIL}:{EVIL}@localhost:1/"\n'),
    "service's URL": write(f'[services.a]\nurl = "http://{EVIL}/"\n'),
    "not TOML": lambda folder: (folder / "msctl.toml").write_bytes(b"\x1b[2J = \xe2\x80\xae\n"),
    "not UTF-8": lambda folder: (folder / "msctl.toml").write_bytes(b'[project]\nname = "\xff"\n'),
    "NUL bytes": lambda folder: (folder / "msctl.toml").write_bytes(b"\0" * 1000),
    "deep": write("x = " + "[" * 100_000),
    "huge file": sparse("msctl.toml"),
    "FIFO as file": fifo("msctl.toml"),
    "device as file": link("msctl.toml", "/dev/zero"),
    "folder as file": lambda folder: (folder / "msctl.toml").mkdir(),
    "circle of links": link("msctl.toml", "msctl.toml"),
    "huge .env": both(VALID, sparse(".env")),
    "FIFO as .env": both(VALID, fifo(".env")),
    "device as .env": both(VALID, link(".env", "/dev/zero")),
    "folder as .env": both(VALID, lambda folder: (folder / ".env").mkdir()),
    "values of .env": both(
        write(service('env = { A = "${EVIL}" }\ncwd = "${EVIL}"')),
        lambda folder: (folder / ".env").write_text("EVIL='x\x1b[2J\u202e\n\x07'\n"),
    ),
    "names of .env": both(VALID, lambda folder: (folder / ".env").write_text("\x1b[2J\u202e\n") and None),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_hostile_project_ends_with_a_message_and_no_control_characters(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    FOLDERS[kind](folder)
    msctl = InProcess(folder, tmp_path / "run", {"MSCTL_BROKER_MODE": "embedded"})
    check(msctl)


@pytest.mark.parametrize("name", [b"a\x1b[2Jb", b"a\nb", "a\u202eb".encode(), b"a\xffb", b"[red]<b>", b"-rf"])
def test_hostile_folder_name_ends_with_a_message_and_no_control_characters(
    tmp_path: Path, name: bytes
) -> None:
    folder = tmp_path / os.fsdecode(name)
    folder.mkdir()
    VALID(folder)
    check(InProcess(folder, tmp_path / "run", {"MSCTL_BROKER_MODE": "embedded"}))


def check(msctl: InProcess) -> None:
    for verb in VERBS:
        done = msctl.run(*verb)
        for text in (done.stdout, done.stderr):
            found = UNSAFE.search(text)
            assert found is None, (verb, text[max(0, found.start() - 60) : found.end() + 20])
            assert "Traceback" not in text
        assert done.returncode in (0, 1, 2, 3), verb
        if done.returncode in (2, 3):
            assert done.stderr.startswith("error: "), (verb, done.stderr)
