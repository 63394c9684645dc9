"""Watches files for edits by polling their times and sizes once a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msctl.clock import AsyncClock

POLL_S = 1.0
QUIET_S = 0.1
"""Seconds without another change, after which an edit is complete: an editor may still be writing."""

Stamp = tuple[int, int, int] | None


class FileWatch:
    """Remembers the state of files from one call to the next."""

    def __init__(self, clock: AsyncClock) -> None:
        self._clock = clock
        self._seen: dict[Path, Stamp] = {}

    def look(self, files: Iterable[Path]) -> None:
        """Remember the present state of these: changes from here on are edits."""
        self._seen = {file: _stamp(file) for file in files}

    async def edited(self, files: Iterable[Path]) -> None:
        """Return once one of these has been written, created, replaced or deleted since the last look."""
        now = {file: _stamp(file) for file in files}
        before = {file: self._seen.get(file, stamp) for file, stamp in now.items()}
        while now == before:
            await self._clock.sleep(POLL_S)
            now = {file: _stamp(file) for file in now}
        while now != before:
            before = now
            await self._clock.sleep(QUIET_S)
            now = {file: _stamp(file) for file in now}
        self._seen = now


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
