"""The snapshot of a broker that somebody else runs: why it does not answer."""

from __future__ import annotations

from msctl.brokers.external import ExternalBroker
from msctl.clock import SystemClock
from msctl.model.broker_spec import BrokerSpec
from msctl.model.snapshots import BrokerMode, State
from tests.support.ports import reserved_port


async def reason_at(host: str, port: int = 5672) -> tuple[State, str]:
    spec = BrokerSpec(BrokerMode.EXTERNAL, f"amqp://guest:guest@{host}:{port}/", url_given=True)
    snapshot = await ExternalBroker(spec, clock=SystemClock()).snapshot()
    return snapshot.state, snapshot.reason


async def test_host_that_does_not_resolve_is_named() -> None:
    assert await reason_at("no-such-host.invalid") == (
        State.UNHEALTHY,
        "the host 'no-such-host.invalid' cannot be resolved",
    )


async def test_port_without_a_server_is_told_from_a_host_that_does_not_resolve() -> None:
    with reserved_port() as port:
        assert await reason_at("127.0.0.1", port) == (State.UNHEALTHY, "nothing listens there")
