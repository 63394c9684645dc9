"""Input and output never block the loop, are complete, and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from msctl.cli.messaging.streams import lines, read_all, write_all
from msctl.errors import MsctlError, UsageError


def pipe_with(data: bytes) -> int:
    """Return the reading end of a closed pipe that contains `data`."""
    reader, writer = os.pipe()
    os.write(writer, data)
    os.close(writer)
    return reader


async def test_lines_come_without_their_ends_across_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.cli.messaging.streams.CHUNK", 3)
    fd = pipe_with(b"first\n\nthird\r\nlast")
    found = [line async for batch in lines(fd, limit=10, name="x") for line in batch]
    assert found == [b"first", b"", b"third\r", b"last"]
    os.close(fd)


async def test_a_line_over_the_limit_is_refused_before_it_is_all_read() -> None:
    fd = pipe_with(b"short\n" + b"x" * 20)
    got: list[bytes] = []
    with pytest.raises(UsageError, match="a line of x is larger than 10 bytes"):
        async for batch in lines(fd, limit=10, name="x"):
            got += batch
    assert got == [b"short"]
    os.close(fd)


async def test_all_of_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    fd = os.open(path, os.O_RDONLY)
    assert await read_all(fd, limit=10, name="f") == b"0123456789"
    os.lseek(fd, 0, os.SEEK_SET)
    with pytest.raises(UsageError, match="f is larger than 9 bytes"):
        await read_all(fd, limit=9, name="f")
    os.close(fd)


async def test_a_directory_cannot_be_read(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(UsageError, match="cannot read d: is a directory"):
        await read_all(fd, limit=9, name="d")
    with pytest.raises(UsageError, match="cannot read d: is a directory"):
        async for _ in lines(fd, limit=9, name="d"):
            pass
    os.close(fd)


async def test_slow_reader_does_not_block_the_loop() -> None:
    reader, writer = os.pipe()
    data = bytes(range(256)) * 2000
    writing = asyncio.create_task(write_all(writer, data))
    await asyncio.sleep(0)
    os.set_blocking(reader, False)
    got = b""
    while len(got) < len(data):
        with contextlib.suppress(BlockingIOError):
            got += os.read(reader, 65536)
        await asyncio.sleep(0)
    await writing
    assert got == data
    os.close(reader)
    os.close(writer)


async def test_closed_reader_is_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        await write_all(writer, b"x")
    os.close(writer)


async def test_full_disk_is_an_error_message() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    with pytest.raises(MsctlError, match="cannot write the output: no space left"):
        await write_all(fd, b"x")
    os.close(fd)
