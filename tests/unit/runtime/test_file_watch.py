"""Watching files: each edit is noticed once, and only when it is over."""

from __future__ import annotations

import asyncio
from pathlib import Path

from msctl.runtime.file_watch import POLL_S, QUIET_S, FileWatch
from tests.support.clock import FakeClock, settle


async def test_an_edit_is_noticed_once_it_is_over_and_only_once(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = FileWatch(clock)
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    waiting = asyncio.create_task(watch.edited([file, other]))
    await clock.advance(10 * POLL_S)
    assert not waiting.done()
    file.write_text("22")
    await clock.advance(POLL_S)
    file.write_text("333")
    await clock.advance(QUIET_S)
    assert not waiting.done(), "it is still being written"
    await clock.advance(QUIET_S)
    assert waiting.done()

    again = asyncio.create_task(watch.edited([file, other]))
    await clock.advance(10 * POLL_S)
    assert not again.done()
    other.write_text("made")
    await clock.advance(POLL_S + QUIET_S)
    assert again.done()


async def test_what_is_edited_while_nobody_looks_is_noticed_and_a_new_file_is_no_edit(tmp_path: Path) -> None:
    clock = FakeClock()
    watch = FileWatch(clock)
    file, other = tmp_path / "a", tmp_path / "b"
    file.write_text("1")
    first = asyncio.create_task(watch.edited([file]))
    await settle()
    file.unlink()
    await clock.advance(POLL_S + QUIET_S)
    assert first.done()
    other.write_text("it is looked at for the first time")
    second = asyncio.create_task(watch.edited([file, other]))
    await clock.advance(POLL_S)
    assert not second.done()
    second.cancel()
    file.write_text("back")
    third = asyncio.create_task(watch.edited([file, other]))
    await clock.advance(QUIET_S)
    assert third.done()
