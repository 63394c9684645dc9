"""Faults of the broker and its messages happen, and the ledger says what was lost."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from msctl.simulation.confirms import confirm_in
from msctl.simulation.disk import CrashedError, Disk
from msctl.simulation.faults import FaultKind, Targets, draw
from msctl.simulation.ledger import Ledger
from tests.unit.simulation.own_system import own_project, run_own

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


@pytest.mark.parametrize(
    ("kind", "durable", "event"),
    [
        (FaultKind.CONFIRM_LOST, "process", "a confirm for jobs is lost"),
        (FaultKind.DUPLICATE, "process", "a message arrives twice in the queue jobs"),
        (FaultKind.REORDER, "process", "messages of the queue jobs change their order"),
        (FaultKind.BROKER_CRASH, "process", "the broker crashes in the middle of writing"),
        (FaultKind.BROKER_CRASH, "disk", "the broker crashes before it synchronizes"),
    ],
)
def test_a_fault_happens_and_everything_holds(
    tmp_path: Path, kind: FaultKind, durable: str, event: str
) -> None:
    project = own_project(tmp_path, durable)
    for seed in range(1, 31):
        found = run_own(project, seed, [kind])
        assert found.failure == ""
        if any(event in happening.what for happening in found.history):
            return
    raise AssertionError(f"no run in which {event}")


def test_each_kind_of_fault_is_drawn_where_it_can_be() -> None:
    targets = Targets(["a"], [("a", "broker"), ("gateway", "a")])
    drawn = draw(Random(1), list(FaultKind), targets, 5000)
    assert {fault.kind for fault in drawn} == set(FaultKind)
    assert all(fault.at < 5000 * 2 / 3 for fault in drawn)
    lost = {fault.parties for fault in drawn if fault.kind is FaultKind.CONFIRM_LOST}
    assert lost == {("a", "broker")}
    assert draw(Random(1), [FaultKind.CRASH], Targets([], []), 5000) == []


def test_a_confirm_is_found_among_other_frames() -> None:
    open_ok = b"\1\0\1\0\0\0\4\0\x14\0\x0b\xce"
    ack = b"\1\0\1\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\1\0\xce"
    assert confirm_in(open_ok + ack) == len(open_ok)
    assert confirm_in(open_ok) is None
    assert confirm_in(b"HTTP/1.1 200 OK\r\n\r\n") is None
    assert confirm_in(ack[:10]) is None


def test_the_ledger_knows_what_is_gone() -> None:
    ledger = Ledger()
    for number, position in enumerate((1, 1, 2, 0)):
        ledger.took("q", (b"", b"%d" % number), position)
    ledger.done("q", (b"", b"0"))
    assert ledger.lost("q", [(b"", b"1"), (b"", b"2"), (b"", b"3")]) == []
    assert ledger.lost("q", [(b"", b"1")]) == [b"2", b"3"]
    ledger.crashed(durable=1)
    assert ledger.lost("q", [(b"", b"1")]) == [b"3"]
    assert ledger.lost("other", []) == []


def test_a_loss_of_power_keeps_what_was_synchronized_and_some_of_the_rest() -> None:
    sizes = set()
    for seed in range(50):
        disk = Disk(Random(seed), lambda _when: None, lambda _after, _job: None)
        folder = disk.open(Path("/log"), "")
        folder.create(1, b"head")
        folder.write(1, b"safe")
        folder.synchronize(1)
        folder.sync()
        folder.write(1, b"uncertain")
        folder.create(2, b"head")
        disk.restarted(power_lost=True)
        assert folder.read(1).startswith(b"headsafe")
        sizes.add((len(folder.read(1)), tuple(folder.numbers())))
    assert len(sizes) > 10
    assert {numbers for _, numbers in sizes} == {(1,), (1, 2)}


def test_a_crash_tears_what_is_being_written() -> None:
    torn = set()
    for seed in range(30):
        disk = Disk(Random(seed), lambda _when: None, lambda _after, _job: None)
        folder = disk.open(Path("/log"), "")
        folder.create(1, b"")
        disk.crash_soon()
        with pytest.raises(CrashedError):
            for _ in range(10):
                folder.write(1, b"0123456789")
        torn.add(len(folder.read(1)) % 10)
    assert len(torn) > 5
