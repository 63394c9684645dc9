"""The database of a project's runs: traces and figures that outlive the stack. SQLite, one file a project.

Written by one thread of the running stack, read by verbs at any time (WAL, so that neither waits for the
other). A file that is not a database, or of another version, is moved aside and a new one begun. Bounded:
`KEEP_RUNS` runs, and `KEEP_TRACES` traces of each, failed ones longest. The newest run is the one that was
begun last, whatever the clock said then.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from msctl.errors import MsctlError, UsageError
from msctl.model.runs import RouteStats, RunDetails, RunSummary
from msctl.model.traces import Trace, TraceQuery, TraceSummary
from msctl.telemetry.tracing.search import status_matcher, text_matcher

VERSION = 1
KEEP_RUNS = 10
KEEP_TRACES = 2000
BUSY_S = 2.0
"""Seconds that a locked database is waited for."""

_SCHEMA = """
create table run (id text primary key, began real not null, ended real, version text not null);
create table trace (
  run text not null references run (id) on delete cascade,
  id text not null, name text not null, services text not null, start real not null, duration real not null,
  spans integer not null, error integer not null, status integer, document blob not null,
  primary key (run, id)
) without rowid;
create table route (
  run text not null references run (id) on delete cascade,
  service text not null, method text not null, route text not null, requests integer not null,
  errors integer not null, p50 real not null, p95 real not null, p99 real not null,
  primary key (run, service, method, route)
) without rowid;
"""
_SUMMARIES = """
select id, began, ended, version,
  (select coalesce(sum(requests), 0) from route where run = run.id),
  (select coalesce(sum(errors), 0) from route where run = run.id),
  (select count(*) from trace where run = run.id),
  max(0, coalesce(ended, (select max(start + duration) from trace where run = run.id), began) - began)
from run order by rowid desc
"""
_DAMAGE = ("malformed", "not a database", "no such table", "already exists")
"""What SQLite says of a file that is damaged, rather than locked, full or out of reach."""
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Trace)


class DamagedError(Exception):
    """The file is not a database of runs; the text says why."""


def open_for_writing(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """Open or create the database; a damaged file is moved aside, and its new path returned.

    The folder exists and is private. Raises OSError and sqlite3.Error.
    """
    moved = None
    try:
        connection = _open(path)
    except DamagedError:
        moved = move_aside(path)
        connection = _open(path)
    return connection, moved


def move_aside(path: Path) -> Path:
    """Move a damaged file out of the way of a new one; returns its new path. Raises OSError."""
    moved = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    path.rename(moved)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return moved


def is_damage(error: Exception) -> bool:
    """Whether a failed write says that the file is no database any more."""
    return isinstance(error, DamagedError) or (
        isinstance(error, sqlite3.DatabaseError)
        and not isinstance(error, sqlite3.IntegrityError)
        and any(sign in str(error) for sign in _DAMAGE)
    )


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the database to read it. Raises MsctlError if there is none, or it cannot be read."""
    try:
        if not path.exists():
            raise MsctlError("no run of this project has been recorded", hint="start it: msctl up")
        with closing(_open(path, create=False)) as connection:
            yield connection
    except (DamagedError, OSError, sqlite3.Error) as error:
        hint = "the next msctl up begins a new file" if is_damage(error) else None
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            hint = "another program holds it; try again when that has ended"
        raise MsctlError(f"cannot read the runs in {path}: {error}", hint=hint) from error


def begin_run(connection: sqlite3.Connection, run: str, began: float, version: str) -> None:
    """Add a run, and drop the oldest beyond `KEEP_RUNS`."""
    with connection:
        connection.execute(
            "insert or ignore into run (id, began, version) values (?, ?, ?)", (run, began, version)
        )
        connection.execute(
            "delete from run where id not in (select id from run order by rowid desc limit ?)",
            (KEEP_RUNS,),
        )


def end_run(connection: sqlite3.Connection, run: str, ended: float) -> None:
    with connection:
        connection.execute("update run set ended = ? where id = ?", (ended, run))


def save(
    connection: sqlite3.Connection,
    run: str,
    traces: Iterable[tuple[TraceSummary, Trace]],
    routes: Iterable[RouteStats],
) -> None:
    """Keep these traces and figures in place of earlier ones of the same id or route."""
    with connection:
        connection.executemany(
            "insert or replace into trace values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    run,
                    one.trace_id,
                    one.name,
                    " ".join(one.services),
                    one.start,
                    one.duration_s,
                    one.spans,
                    one.error,
                    one.status,
                    _encoder.encode(trace),
                )
                for one, trace in traces
            ),
        )
        connection.executemany(
            "insert or replace into route values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    run,
                    one.service,
                    one.method,
                    one.route,
                    one.requests,
                    one.errors,
                    one.p50_s,
                    one.p95_s,
                    one.p99_s,
                )
                for one in routes
            ),
        )
        connection.execute(
            "delete from trace where run = ?1 and id not in "
            "(select id from trace where run = ?1 order by error desc, start desc limit ?2)",
            (run, KEEP_TRACES),
        )


def summaries(connection: sqlite3.Connection) -> list[RunSummary]:
    """All runs, newest first."""
    return [RunSummary(*row) for row in connection.execute(_SUMMARIES)]


def find(connection: sqlite3.Connection, named: str) -> RunSummary:
    """The run whose name begins with `named`; a number counts back: 1 is the newest. Raises UsageError."""
    runs = summaries(connection)
    if named.isdecimal() and 1 <= int(named) <= len(runs):
        return runs[int(named) - 1]
    found = [run for run in runs if run.run.startswith(named)]
    if len(found) != 1:
        problem = "not found" if not found else f"ambiguous: {len(found)} runs begin so"
        raise UsageError(f"run {named!r} is {problem}", hint="list them: msctl runs")
    return found[0]


def details(connection: sqlite3.Connection, run: RunSummary) -> RunDetails:
    routes = connection.execute(
        "select service, method, route, requests, errors, p50, p95, p99 from route where run = ?", (run.run,)
    )
    names = connection.execute("select name, max(error) from trace where run = ? group by name", (run.run,))
    return RunDetails(
        run,
        tuple(RouteStats(*row) for row in routes),
        tuple((name, bool(error)) for name, error in names),
    )


def traces(connection: sqlite3.Connection, run: str, query: TraceQuery) -> Sequence[TraceSummary]:
    """The kept traces of a run that match, newest first."""
    has_text, has_status = text_matcher(query.text), status_matcher(query.status)
    rows = connection.execute(
        "select id, name, services, start, duration, spans, error, status, document from trace "
        "where run = ? and duration >= ? and error >= ? order by start desc",
        (run, query.min_duration_s, query.errors),
    )
    found: list[TraceSummary] = []
    for trace_id, name, services, start, duration, spans, error, status, document in rows:
        names = tuple(services.split())
        if (query.services and not set(names) & set(query.services)) or not has_status(status):
            continue
        whole = _decoder.decode(document)
        if query.text and not has_text(
            (span.service, span.name, span.attributes, span.events) for span in whole.spans
        ):
            continue
        found.append(
            TraceSummary(trace_id, name, names, start, duration, spans, bool(error), status, whole.path)
        )
        if len(found) == query.limit:
            break
    return found


def trace(connection: sqlite3.Connection, run: str, trace_id: str) -> Trace:
    """The trace with this id or unambiguous prefix. Raises UsageError."""
    rows = connection.execute(
        "select document from trace where run = ? and substr(id, 1, ?) = ? limit 2",
        (run, len(trace_id), trace_id.lower()),
    ).fetchall()
    if len(rows) != 1 or not trace_id:
        problem = "was not kept" if not rows else "is ambiguous: give more of it"
        raise UsageError(
            f"trace {trace_id!r} of run {run} {problem}", hint="list them: msctl traces --run RUN"
        )
    return _decoder.decode(rows[0][0])


def _open(path: Path, *, create: bool = True) -> sqlite3.Connection:
    """Raises DamagedError for a file that is not ours or not a database."""
    if create:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        raise DamagedError("it is not a file of this user")
    mode = "rwc" if create else "rw"
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=BUSY_S, check_same_thread=False
    )
    try:
        version = connection.execute("pragma user_version").fetchone()[0]
        connection.execute("pragma foreign_keys = on")
        if version == 0 and create:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            connection.executescript(f"begin; {_SCHEMA} pragma user_version = {VERSION}; commit;")
        elif version != VERSION:
            raise DamagedError(f"its version is {version}, not {VERSION}")
        else:
            connection.execute("select count(*) from run").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if any(sign in str(error) for sign in _DAMAGE):
            raise DamagedError(str(error)) from error
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DamagedError(str(error)) from error
    except BaseException:
        connection.close()
        raise
    return connection
