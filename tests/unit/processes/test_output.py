"""A pipe is drained, whatever becomes of its lines."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field

import pytest

from msctl.processes.output import Output, Pace, enlarge


@dataclass
class Recorder:
    """A sink that keeps all it is given."""

    lines: list[str] = field(default_factory=list)
    size: int = 0
    missing: int = 0

    def raw(self, data: bytes) -> None:
        self.size += len(data)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def skipped(self, count: int) -> None:
        self.missing += count


async def write_all(writer: int, data: bytes) -> None:
    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    await asyncio.to_thread(write)


async def test_what_is_in_the_pipe_at_the_end_is_not_lost() -> None:
    reader, writer = os.pipe()
    sink = Recorder()
    output = Output(reader, sink, Pace())
    os.write(writer, b"last words")
    output.close()  # while the other end is still open
    output.close()
    os.close(writer)
    await output.delivered()
    assert sink.lines == ["last words"]


async def test_the_end_of_the_pipe_ends_the_output() -> None:
    reader, writer = os.pipe()
    sink = Recorder()
    output = Output(reader, sink, Pace())
    os.write(writer, b"bye")
    os.close(writer)
    await output.delivered()
    assert sink.lines == ["bye"]
    output.close()


async def test_an_output_that_prints_nothing_ends_too() -> None:
    reader, writer = os.pipe()
    output = Output(reader, Recorder(), Pace())
    os.close(writer)
    await output.delivered()


async def test_a_flood_is_drained_at_once_and_each_line_is_logged_or_counted() -> None:
    reader, writer = os.pipe()
    sink = Recorder()
    output = Output(reader, sink, Pace())
    line = b"x" * 99 + b"\n"
    await write_all(writer, line * 60_000 + b"end\n")
    await output.delivered()
    assert sink.size == 6_000_004
    assert sink.lines[-1] == "end"
    assert sink.missing > 0
    assert sink.missing + len(sink.lines) == 60_001


async def test_a_quiet_output_is_not_held_up_by_one_that_floods() -> None:
    pace = Pace(rate=1000)
    (noisy_end, noisy), (quiet_end, quiet) = os.pipe(), os.pipe()
    flood, words = Recorder(), Recorder()
    first, second = Output(noisy_end, flood, pace), Output(quiet_end, words, pace)
    os.set_blocking(noisy, False)
    os.write(noisy, b"x\n" * 20_000)
    os.write(quiet, b"one\ntwo\n")
    os.close(noisy)
    os.close(quiet)
    await second.delivered()
    assert words.lines == ["one", "two"]
    assert first.pending
    first.close()


async def test_closing_with_a_full_pipe_ends() -> None:
    reader, writer = os.pipe()
    sink = Recorder()
    output = Output(reader, sink, Pace(rate=10**9))
    os.set_blocking(writer, False)
    sent = 0
    with pytest.raises(BlockingIOError):
        while True:
            sent += os.write(writer, b"x\n" * 2048)
    output.close()
    os.close(writer)
    await output.delivered()
    assert sink.missing + len(sink.lines) == sent // 2


def test_a_pipe_that_cannot_grow_keeps_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setattr("msctl.processes.output.PIPE_SIZE", 2**40)  # more than anybody may have
    size = enlarge(reader)
    os.close(reader)
    os.close(writer)
    assert 4096 <= size <= 2**20
