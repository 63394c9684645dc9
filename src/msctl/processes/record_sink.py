"""The sink of one output stream of a child: its bytes go to the log file, its records to the log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from msctl.model.events import skipped_text
from msctl.telemetry.logs.records import RecordJoiner

REST_S = 0.05
"""Seconds without a line after which the last record counts as complete."""


class RecordSink:
    """Joins lines to records (see records.py).

    `keep` takes the bytes as they were read, `log` a record, `match` each line at once.
    """

    def __init__(
        self,
        keep: Callable[[bytes], None],
        log: Callable[[str], None],
        match: Callable[[str], None],
    ) -> None:
        self.raw = keep
        self._log = log
        self._match = match
        self._joiner = RecordJoiner()
        self._timer: asyncio.TimerHandle | None = None
        self._grown = False

    def line(self, text: str) -> None:
        record = self._joiner.add(text)
        if record is not None:
            self._log(record)
        self._match(text)
        self._grown = True
        if self._timer is None:
            self._wait()

    def skipped(self, count: int) -> None:
        self.flush()
        self._log(skipped_text(count))

    def flush(self) -> None:
        """Log the record that waits for its next line."""
        record = self._joiner.flush()
        if record is not None:
            self._log(record)

    def _wait(self) -> None:
        self._grown = False
        self._timer = asyncio.get_running_loop().call_later(REST_S, self._rested)

    def _rested(self) -> None:
        self._timer = None
        if self._grown:
            self._wait()
        else:
            self.flush()
