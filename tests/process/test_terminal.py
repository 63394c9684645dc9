"""A terminal or pipe that does not take its output neither stops the stack nor makes it complain."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.cli import PATIENCE
from tests.support.course import Course
from tests.support.http import request

CHATTY = """
from aiohttp import web

async def chat(request):
    for number in range(int(request.match_info["lines"])):
        print("x" * 100)
    return web.Response(text="done")

def create_app():
    app = web.Application()
    app.router.add_get("/chat/{lines}", chat)
    return app
"""


@pytest.fixture
def chatty(course: Course) -> Course:
    (course.msctl.folder / "chatty.py").write_text(CHATTY)
    (course.msctl.folder / "msctl.toml").write_text(
        '[services.chatty]\napp = "chatty:create_app"\nroutes = ["/chat"]\n'
        f"[gateway]\nport = {course.gateway}\n"
    )
    return course


@contextmanager
def started(course: Course) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The stack in the foreground, up, and the reading end of its standard output."""
    reader, writer = os.pipe()
    with subprocess.Popen(
        course.msctl.command("up"),
        cwd=course.msctl.folder,
        env=course.msctl.env,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as child:
        os.close(writer)
        try:
            assert child.stderr is not None
            while not child.stderr.readline().startswith(b"broker"):
                assert child.poll() is None
            yield child, reader
        finally:
            child.kill()


def test_pipe_that_nobody_reads_does_not_stop_the_stack(chatty: Course) -> None:
    with started(chatty) as (child, reader):
        for _ in range(30):  # 30,000 lines, 3 MB: more than a pipe and the queue hold
            assert request(chatty.url("/chat/1000")).body == b"done"
        assert chatty.msctl.states()["chatty"] == "ready"
        child.send_signal(signal.SIGINT)
        with os.fdopen(reader, "rb") as stream:
            text = stream.read().decode()
        _, errors = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
        assert b"Traceback" not in errors
    counts = [int(number.replace(",", "")) for number in re.findall(r"… ([\d,]+) lines skipped", text)]
    assert sum(counts) + len(re.findall(r"chatty\s* \| x{100}\n", text)) >= 30_000
    assert counts


def test_closed_pipe_ends_the_output_and_not_the_stack(chatty: Course) -> None:
    with started(chatty) as (child, reader):
        os.close(reader)
        for _ in range(3):
            assert request(chatty.url("/chat/100")).body == b"done"
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors


@pytest.mark.parametrize("verb", [("--help",), ("config",), ("graph",), ("export", "nginx", "--stdout")])
def test_closed_pipe_ends_a_verb_quietly(course: Course, verb: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        course.msctl.command(*verb),
        cwd=course.msctl.folder,
        env=course.msctl.env,
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=PATIENCE,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
