"""What is shown after a start."""

from __future__ import annotations

import pytest

from msctl.cli.output.service_lines import started_lines, state_lines
from msctl.model.snapshots import (
    BrokerMode,
    BrokerSnapshot,
    InstanceSnapshot,
    Kind,
    RegistrySnapshot,
    ServiceSnapshot,
    Snapshot,
    State,
)


def producer_line(gateway: State | None, producer: State = State.READY) -> str:
    """The line of a service that has no address of its own, beside a gateway in this state."""
    services = [ServiceSnapshot("producer", Kind.HOSTED, producer, routes=("/messages",))]
    if gateway is not None:
        services.append(ServiceSnapshot("gateway", Kind.HOSTED, gateway, addresses=("127.0.0.1:8080",)))
    broker = BrokerSnapshot(BrokerMode.EMBEDDED, State.READY, "amqp://localhost:5672/")
    snapshot = Snapshot("shop", None, "1", 1, 0.0, tuple(services), broker)
    return next(line for line in started_lines(snapshot, None, coloured=False) if line.startswith("producer"))


def test_a_service_behind_a_gateway_that_runs_is_reached_at_its_routes() -> None:
    assert producer_line(State.READY).endswith("/messages")


def test_a_service_behind_a_stopped_gateway_is_not_reachable_until_that_is_started() -> None:
    line = producer_line(State.STOPPED)
    assert "not reachable" in line
    assert "msctl start gateway" in line


def test_a_service_whose_routes_no_gateway_serves_is_not_reachable() -> None:
    assert "not reachable" in producer_line(None)


@pytest.mark.parametrize("state", [State.STOPPED, State.FATAL])
def test_a_service_that_does_not_run_says_nothing_of_the_gateway(state: State) -> None:
    assert producer_line(State.STOPPED, state).endswith("/messages")


def test_a_registry_that_is_away_is_said_after_a_start() -> None:
    broker = BrokerSnapshot(BrokerMode.EMBEDDED, State.READY, "amqp://localhost:5672/")
    registry = RegistrySnapshot("etcd", State.BACKOFF, "etcd://10.0.0.9:2379", "shop", "away for 3 s")
    snapshot = Snapshot("shop", None, "1", 1, 0.0, (), broker, registry=registry)
    line = next(line for line in started_lines(snapshot, None, coloured=False) if "registry" in line)
    assert all(part in line for part in ("backoff", "etcd://10.0.0.9:2379", "namespace shop", "away for 3 s"))


def test_a_service_that_runs_on_other_machines_says_so_when_it_is_stopped_here() -> None:
    found = InstanceSnapshot("web-1@10.0.0.2:80", State.READY, origin="etcd")
    service = ServiceSnapshot(
        "web", Kind.COMMAND, State.READY, "1 instance found in etcd", instances=(found,)
    )
    assert list(state_lines([service])) == ["web: ready (1 instance found in etcd)"]
