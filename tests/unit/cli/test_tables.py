"""Tables fit the terminal, never cut a reason, and print no control characters."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.cli.output.status_table import MAX_QUEUES, instance_lines, status_lines
from msctl.cli.output.table import Column, fitted, table
from msctl.cli.output.units import show_duration, show_size, sparkline
from msctl.model.snapshots import (
    BreakerState,
    BrokerMode,
    BrokerSnapshot,
    InstanceSnapshot,
    Kind,
    QueueSnapshot,
    ServiceSnapshot,
    Snapshot,
    State,
    TargetSnapshot,
)


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the width that pytest's workers set."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (187, "3m07s"), (7500, "2h05m"), (4 * 86400 + 3600, "4d01h")],
)
def test_durations_have_two_units_at_the_most(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes_are_in_the_largest_unit_that_leaves_one(size: int, text: str) -> None:
    assert show_size(size) == text


@pytest.mark.parametrize(
    ("values", "text"), [((), "-"), ((0, 0), "▁▁"), ((0, 1, 2), "▁▅█"), ((7,), "█"), ((0.1, 100), "▁█")]
)
def test_a_sparkline_has_a_character_for_each_value(values: tuple[float, ...], text: str) -> None:
    assert sparkline(values) == text


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_moves_the_cursor() -> None:
    lines = list(table(("A", "B"), [("long cell", "x"), ("y", ("red\x1b[2Jtext", 31))]))
    assert lines == ["A          B", "long cell  x", "y          red\\x1b[2Jtext"]


def payments() -> ServiceSnapshot:
    """Two instances: one with an open breaker, and one that is not ready."""
    target = TargetSnapshot(
        "payments", "payments-1", "http://127.0.0.1:7001", BreakerState.OPEN, 3, 4, 2, retry_in_s=3.2
    )
    first = InstanceSnapshot("payments-1", State.READY, address="127.0.0.1:7001", uptime_s=60, target=target)
    second = InstanceSnapshot("payments-2", State.BACKOFF, "exited with 1", restarts=2)
    return ServiceSnapshot("payments", Kind.COMMAND, State.BACKOFF, instances=(first, second))


def test_an_instance_is_shown_as_the_supervisor_and_the_gateway_see_it() -> None:
    header, first, second = (line.split("  ") for line in instance_lines([payments()]))
    assert [cell.strip() for cell in header if cell] == [
        *("INSTANCE", "STATE", "ADDRESS", "PID", "UPTIME", "RESTARTS", "CPU", "MEMORY"),
        *("BREAKER", "IN FLIGHT", "CONNECTIONS", "REASON"),
    ]
    assert [cell.strip() for cell in first if cell] == [
        *("payments-1", "ready", "127.0.0.1:7001", "-", "1m00s", "0", "-", "-"),
        *("open, retry in 4 s", "3", "4 (2 waiting)"),
    ]
    assert [cell.strip() for cell in second if cell] == [
        *("payments-2", "backoff", "-", "-", "-", "2", "-", "-", "-", "-", "-", "exited with 1"),
    ]


def test_a_hosted_instance_without_an_address_is_in_process() -> None:
    target = TargetSnapshot("a", "a-1", "in process", BreakerState.CLOSED)
    hosted = InstanceSnapshot("a-1", State.READY, target=target)
    (_, line) = instance_lines([ServiceSnapshot("a", Kind.HOSTED, State.READY, instances=(hosted,))])
    assert line.split() == ["a-1", "ready", "in", "process", "-", "-", "0", "-", "-", "closed", "0", "0"]


def test_a_status_has_instances_and_broker_as_asked() -> None:
    broker = BrokerSnapshot(
        BrokerMode.EMBEDDED, State.READY, "amqp://localhost/", queues=(QueueSnapshot("jobs", 1, 0, 0),)
    )
    snapshot = Snapshot("shop", None, "1", 42, 3.5, (payments(),), broker)
    first_words = {
        (with_broker, instances): [
            line.split()[0]
            for line in status_lines(snapshot, recent=True, broker=with_broker, instances=instances)
            if line
        ]
        for with_broker in (True, False)
        for instances in (True, False)
    }
    assert first_words[True, False] == ["project", "NAME", "payments", "broker", "QUEUE", "jobs"]
    shown = ["INSTANCE", "payments-1", "payments-2"]
    assert first_words[False, True] == ["project", "NAME", "payments", *shown]
    assert first_words[True, True] == ["project", "NAME", "payments", "broker", *shown, "QUEUE", "jobs"]
    assert first_words[False, False] == ["project", "NAME", "payments"]


LONG = "the probe of http://127.0.0.1:7001/healthz failed 3 times: connection refused; see: msctl logs orders"


def wide_snapshot() -> Snapshot:
    """A long reason, an AMQP URL, a service without metrics."""
    hosted = ServiceSnapshot(
        *("users", Kind.HOSTED, State.READY),
        addresses=("127.0.0.1:8081",),
        uptime_s=3723,
        cpu_percent=12.5,
        memory_bytes=54_525_952,
        requests_per_s=1234.5,
        p95_s=0.0123,
        recent=tuple(range(30)),
    )
    failed = ServiceSnapshot("orders", Kind.COMMAND, State.UNHEALTHY, LONG, ("127.0.0.1:8082",), pid=12345)
    broker = BrokerSnapshot(BrokerMode.EMBEDDED, State.READY, "amqp://guest@localhost:5672/")
    return Snapshot("shop", None, "1", 42, 3.5, (hosted, failed), broker)


@pytest.mark.parametrize("recent", [False, True], ids=["status", "watch"])
@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_status_fits_the_terminal_and_never_cuts_a_reason(
    monkeypatch: pytest.MonkeyPatch, width: int, recent: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    lines = list(status_lines(wide_snapshot(), recent=recent, instances=True))
    if width >= 60:
        assert max(map(len, lines)) <= width
    assert LONG.replace(" ", "") in "".join(lines).replace(" ", "")
    header = next(line for line in lines if line.startswith("NAME"))
    assert {"NAME", "STATE"} <= set(header.split())
    if width >= 80:
        assert "ADDRESS" in header


def test_of_many_queues_the_fullest_are_shown_and_the_others_counted() -> None:
    queues = tuple(QueueSnapshot(f"q-{number:05}", int(number > 9_000), 0, 0) for number in range(10_000))
    snapshot = replace(wide_snapshot(), broker=replace(wide_snapshot().broker, queues=queues))
    lines = [line for line in status_lines(snapshot) if "q-" in line or "queues" in line]
    assert len(lines) == MAX_QUEUES + 1
    assert lines[0].split() == ["q-09001", "1", "0", "0"]
    assert lines[-1].startswith("and 9,980 more queues with 979 messages")


def test_columns_go_only_when_the_table_is_too_wide_and_empty_ones_go_first() -> None:
    columns = ("NAME", Column("EMPTY", 1), Column("LEAST", 9), Column("MORE", 5))
    rows = [("a" * 10, "-", "b" * 10, "c" * 10)]
    assert next(iter(fitted(columns, rows, None))).split() == ["NAME", "EMPTY", "LEAST", "MORE"]
    assert next(iter(fitted(columns, rows, 60))).split() == ["NAME", "EMPTY", "LEAST", "MORE"]
    assert next(iter(fitted(columns, rows, 40))).split() == ["NAME", "LEAST", "MORE"]
    assert next(iter(fitted(columns, rows, 30))).split() == ["NAME", "MORE"]
    assert next(iter(fitted(columns, rows, 15))).split() == ["NAME"]


def test_reason_that_does_not_fit_follows_its_row() -> None:
    columns = ("NAME", Column("REASON", below=True))
    lines = list(fitted(columns, [("a", "short"), ("b", "word " * 10)], 30))
    assert lines == [
        "NAME  REASON",
        "a     short",
        "b",
        "    word word word word word",
        "    word word word word word",
    ]


def test_wide_characters_take_two_columns() -> None:
    lines = list(fitted(("NAME", "X"), [("订单", "1"), ("ab", "2")], None))
    assert lines == ["NAME  X", "订单  1", "ab    2"]


@pytest.mark.parametrize("text", ["a\nb", "a\tb", "a\x1b[31mb", "a\u202eb", "a\u2028b", "a\x9bb", "a\udcffb"])
def test_cells_show_one_line_of_visible_characters(text: str) -> None:
    (_, line) = fitted(("A",), [(text,)], None)
    assert line.isprintable()
    assert line.startswith("a\\")
