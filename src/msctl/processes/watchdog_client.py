"""The supervisor's end of the watchdog (watchdog.py): starts it and reports children to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

from msctl.forks import close_in_forks, keep_in_forks
from msctl.processes import process_table
from msctl.processes.child import spawn_error

_SCRIPT = Path(__file__).with_name("watchdog.py")
_CLOSE_S = 3.0


class WatchdogClient:
    """Ensures that no child outlives the stack, however its process ends."""

    def __init__(self, token: str) -> None:
        """`token` is the prefix of the marks of this stack's children."""
        self._token = token
        self._children: set[int] = set()
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the watchdog, unless it runs: before the first child, so that no crash precedes it.

        Raises SpawnError.
        """
        if self._process is not None and self._process.poll() is None:
            return
        try:
            self._start()
        except OSError as error:
            raise spawn_error("the watchdog", error) from error

    def add(self, pid: int) -> None:
        """Report a started child."""
        self._children.add(pid)
        self._send(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """Report that a child and its descendants are gone."""
        if pid in self._children:
            self._children.discard(pid)
            self._send(f"-{pid}\n")

    async def close(self) -> None:
        """Stop the watchdog; before it exits, it kills what is left."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(OSError):
            self._write(process, ".\n")
        _close_input(process)
        try:
            await asyncio.to_thread(process.wait, _CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _send(self, text: str) -> None:
        try:
            if self._process is not None:
                self._write(self._process, text)
        except OSError:  # the watchdog was killed
            with contextlib.suppress(OSError):  # no descriptors: the next start of a child tries again
                self._start()

    def _start(self) -> None:
        """Start a watchdog and report all current children."""
        former, self._process = self._process, None
        if former is not None:
            _close_input(former)
            former.wait()
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_SCRIPT), process_table.MARK, self._token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, process_table.MARK: process_table.HELPER},
            cwd="/",
            text=True,
            start_new_session=True,
        )
        if self._process.stdin is not None:
            close_in_forks(self._process.stdin.fileno())
        self._write(self._process, "".join(f"+{pid}\n" for pid in self._children))

    @staticmethod
    def _write(process: subprocess.Popen[str], text: str) -> None:
        if process.stdin is not None:
            process.stdin.write(text)
            process.stdin.flush()


def _close_input(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None and not process.stdin.closed:
        keep_in_forks(process.stdin.fileno())
        try:
            process.stdin.close()
        except OSError:
            return
