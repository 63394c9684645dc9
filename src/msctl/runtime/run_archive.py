"""The recorded runs of a project for the page, read in threads: a disk may be slow."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from msctl.model import runs as model
from msctl.model.traces import Trace, TraceQuery, TraceSummary

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")


class RunArchive:
    """Implements model.RunView on the database at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def runs(self) -> Sequence[model.RunSummary]:
        from msctl.telemetry.runs import database

        return await self._read(database.summaries)

    async def compare(self, before: str, after: str) -> model.RunComparison:
        from msctl.telemetry.runs import database

        def read(connection: sqlite3.Connection) -> model.RunComparison:
            first, second = (
                database.details(connection, database.find(connection, name)) for name in (before, after)
            )
            return model.compare(first, second)

        return await self._read(read)

    async def traces_of(self, run: str, query: TraceQuery) -> Sequence[TraceSummary]:
        from msctl.telemetry.runs import database

        return await self._read(
            lambda connection: database.traces(connection, database.find(connection, run).run, query)
        )

    async def trace_of(self, run: str, trace_id: str) -> Trace:
        from msctl.telemetry.runs import database

        return await self._read(
            lambda connection: database.trace(connection, database.find(connection, run).run, trace_id)
        )

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        from msctl.telemetry.runs import database  # sqlite3 is not imported before somebody asks

        def read() -> T:
            with database.reading(self._path) as connection:
                return work(connection)

        return await asyncio.to_thread(read)
