"""Records a run while it runs: every few seconds what is new, and the rest when it ends.

A background writer takes the latest state only: while one write takes long, newer states are merged into one.
An error is reported once a minute, and what could not be written is written with the next state.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.clock import Clock
from msctl.model.runs import RouteStats
from msctl.model.traces import Trace, TraceSummary
from msctl.telemetry.background_writer import BackgroundWriter, Reports

if TYPE_CHECKING:
    import sqlite3

_Traces = Mapping[str, tuple[TraceSummary, Trace]]

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
        self._reports = Reports(clock, report)
        self._began = clock.time()
        self._traces: dict[str, tuple[TraceSummary, Trace]] = {}
        self._routes: Sequence[RouteStats] = ()
        self._wanted = False
        # Used in the thread alone:
        self._path: Path | None = None
        self._connection: sqlite3.Connection | None = None
        self._writer = BackgroundWriter("run recorder", self._take, self._record, self._finish)

    def offer(self, traces: _Traces, routes: Sequence[RouteStats]) -> None:
        """Take the traces that are new or grew, by id, and the figures as they are now; never blocks."""
        with self._writer.changing() as accepting:
            if not accepting:
                return
            self._traces.update(traces)
            while len(self._traces) > MAX_WAITING:
                del self._traces[next(iter(self._traces))]
            self._routes = routes
            self._wanted = True

    def close(self, timeout: float = 2.0) -> None:
        """Write what is left and the end of the run, for at most `timeout` seconds."""
        self._writer.close(timeout)

    def _take(self) -> tuple[_Traces, Sequence[RouteStats]] | None:
        if not self._wanted:
            return None
        self._wanted = False
        traces, self._traces = self._traces, {}
        return traces, self._routes

    def _record(self, waiting: tuple[_Traces, Sequence[RouteStats]]) -> None:
        self._write(*waiting, ended=False)

    def _finish(self) -> None:
        """Write what failed before, and the end."""
        self._write(self._traces, self._routes, ended=True)
        self._disconnect()

    def _write(self, traces: _Traces, routes: Sequence[RouteStats], *, ended: bool) -> None:
        from msctl.telemetry.runs import database  # sqlite3 is not imported before a stack runs

        try:
            if self._path is None or not self._path.exists():
                self._disconnect()  # somebody deleted the file: what is written to it now would be lost
            if self._connection is None:
                self._connection = self._open()
            database.save(self._connection, self._run_id, traces.values(), routes)
            if ended:
                database.end_run(self._connection, self._run_id, self._clock.time())
        except Exception as error:  # noqa: BLE001 - a disk that fails must not end the recording
            if not ended:
                with self._writer.changing():
                    self._traces = {**traces, **self._traces}
            self._reports.say("", f"cannot record the run: {error}")
            if database.is_damage(error):
                self._begin_again()

    def _open(self) -> sqlite3.Connection:
        from msctl.telemetry.runs import database

        self._path = self._make_path()
        connection, moved = database.open_for_writing(self._path)
        if moved is not None:
            self._report(f"the database of runs was damaged: it is now {moved.name}, and a new one was begun")
        try:
            database.begin_run(connection, self._run_id, self._began, self._version)
        except BaseException:  # the file is locked, or the disk full
            connection.close()
            raise
        return connection

    def _begin_again(self) -> None:
        """Move a file aside that was damaged while it was in use: the next write begins a new one."""
        from msctl.telemetry.runs import database

        self._disconnect()
        if self._path is not None:
            with contextlib.suppress(OSError):
                moved = database.move_aside(self._path)
                self._report(f"the database of runs was damaged: it is now {moved.name}")

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # a file that is damaged, or gone
                connection.close()
