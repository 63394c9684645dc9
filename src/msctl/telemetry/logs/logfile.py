"""A file that keeps the last lines of a log, capped, for when the stack is gone."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from msctl.model.snapshots import LogLine

MAX_BYTES = 5 * 1024 * 1024


class LogFile:
    """Appends lines to `path`; at `max_bytes` it becomes `path`.1 and a new one begins."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")

    def write(self, line: LogLine) -> None:
        text = f"{line.time:.3f} {line.level} {line.service} | {line.text}"
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        self._handler.close()
