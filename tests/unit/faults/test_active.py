"""What faults draw from their seed, and that each of them ends."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from msctl.errors import UsageError
from msctl.faults.active import MAX_FAULTS, ActiveFault, FaultBook
from msctl.faults.http import BodyPace, HttpFaultPoint, HttpFaults
from msctl.faults.kinds import Place
from msctl.faults.parse import fault_from
from msctl.faults.spec import When
from tests.support.clock import FakeClock


def fault(kind: str, target: str = "users", *, seed: int = 1, **options: Any) -> ActiveFault:
    return ActiveFault("f1", fault_from({"kind": kind, "target": target, **options}), seed, 60.0)


def test_the_same_seed_hits_the_same_requests() -> None:
    def drawn(seed: int) -> list[bool]:
        one = fault("abort", share=30, seed=seed)
        return [one.strikes() for _ in range(200)]

    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)
    assert 30 < sum(drawn(5)) < 90


def test_hits_are_counted_and_a_whole_share_hits_all() -> None:
    one = fault("abort")
    assert all(one.strikes() for _ in range(10))
    assert one.hits == 10


@pytest.mark.parametrize("distribution", ["uniform", "normal", "pareto"])
def test_a_delay_varies_around_its_mean_and_is_never_negative(distribution: str) -> None:
    one = fault("delay", delay="100ms", jitter="100ms", distribution=distribution)
    drawn = [one.delay() for _ in range(5000)]
    assert min(drawn) >= 0.0
    assert len(set(drawn)) > 100
    assert 0.08 < sum(drawn) / len(drawn) < 0.13


def test_a_fault_ends_when_its_time_is_over_and_not_before() -> None:
    clock = FakeClock()
    book = FaultBook(clock, itertools.count(1).__next__)
    short = book.add(fault_from({"kind": "abort", "target": "users", "for": "5s"}))
    long = book.add(fault_from({"kind": "nack", "target": "q"}))
    assert [one.id for one in book.of(Place.HTTP)] == [short.id]
    clock.set(4.9)
    assert book.snapshot()[0].remaining_s == pytest.approx(0.1)
    assert short.ends_at == 5.0
    assert book.remove([short]) == [short]
    assert book.remove([short]) == []
    assert [one.id for one in book.snapshot()] == [long.id]
    assert book.add(fault_from({"kind": "nack", "target": "q"})).id == "f3"


def test_an_unknown_id_is_refused_with_the_ones_there_are() -> None:
    book = FaultBook(FakeClock(), lambda: 1)
    book.add(fault_from({"kind": "abort", "target": "users"}))
    with pytest.raises(UsageError) as refused:
        book.find(["f9"])
    assert "f1" in str(refused.value.hint)


def test_the_number_of_faults_is_bounded() -> None:
    book = FaultBook(FakeClock(), lambda: 1)
    for _ in range(MAX_FAULTS):
        book.add(fault_from({"kind": "abort", "target": "users"}))
    with pytest.raises(UsageError):
        book.add(fault_from({"kind": "abort", "target": "users"}))


def test_a_request_meets_the_faults_of_its_route_service_and_instance_alone() -> None:
    faults = HttpFaults([fault("abort", "/users", status=500)])
    assert faults.effect("/users", "users", "users-1", ()) is not None
    assert faults.effect("/orders", "users", "users-1", ()) is None
    assert faults.effect(None, "users", "users-1", ()) is None
    faults = HttpFaults([fault("abort", "instance:users-2")])
    assert faults.effect("/users", "users", "users-1", ()) is None
    assert faults.effect("/users", "users", "users-2", ()) is not None


def test_a_header_must_match_by_name_and_value() -> None:
    faults = HttpFaults([fault("abort", header=("x-user: alice", "x-any"))])

    def hit(*fields: tuple[bytes, bytes]) -> bool:
        return faults.effect("/", "users", "users-1", fields) is not None

    assert hit((b"X-User", b"alice"), (b"X-Any", b""))
    assert not hit((b"X-User", b"bob"), (b"X-Any", b""))
    assert not hit((b"X-User", b"alice"))


def test_several_faults_of_one_request_add_up() -> None:
    one = fault("delay", delay="1s")
    two = fault("delay", delay="2s")
    stop, later = fault("abort", status=500, when="after"), fault("abort", status=404)
    effect = HttpFaults([one, two, stop, later]).effect("/", "users", "users-1", ())
    assert effect is not None
    assert (effect.delay, effect.status, effect.when) == (3.0, 500, When.AFTER)
    slow, cut = fault("bandwidth", rate=1000), fault("truncate-body", bytes=7)
    effect = HttpFaults([slow, cut]).effect("/", "users", "users-1", ())
    assert effect is not None
    assert effect.body == BodyPace(50, 0.05, 7)


def test_a_point_without_a_fault_of_its_own_is_none() -> None:
    def active(*faults: ActiveFault) -> bool:
        point.set(faults)
        return point.active is not None

    point = HttpFaultPoint(routed=False)
    assert not active(fault("abort", "/users"))
    assert active(fault("abort"))
    assert not active()
