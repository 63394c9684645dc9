"""A service's standing is what the supervisor and the gateway know of it, together."""

from __future__ import annotations

from msctl.model.service_health import seen_by_gateway
from msctl.model.snapshots import BreakerState, InstanceSnapshot, Kind, ServiceSnapshot, State, TargetSnapshot


def service(name: str, count: int, *, reason: str = "") -> ServiceSnapshot:
    instances = tuple(InstanceSnapshot(f"{name}-{n}", State.READY) for n in range(1, count + 1))
    return ServiceSnapshot(name, Kind.COMMAND, State.READY, reason, instances=instances)


def target(instance: str, breaker: BreakerState, retry_in_s: float | None = None) -> TargetSnapshot:
    return TargetSnapshot(
        instance.rpartition("-")[0], instance, "http://127.0.0.1:1", breaker, retry_in_s=retry_in_s
    )


def reason(found: ServiceSnapshot, *targets: TargetSnapshot) -> str:
    return seen_by_gateway([found], targets)[0].reason


def test_each_instance_has_its_own_target_and_others_have_none() -> None:
    second = target("a-2", BreakerState.CLOSED)
    found = seen_by_gateway([service("a", 2), service("b", 1)], [second, target("c-1", BreakerState.OPEN, 1)])
    assert [[instance.target for instance in one.instances] for one in found] == [[None, second], [None]]


def test_each_address_of_an_external_instance_is_an_instance() -> None:
    far = ServiceSnapshot("a", Kind.REMOTE, State.READY, instances=(InstanceSnapshot("a-1", State.READY),))
    addresses = [
        TargetSnapshot("a", f"a-1@127.0.0.{n}", f"http://127.0.0.{n}:80", BreakerState.CLOSED) for n in (1, 2)
    ]
    [seen] = seen_by_gateway([far], addresses)
    assert [(one.name, one.address, one.target) for one in seen.instances] == [
        (target.instance, target.address, target) for target in addresses
    ]


def test_nothing_is_said_while_every_breaker_is_closed() -> None:
    closed = target("a-1", BreakerState.CLOSED)
    assert reason(service("a", 1), closed) == ""
    assert reason(service("a", 1, reason="1 of 2 ready"), closed) == "1 of 2 ready"


def test_an_open_breaker_is_named_with_when_it_tries_again() -> None:
    opened = target("a-2", BreakerState.OPEN, 3.2)
    assert reason(service("a", 2), target("a-1", BreakerState.CLOSED), opened) == (
        "breaker open for a-2, retry in 4 s"
    )
    assert reason(service("a", 2, reason="1 of 2 ready"), opened) == (
        "1 of 2 ready; breaker open for a-2, retry in 4 s"
    )


def test_a_half_open_breaker_waits_for_a_request() -> None:
    half = target("a-1", BreakerState.HALF_OPEN, 0.0)
    assert reason(service("a", 1), half) == "breaker half-open for a-1, the next request is a probe"


def test_of_many_open_breakers_some_are_named_and_the_soonest_is_awaited() -> None:
    many = [target(f"a-{n}", BreakerState.OPEN, 10.0 - n) for n in range(1, 6)]
    assert reason(service("a", 5), *many) == "breaker open for a-1, a-2, a-3, 2 more, retry in 5 s"
