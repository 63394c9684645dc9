"""From bytes in a pipe to lines."""

from __future__ import annotations

import asyncio
import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.processes.output import LineSplitter, Output


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"on", b"e\ntw", b"o"], ["one", "two"]),
        ([b"windows\r\n"], ["windows"]),
        ([b"\n\n"], ["", ""]),
        ([b"caf\xc3", b"\xa9\n"], ["café"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b"0123456789", b"abc\nx\n"], ["0123456789… (3 more bytes cut)", "x"]),
        ([b"0123456789ab"], ["0123456789… (2 more bytes cut)"]),
    ],
)
def test_bytes_are_split_into_lines(pieces: list[bytes], lines: list[str]) -> None:
    splitter = LineSplitter(limit=10)
    assert [line for piece in pieces for line in splitter.feed(piece)] + splitter.flush() == lines


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_chunk_boundaries_do_not_change_the_lines(data: bytes, cuts: list[int]) -> None:
    whole, parts = LineSplitter(16), LineSplitter(16)
    edges = sorted({0, len(data), *(min(c, len(data)) for c in cuts)})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert [x for p in pieces for x in parts.feed(p)] + parts.flush() == whole.feed(data) + whole.flush()


async def test_data_left_in_the_pipe_is_read_on_close() -> None:
    reader, writer = os.pipe()
    lines: list[str] = []
    output = Output(reader, lines.append)
    os.write(writer, b"last words")
    output.close()  # while the other end is still open
    output.close()
    os.close(writer)
    assert lines == ["last words"]


async def test_a_pipe_at_its_end_is_closed() -> None:
    reader, writer = os.pipe()
    lines: list[str] = []
    got = asyncio.Event()

    def take(line: str) -> None:
        lines.append(line)
        got.set()

    output = Output(reader, take)
    os.write(writer, b"bye")
    os.close(writer)
    await got.wait()
    assert lines == ["bye"]
    output.close()


async def test_a_flood_is_read_with_pauses_and_without_loss() -> None:
    reader, writer = os.pipe()
    count = 0
    done = asyncio.Event()

    def take(line: str) -> None:
        nonlocal count
        count += 1
        if line == "end":
            done.set()

    output = Output(reader, take)
    data = b"x" * 99 + b"\n"

    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data * 20_000 + b"end\n")

    await asyncio.gather(asyncio.to_thread(write), done.wait())
    output.close()
    assert count == 20_001


async def test_closing_during_a_pause_works() -> None:
    reader, writer = os.pipe()
    first = asyncio.Event()
    output = Output(reader, lambda line: first.set())
    os.set_blocking(writer, False)
    while True:
        try:
            os.write(writer, b"x\n" * 2048)
        except BlockingIOError:
            break
    await first.wait()
    output.close()
    os.close(writer)
