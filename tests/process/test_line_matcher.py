"""Lines are searched in a process with a time limit, so that no expression can stop the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import psutil
import pytest

from msctl.processes import line_matcher
from msctl.processes.line_matcher import LineMatcher

EVIL = r"(a+)+$"
LINE = "a" * 60 + "!"
"""Python needs 2 ** 60 steps to see that EVIL does not match it."""


@pytest.fixture(autouse=True)
async def no_process_is_left() -> AsyncIterator[None]:
    before = set(psutil.Process().children())
    yield
    assert not set(psutil.Process().children()) - before


async def test_the_first_match_sets_the_event() -> None:
    matched = asyncio.Event()
    matcher = LineMatcher(r"listening on \d+", matched, pytest.fail)
    matcher.start()
    matcher.add("starting")
    matcher.add("now listening on 8080")
    async with asyncio.timeout(60):
        await matched.wait()
    await matcher.stop()


@pytest.mark.parametrize("expression", [r"(?<=up )ready", r"(\w+) \1", "é$"])
async def test_pythons_whole_syntax_is_supported(expression: str) -> None:
    matched = asyncio.Event()
    matcher = LineMatcher(expression, matched, pytest.fail)
    matcher.start()
    matcher.add("up ready ready é")
    async with asyncio.timeout(60):
        await matched.wait()
    await matcher.stop()


async def test_lines_after_the_start_are_searched_too() -> None:
    matched = asyncio.Event()
    matcher = LineMatcher("ready", matched, pytest.fail)
    matcher.start()
    while matcher._process is None:
        await asyncio.sleep(0)
    matcher.add("one")
    matcher.add("ready")
    async with asyncio.timeout(60):
        await matched.wait()
    await matcher.stop()


async def test_a_search_that_takes_too_long_is_given_up_and_the_loop_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(line_matcher, "LINE_TIMEOUT_S", 0.1)
    reasons: list[str] = []
    failed = asyncio.Event()

    def fail(reason: str) -> None:
        reasons.append(reason)
        failed.set()

    matched = asyncio.Event()
    matcher = LineMatcher(EVIL, matched, fail)
    matcher.start()
    began = time.process_time()
    matcher.add(LINE)
    async with asyncio.timeout(60):
        await failed.wait()
    assert "more than 0.1 s" in reasons[0]
    assert not matched.is_set()
    assert time.process_time() - began < 5  # of this process: the search took place in another
    matcher.add("ignored")
    await matcher.stop()


async def test_a_matcher_can_be_stopped_during_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_matcher, "LINE_TIMEOUT_S", 1000.0)
    matcher = LineMatcher(EVIL, asyncio.Event(), pytest.fail)
    matcher.start()
    matcher.add(LINE)
    while matcher._process is None:
        await asyncio.sleep(0)
    await matcher.stop()


async def test_a_flood_without_a_reader_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_matcher, "MAX_WAITING", 100_000)
    matcher = LineMatcher(EVIL, asyncio.Event(), lambda _: None)
    matcher.start()
    while matcher._process is None:
        await asyncio.sleep(0)
    process = matcher._process
    matcher.add(LINE)
    for _ in range(100):
        matcher.add("x" * 10_000)
    assert process.stdin is not None
    assert process.stdin.transport.get_write_buffer_size() <= 120_000
    await matcher.stop()
