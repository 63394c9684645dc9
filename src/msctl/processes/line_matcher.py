"""Matches a child's output with its `ready_log` in a process of its own, with a time limit per line.

A regular expression such as `(a+)+$` can take hours on one line, and Python cannot interrupt a search: on the
event loop it would stop every service. RE2 (google-re2) searches in linear time but refuses lookaround and
backreferences, has no wheel for musl, and costs 5 µs a line; a process costs as much in batches, 30 ms and
10 MB once, and keeps Python's syntax. It lives only until the service is ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from msctl.processes import process_table

_PROGRAM = Path(__file__).with_name("line_matcher_program.py")
LINE_TIMEOUT_S = 1.0
"""CPU time to search one line."""
MAX_WAITING = 4 * 1024 * 1024
"""Bytes of lines that wait for the process; more are skipped."""


class LineMatcher:
    """Searches lines for one expression until the first match."""

    def __init__(self, expression: str, matched: asyncio.Event, failed: Callable[[str], None]) -> None:
        """Sets `matched` at the first match; calls `failed` with the reason if the search is given up."""
        self._expression = expression
        self._matched = matched
        self._failed = failed
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: list[bytes] | None = []

    def start(self) -> None:
        """Start the process; lines are kept until it runs."""
        self._task = asyncio.create_task(self._run(), name="line-matcher")

    def add(self, line: str) -> None:
        """Search a line; never blocks."""
        data = line.encode("utf-8", "replace") + b"\n"
        if self._waiting is not None:
            self._waiting.append(data)
        elif self._process is not None and self._process.stdin is not None:
            transport = self._process.stdin.transport
            if not transport.is_closing() and transport.get_write_buffer_size() < MAX_WAITING:
                transport.write(data)

    async def stop(self) -> None:
        """End the process, matched or not."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(_PROGRAM), self._expression, str(LINE_TIMEOUT_S)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={**os.environ, process_table.MARK: process_table.HELPER},
            cwd="/",
            start_new_session=True,
        )
        try:
            waiting, self._waiting = self._waiting or [], None
            if process.stdin is not None:
                process.stdin.writelines(waiting)
            code = await process.wait()
            if code == 0:
                self._matched.set()
            elif code == -signal.SIGVTALRM:
                self._failed(f"ready_log took more than {LINE_TIMEOUT_S:g} s for one line; simplify it")
            else:
                self._failed(f"the process that searches for ready_log ended with code {code}")
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
