"""Sees that files were edited, by looking at their times and sizes once a second."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msctl.clock import AsyncClock

EVERY_S = 1.0
SETTLE_S = 0.1
"""For so long nothing must change any more: an editor or a version control may still be writing."""

Stamp = tuple[int, int, int] | None


class Watch:
    """Remembers how files were, from one call to the next."""

    def __init__(self, clock: AsyncClock) -> None:
        self._clock = clock
        self._seen: dict[Path, Stamp] = {}

    def look(self, files: Iterable[Path]) -> None:
        """Remember how these are now: what changes from here on is an edit."""
        self._seen = {file: _stamp(file) for file in files}

    async def edited(self, files: Iterable[Path]) -> None:
        """Return once one of these was written, made, replaced or deleted since it was last looked at."""
        now = {file: _stamp(file) for file in files}
        before = {file: self._seen.get(file, stamp) for file, stamp in now.items()}
        while now == before:
            await self._clock.sleep(EVERY_S)
            now = {file: _stamp(file) for file in now}
        while now != before:
            before = now
            await self._clock.sleep(SETTLE_S)
            now = {file: _stamp(file) for file in now}
        self._seen = now


def _stamp(file: Path) -> Stamp:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
