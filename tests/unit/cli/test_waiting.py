"""What is waited for is said once a change where nothing can be drawn, and drawn in place on a terminal."""

from __future__ import annotations

from msctl.cli.output.terminal import cells
from msctl.cli.output.waiting import STOPPING, LiveBlock, PlainLines, Waiting, waited_for
from msctl.model.snapshots import (
    BrokerMode,
    BrokerSnapshot,
    Kind,
    ServiceSnapshot,
    Snapshot,
    State,
)


def snapshot(*services: tuple[str, State, str], broker: State = State.READY) -> Snapshot:
    return Snapshot(
        "shop",
        None,
        "1",
        1,
        1.0,
        tuple(ServiceSnapshot(name, Kind.COMMAND, state, reason) for name, state, reason in services),
        BrokerSnapshot(BrokerMode.EMBEDDED, broker, "amqp://x/"),
    )


def test_only_what_keeps_a_start_waiting_is_shown() -> None:
    now = snapshot(
        ("api", State.STARTING, "refused"),
        ("db", State.READY, ""),
        ("old", State.STOPPED, ""),
        ("x", State.FATAL, ""),
    )
    assert [one.name for one in waited_for(now)] == ["api"]
    assert waited_for(now, states=STOPPING) == []
    assert [one.name for one in waited_for(now, states=frozenset(State), names={"db"})] == ["db"]


def test_a_broker_that_starts_is_shown_too() -> None:
    now = snapshot(("api", State.WAITING, "waiting on the broker"), broker=State.STARTING)
    assert [one.name for one in waited_for(now)] == ["api", "the broker"]


def test_seconds_that_pass_are_no_change() -> None:
    plain = PlainLines()

    def lines(state: State, reason: str) -> list[str]:
        now = snapshot(("api", state, reason))
        return plain.changes(waited_for(now), now)

    assert lines(State.STARTING, "connection refused (2.1 s)") == [
        "api is starting: connection refused (2.1 s)"
    ]
    assert lines(State.STARTING, "connection refused (2.6 s)") == []
    assert lines(State.STARTING, "GET /x: 404 Not Found (3.1 s)") != []
    assert lines(State.BACKOFF, "exit 1, retry in 0.5 s") != []
    assert lines(State.BACKOFF, "exit 1, retry in 0.1 s") == []
    assert lines(State.READY, "") == ["api is ready"]
    assert lines(State.READY, "") == []


def test_a_block_is_drawn_over_itself_and_fits_the_terminal() -> None:
    block = LiveBlock(lambda: (30, 10))
    waiting = [Waiting(f"service-{n}", State.STARTING, "x" * 50) for n in range(20)]
    first = block.draw(waiting)
    assert "\x1b" not in first
    assert all(cells(line) < 30 for line in first.splitlines())
    assert first.splitlines()[-1] == "and 13 more"
    assert block.draw(waiting[:1]).startswith("\x1b[8F\x1b[J")
    assert block.erase() == "\x1b[1F\x1b[J"
    assert block.erase() == ""
