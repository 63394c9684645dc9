"""A slow or closed reader never blocks the caller, and skipped lines are counted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pytest

from msctl.cli.output.background_writer import BackgroundWriter

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def read_to_the_end(pipe: Pipe, writer: BackgroundWriter) -> list[str]:
    """Read until the writer has closed, then all lines."""
    reader, end = pipe
    parts = []

    import threading

    def close() -> None:
        writer.close(60)
        os.close(end)

    closing = threading.Thread(target=close)
    closing.start()
    while part := os.read(reader, 65536):
        parts.append(part)
    closing.join()
    return b"".join(parts).decode().splitlines()


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    writer = BackgroundWriter()
    for number in range(5000):
        writer.put(pipe[1], str(number))
    assert read_to_the_end(pipe, writer) == [str(number) for number in range(5000)]


def test_pipe_that_nobody_reads_blocks_nobody_and_skipped_lines_are_counted(pipe: Pipe) -> None:
    writer = BackgroundWriter(max_lines=100)
    for number in range(50_000):
        writer.put(pipe[1], f"{number:099}")  # 5 MB through a pipe of 64 KiB
    lines = read_to_the_end(pipe, writer)
    skipped = [re.fullmatch(r"… ([\d,]+) lines skipped", line) for line in lines]
    counts = [int(match[1].replace(",", "")) for match in skipped if match]
    written = [int(line) for line, match in zip(lines, skipped, strict=True) if not match]
    assert sum(counts) + len(written) == 50_000
    assert written == sorted(written)
    assert written[-1] == 49_999
    assert max(counts) > 1000


def test_bytes_are_bounded_too(pipe: Pipe) -> None:
    writer = BackgroundWriter(max_bytes=1_000_000)
    for _ in range(50):
        writer.put(pipe[1], "x" * 100_000)
    lines = read_to_the_end(pipe, writer)
    assert any("skipped" in line for line in lines)
    assert len(lines) < 40


def test_closed_pipe_is_no_error_and_other_descriptors_go_on(pipe: Pipe) -> None:
    os.close(pipe[0])
    other = os.pipe()
    writer = BackgroundWriter()
    for number in range(100):
        writer.put(pipe[1], str(number))
        writer.put(other[1], str(number))
    lines = read_to_the_end(other, writer)
    os.close(other[0])
    assert lines == [str(number) for number in range(100)]


def test_close_does_not_wait_for_ever(pipe: Pipe) -> None:
    writer = BackgroundWriter()
    for _ in range(100):
        writer.put(pipe[1], "x" * 10_000)
    writer.close(0.01)
    # What is left is written, not into whatever gets the number of a closed descriptor next.
    assert sum(map(len, read_to_the_end(pipe, writer))) == 1_000_000


def test_non_blocking_descriptor_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe[1], False)
    writer = BackgroundWriter()
    for number in range(2000):
        writer.put(pipe[1], f"{number:0100}")
    assert len(read_to_the_end(pipe, writer)) == 2000
