"""A verb that waits says for what: a line a change without a terminal, lines drawn in place on one."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.process.test_starting import open_gate, own, starting, write
from tests.support.cli import PATIENCE
from tests.support.course import Course

__all__ = ["own"]

UNHEALTHY = """
[services.api]
command = "python3 -m http.server $PORT"
health = "/nowhere"
[gateway]
enabled = false
"""


@contextmanager
def on_terminal(course: Course, *args: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The command with standard output and error on a terminal, and the terminal's other side."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        course.msctl.command(*args),
        cwd=course.msctl.folder,
        env={**course.msctl.env, "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as child:
        os.close(theirs)
        try:
            yield child, ours
        finally:
            if child.poll() is None:
                child.terminate()
            with contextlib.suppress(OSError):
                while os.read(ours, 65536):
                    pass
            child.wait()
            os.close(ours)


def read_until(terminal: int, *parts: bytes) -> bytes:
    seen = b""
    while not all(part in seen for part in parts):
        assert select.select([terminal], [], [], PATIENCE)[0], seen
        seen += os.read(terminal, 65536)
    return seen


def test_up_in_the_background_says_which_probe_fails(own: Course) -> None:
    write(own, UNHEALTHY)
    with own.msctl.process("up", "-d") as up:
        assert "api is" in up.line("stderr", "GET /nowhere: 404")
        own.msctl.ok("down")
        assert up.wait() == 1


def test_wait_says_what_it_waits_for(own: Course) -> None:
    with starting(own) as up:
        with own.msctl.process("wait", "gated") as waiting:
            waiting.line("stderr", "gated is")
            open_gate(own)
            assert waiting.wait() == 0
        assert up.wait() == 0


@pytest.mark.parametrize("args", [("up", "-d"), ("up",)], ids=" ".join)
def test_a_terminal_shows_a_line_that_is_drawn_again(own: Course, args: tuple[str, ...]) -> None:
    write(own, UNHEALTHY)
    with on_terminal(own, *args) as (_, terminal):
        read_until(terminal, b"api is", b"GET /nowhere: 404", b"\x1b[1F\x1b[J")


def test_an_up_that_joins_does_not_wait_longer_than_it_should(own: Course) -> None:
    with starting(own) as up:
        assert own.msctl.run("up", "-d", "--no-wait").returncode == 0
        late = own.msctl.run("up", "-d", "--wait-timeout", "100ms")
        assert late.returncode == 124
        assert "gated is" in late.stderr
        open_gate(own)
        assert up.wait() == 0
    assert own.msctl.states() == {"gated": "ready"}


def test_an_up_that_does_not_wait_applies_edits_and_starts_what_is_new(own: Course) -> None:
    sleeper = '[services.{}]\ncommand = "sleep 600"\n'
    alone = "[gateway]\nenabled = false\n"
    write(own, sleeper.format("one") + alone)
    own.msctl.ok("up", "-d")
    write(own, sleeper.format("one") + sleeper.format("two") + alone)
    own.msctl.ok("up", "-d", "--no-wait")
    own.msctl.ok("wait", "one", "--timeout", "10s")
    with own.msctl.process("events", "--json") as events:
        events.line("stdout", '"two"')
    own.msctl.ok("wait", "two", "--timeout", "10s")
