"""A log file of limited size that outlives the stack."""

from __future__ import annotations

import logging
from logging.handlers import RotatingFileHandler
from pathlib import Path

from msctl.model.snapshots import LogLine

MAX_BYTES = 5 * 1024 * 1024


class LogFile:
    """Appends lines to `path`; at `max_bytes` it is renamed to `path`.1 and started again."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._handler = RotatingFileHandler(path, maxBytes=max_bytes, backupCount=1, encoding="utf-8")

    def write(self, line: LogLine) -> None:
        text = f"{line.time:.3f} {line.level} {line.service} | {line.text}"
        self._handler.emit(logging.makeLogRecord({"msg": text}))

    def close(self) -> None:
        self._handler.close()
