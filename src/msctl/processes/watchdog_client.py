"""The supervisor's end of the watchdog: started with the first child, told of each, gone with the last."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from msctl.processes import process_table

_SCRIPT = Path(__file__).with_name("watchdog.py")
_CLOSE_S = 3.0


class Guard:
    """Sees to it that no child outlives the stack, however that ends."""

    def __init__(self, token: str) -> None:
        """`token` is how the marks of this stack's children begin."""
        self._token = token
        self._children: set[int] = set()
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def add(self, pid: int) -> None:
        """Guard a child that was just started."""
        self._children.add(pid)
        self._say(f"+{pid}\n")

    def remove(self, pid: int) -> None:
        """A child has ended, and nothing of it is left."""
        if pid in self._children:
            self._children.discard(pid)
            self._say(f"-{pid}\n")

    async def close(self) -> None:
        """End the watchdog, which looks once more for anything that is left."""
        process, self._process = self._process, None
        if process is None:
            return
        _hang_up(process)
        try:
            await asyncio.to_thread(process.wait, _CLOSE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _say(self, words: str) -> None:
        if self._process is None:
            self._start()
            return
        try:
            self._tell(self._process, words)
        except OSError:  # somebody has killed it
            _hang_up(self._process)
            self._process.wait()
            self._start()

    def _start(self) -> None:
        """Start a watchdog and tell it of all children that there are."""
        self._process = subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, "-I", "-S", str(_SCRIPT), process_table.MARK, self._token],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            text=True,
            start_new_session=True,
        )
        self._tell(self._process, "".join(f"+{pid}\n" for pid in self._children))

    @staticmethod
    def _tell(process: subprocess.Popen[str], words: str) -> None:
        if process.stdin is not None:
            process.stdin.write(words)
            process.stdin.flush()


def _hang_up(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        try:
            process.stdin.close()
        except OSError:
            return
