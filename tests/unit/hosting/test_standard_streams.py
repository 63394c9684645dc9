"""What hosted services print is in their log; `breakpoint()` does not take Ctrl-C away."""

from __future__ import annotations

import asyncio
import io
import logging
import signal
import sys
from contextvars import ContextVar

import pytest

from msctl.hosting.standard_streams import MAX_LINE, ServiceStream, breakpoints, service_streams

service: ContextVar[str | None] = ContextVar("service", default=None)


class Log:
    """Collects lines by service."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    def __call__(self, name: str, stream: str, line: str) -> None:
        self.lines.append((name, stream, line))

    def logged(self, name: str, stream: str, record: logging.LogRecord, text: str) -> None:
        self.lines.append((name, stream, f"{record.levelname} {text}"))


def test_what_a_service_prints_goes_to_its_log_and_the_rest_to_the_stream() -> None:
    real, log = io.StringIO(), Log()
    stream = ServiceStream(real, "stdout", service.get, log, log.logged)
    print("from the stack", file=stream)
    token = service.set("users")
    print("a", "b", file=stream)
    stream.write("two\nlines\nand a half")
    stream.write(" ends\n")
    service.reset(token)
    assert real.getvalue() == "from the stack\n"
    assert log.lines == [("users", "stdout", text) for text in ("a b", "two", "lines", "and a half ends")]


def test_lines_of_two_services_are_not_mixed() -> None:
    log = Log()
    stream = ServiceStream(io.StringIO(), "stderr", service.get, log, log.logged)
    for name, text in (("a", "1"), ("b", "2"), ("a", "3\n"), ("b", "4\n")):
        token = service.set(name)
        stream.write(text)
        service.reset(token)
    assert log.lines == [("a", "stderr", "13"), ("b", "stderr", "24")]


def test_what_shows_the_log_may_print() -> None:
    real = io.StringIO()
    stream: ServiceStream

    def show(name: str, _stream: str, line: str) -> None:
        print(f"{name} | {line}", file=stream)

    stream = ServiceStream(real, "stdout", lambda: "a", show, Log().logged)
    print("hello", file=stream)
    assert real.getvalue() == "a | hello\n"


def test_a_line_without_end_is_handed_on() -> None:
    log = Log()
    stream = ServiceStream(io.StringIO(), "stdout", lambda: "a", log, log.logged)
    stream.write("x" * (MAX_LINE + 1))
    assert [len(line) for _, _, line in log.lines] == [MAX_LINE + 1]


def test_a_traceback_that_is_printed_at_once_is_one_record() -> None:
    log = Log()
    stream = ServiceStream(io.StringIO(), "stderr", lambda: "a", log, log.logged)
    text = 'it failed\nTraceback (most recent call last):\n  File "a.py"\nOSError: no\n'
    stream.write(f"{text}next\n")
    assert [line for _, _, line in log.lines] == [text.rstrip(), "next"]


def test_a_record_that_a_handler_prints_is_handed_on_whole() -> None:
    log = Log()
    handler = logging.StreamHandler(ServiceStream(io.StringIO(), "stderr", lambda: "a", log, log.logged))
    handler.setFormatter(logging.Formatter("mine: %(message)s"))
    logger = logging.Logger("of.the.service")
    logger.addHandler(handler)
    logger.error("first\nsecond")
    assert log.lines == [("a", "stderr", "ERROR mine: first\nsecond\n")]


async def test_threads_that_asyncio_starts_print_for_their_service() -> None:
    log = Log()
    with service_streams(service.get, log, log.logged):
        service.set("users")
        await asyncio.to_thread(print, "from a thread")
        print("oops", file=sys.stderr)
    assert log.lines == [("users", "stdout", "from a thread"), ("users", "stderr", "oops")]


def test_the_streams_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.stdout, sys.stderr
    with service_streams(lambda: None, Log(), Log().logged):
        assert sys.stdout is not before[0]
    assert (sys.stdout, sys.stderr) == before


def test_a_breakpoint_without_a_terminal_is_skipped_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    places: list[str] = []
    with breakpoints(interactive=False, skipped=places.append):
        breakpoint()
    assert len(places) == 1
    assert places[0].startswith(f"{__file__}:")


def test_a_breakpoint_on_a_terminal_leaves_the_signal_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    said = io.StringIO()
    monkeypatch.setattr(sys, "__stdin__", io.StringIO("p 6 * 7\nc\n"))
    monkeypatch.setattr(sys, "__stdout__", said)
    before = signal.getsignal(signal.SIGINT)
    with breakpoints(interactive=True, skipped=print):
        breakpoint()
    assert "42" in said.getvalue()
    assert signal.getsignal(signal.SIGINT) is before


def test_pythonbreakpoint_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    with breakpoints(interactive=False, skipped=pytest.fail):
        breakpoint()
