"""Records a run while it runs: every few seconds what is new, and the rest when it ends.

A thread of its own writes, so that a slow, locked or full disk delays nobody. It takes the latest state only:
while one write takes long, newer states are merged into one. An error is reported once a minute, and what
could not be written is written with the next state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.clock import Clock
from msctl.model.runs import RouteStats
from msctl.model.traces import Trace, TraceSummary

if TYPE_CHECKING:
    import sqlite3

REPORT_EVERY_S = 60.0
MAX_WAITING = 2000
"""Traces that wait to be written; beyond that the oldest are dropped."""


class RunRecorder:
    """Writes one run."""

    def __init__(
        self,
        make_path: Callable[[], Path],
        run: str,
        version: str,
        clock: Clock,
        report: Callable[[str], object],
    ) -> None:
        """`make_path` makes the database's folder and returns its path; it and `report` run in the thread."""
        self._make_path = make_path
        self._run_id = run
        self._version = version
        self._clock = clock
        self._report = report
        self._began = clock.time()
        self._traces: dict[str, tuple[TraceSummary, Trace]] = {}
        self._routes: Sequence[RouteStats] = ()
        self._changed = threading.Condition()
        self._wanted = False
        self._closing = False
        self._reported_at: float | None = None
        self._thread: threading.Thread | None = None

    def offer(self, traces: Mapping[str, tuple[TraceSummary, Trace]], routes: Sequence[RouteStats]) -> None:
        """Take the traces that are new or grew, by id, and the figures as they are now; never blocks."""
        with self._changed:
            if self._closing:
                return
            self._traces.update(traces)
            while len(self._traces) > MAX_WAITING:
                del self._traces[next(iter(self._traces))]
            self._routes = routes
            self._wanted = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="run recorder", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left and the end of the run, for at most `timeout` seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        while True:
            with self._changed:
                while not self._wanted and not self._closing:
                    self._changed.wait()
                traces, self._traces = self._traces, {}
                routes, closing = self._routes, self._closing
                self._wanted = False
            try:
                if connection is None:
                    connection = self._open()
                self._write(connection, traces, routes, ended=closing)
            except Exception as error:  # noqa: BLE001 - a disk that fails must not end the recording
                with self._changed:
                    self._traces = traces | self._traces
                self._tell(error)
            if closing:
                break
        if connection is not None:
            connection.close()

    def _open(self) -> sqlite3.Connection:
        from msctl.telemetry.runs import database  # sqlite3 is not imported before a stack runs

        connection, moved = database.open_for_writing(self._make_path())
        if moved is not None:
            self._report(f"the database of runs was damaged: it is now {moved.name}, and a new one was begun")
        database.begin_run(connection, self._run_id, self._began, self._version)
        return connection

    def _write(
        self,
        connection: sqlite3.Connection,
        traces: Mapping[str, tuple[TraceSummary, Trace]],
        routes: Sequence[RouteStats],
        *,
        ended: bool,
    ) -> None:
        from msctl.telemetry.runs import database

        database.save(connection, self._run_id, traces.values(), routes)
        if ended:
            database.end_run(connection, self._run_id, self._clock.time())

    def _tell(self, error: Exception) -> None:
        now = self._clock.monotonic()
        if self._reported_at is not None and now - self._reported_at < REPORT_EVERY_S:
            return
        self._reported_at = now
        self._report(f"cannot record the run: {error}")
