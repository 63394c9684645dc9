"""Runs are recorded, read and compared."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from msctl.errors import MsctlError, UsageError
from msctl.model.runs import RouteStats, RunDetails, compare
from msctl.model.traces import Span, SpanEvent, SpanKind, Trace, TraceQuery, TraceSummary
from msctl.telemetry.runs import database
from msctl.telemetry.runs.recorder import RunRecorder
from tests.support.clock import FakeClock
from tests.support.waiting import eventually


def kept(number: int, *, name: str = "GET /pay", error: bool = False) -> tuple[TraceSummary, Trace]:
    trace_id = f"{number:032x}"
    event = SpanEvent("exception", 1.0, {"exception.type": "ValueError"})
    span = Span(trace_id, "a", None, name, "api", SpanKind.SERVER, float(number), 0.5, error, {}, (event,))
    return (
        TraceSummary(trace_id, name, ("gateway", "api"), float(number), 0.5, 1, error, 500 if error else 200),
        Trace(trace_id, (span,)),
    )


def stats(requests: int = 10, errors: int = 0, *, route: str = "/pay") -> RouteStats:
    return RouteStats("api", "GET", route, requests, errors, 0.1, 0.2, 0.3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.sqlite"


def filled(path: Path, *runs: str) -> None:
    connection, _ = database.open_for_writing(path)
    for number, run in enumerate(runs):
        database.begin_run(connection, run, float(number), "1.0")
        database.save(connection, run, [kept(1), kept(2, error=True)], [stats(errors=1)])
        database.end_run(connection, run, number + 5.0)
    connection.close()


def test_traces_and_figures_of_a_run_are_read_back(path: Path) -> None:
    filled(path, "20260101T000000-1")
    with database.reading(path) as connection:
        run = database.find(connection, "2026")
        assert (run.requests, run.errors, run.traces, run.ended) == (10, 1, 2, 5.0)
        found = database.traces(connection, run.run, TraceQuery(errors=True))
        assert found == [kept(2, error=True)[0]]
        assert database.traces(connection, run.run, TraceQuery(("users",))) == []
        assert database.trace(connection, run.run, f"{2:032X}") == kept(2, error=True)[1]
        with pytest.raises(UsageError, match="ambiguous"):
            database.trace(connection, run.run, "00")
        with pytest.raises(UsageError, match="was not kept"):
            database.trace(connection, run.run, "%")


def test_a_run_is_named_by_its_beginning_or_counted_back(path: Path) -> None:
    filled(path, "20260101T000000-1", "20260102T000000-1")
    with database.reading(path) as connection:
        assert database.find(connection, "1").run == "20260102T000000-1"
        assert database.find(connection, "2").run == "20260101T000000-1"
        for unknown in ("3", "2027", "", "202601"):
            with pytest.raises(UsageError):
                database.find(connection, unknown)


def test_the_newest_runs_and_the_failed_traces_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "KEEP_TRACES", 3)
    filled(path, *(f"run-{number:02}" for number in range(database.KEEP_RUNS + 3)))
    connection, moved = database.open_for_writing(path)
    assert moved is None
    assert len(database.summaries(connection)) == database.KEEP_RUNS
    assert connection.execute("select count(*) from trace where run = 'run-00'").fetchone() == (0,)
    database.save(connection, "run-12", [kept(number) for number in range(10, 20)], [])
    found = database.traces(connection, "run-12", TraceQuery())
    assert [int(one.trace_id, 16) for one in found] == [19, 18, 2]
    connection.close()


@pytest.mark.parametrize("content", [b"not a database" * 200, b"SQLite format 3\0" + b"\xff" * 4000])
def test_a_damaged_file_is_moved_aside_and_a_new_one_begun(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(MsctlError, match="cannot read the runs"), database.reading(path):
        pass
    connection, moved = database.open_for_writing(path)
    connection.close()
    assert moved is not None
    assert moved.read_bytes() == content
    filled(path, "run-1")


def test_a_reader_of_a_locked_file_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(path, "run-1")
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    lock = sqlite3.connect(path)
    lock.execute("pragma locking_mode = exclusive")
    lock.execute("begin exclusive")
    with pytest.raises(MsctlError, match="locked") as raised, database.reading(path):
        pass
    lock.close()
    assert "try again" in (raised.value.hint or "")
    with database.reading(path) as connection:
        assert len(database.summaries(connection)) == 1


def test_a_file_of_another_version_is_moved_aside(path: Path) -> None:
    filled(path, "run-1")
    other = sqlite3.connect(path)
    other.execute("pragma user_version = 99")
    other.close()
    connection, moved = database.open_for_writing(path)
    connection.close()
    assert moved is not None


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"."):
        database.open_for_writing(path)
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_file_the_message_says_what_to_do(path: Path) -> None:
    with pytest.raises(MsctlError, match="no run") as raised, database.reading(path):
        pass
    assert "msctl up" in (raised.value.hint or "")


def test_a_recorder_writes_what_it_is_offered_and_the_end(path: Path) -> None:
    problems: list[str] = []
    recorder = RunRecorder(lambda: path, "run-1", "1.0", FakeClock(), problems.append)
    recorder.offer({kept(1)[0].trace_id: kept(1)}, [stats(3)])
    recorder.offer({}, [stats(7)])
    recorder.close()
    with database.reading(path) as connection:
        run = database.find(connection, "1")
    assert (run.requests, run.traces, run.ended is None, problems) == (7, 1, False, [])


def test_what_a_locked_database_kept_out_is_written_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    filled(path, "run-0")
    lock = sqlite3.connect(path)
    lock.execute("begin exclusive")
    refused = threading.Event()
    problems: list[str] = []

    def report(text: str) -> None:
        problems.append(text)
        refused.set()

    recorder = RunRecorder(lambda: path, "run-1", "1.0", FakeClock(), report)
    recorder.offer({kept(1)[0].trace_id: kept(1)}, [stats()])
    assert refused.wait(30)
    lock.rollback()
    lock.close()
    recorder.close(30)
    with database.reading(path) as connection:
        assert database.find(connection, "run-1").traces == 1
    assert len(problems) == 1
    assert "locked" in problems[0]


@pytest.mark.parametrize("harm", ["damaged", "deleted"])
def test_a_file_that_is_harmed_while_it_is_used_is_replaced(path: Path, harm: str) -> None:
    problems: list[str] = []
    said, connected = threading.Event(), threading.Event()

    def report(text: str) -> None:
        problems.append(text)
        said.set()

    def make_path() -> Path:
        connected.set()
        return path

    recorder = RunRecorder(make_path, "run-1", "1.0", FakeClock(), report)
    recorder.offer({kept(1)[0].trace_id: kept(1)}, [stats()])
    eventually(lambda: connected.is_set() and recorded(path, "run-1") == 1)
    if harm == "deleted":
        for file in path.parent.iterdir():
            file.unlink()
    else:
        with sqlite3.connect(path) as other:
            other.execute("pragma wal_checkpoint(truncate)")
        other.close()
        with path.open("r+b") as stream:
            stream.write(b"\xff" * path.stat().st_size)
    for number in range(2, 5):
        recorder.offer({kept(number)[0].trace_id: kept(number)}, [stats(9)])
        if harm == "damaged" and number == 2:
            assert said.wait(30)
    recorder.close(30)
    assert recorded(path, "run-1") == 3
    with database.reading(path) as connection:
        assert database.find(connection, "run-1").requests == 9
    aside = [file.name for file in path.parent.iterdir() if "damaged-" in file.name]
    assert len(aside) == (harm == "damaged")
    assert any("damaged" in text for text in problems) == (harm == "damaged")


def recorded(path: Path, run: str) -> int:
    try:
        with database.reading(path) as connection:
            return database.find(connection, run).traces
    except MsctlError:
        return 0


def test_a_run_that_begins_before_the_others_is_the_newest_all_the_same(path: Path) -> None:
    connection, _ = database.open_for_writing(path)
    for number in range(database.KEEP_RUNS):
        database.begin_run(connection, f"future-{number}", 4e9 + number, "1.0")
    database.begin_run(connection, "now", 1e9, "1.0")
    database.save(connection, "now", [kept(1)], [stats()])
    database.end_run(connection, "now", 0.9e9)  # the clock was set back meanwhile
    assert database.find(connection, "1").run == "now"
    assert database.find(connection, "1").lasted_s == 0
    assert [run.run for run in database.summaries(connection)].count("future-0") == 0
    connection.close()


def test_two_runs_are_compared_by_route_and_by_the_names_of_traces(path: Path) -> None:
    filled(path, "run-1", "run-2")
    with database.reading(path) as connection:
        before, after = (database.details(connection, database.find(connection, name)) for name in "21")
    before = RunDetails(before.summary, (stats(), stats(route="/old")), (("GET /pay", False),))
    after = RunDetails(
        after.summary, (stats(20, 2), stats(route="/new")), (("GET /pay", True), ("GET /a", False))
    )
    found = compare(before, after)
    assert [(c.before and c.before.route, c.after and c.after.route) for c in found.routes] == [
        (None, "/new"),
        ("/old", None),
        ("/pay", "/pay"),
    ]
    assert (found.new_traces, found.new_failures) == (("GET /a",), ("GET /pay",))
