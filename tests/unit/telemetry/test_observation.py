"""The observers of a process follow its project, also after a reload."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.model.broker_spec import BrokerSpec
from msctl.model.exchange import Exchange
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RateLimitSpec, RouteSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, Snapshot, State
from msctl.telemetry.export import otlp
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.observation import Observation
from tests.support.clock import FakeClock
from tests.unit.telemetry.test_otlp_export import Collector, serve
from tests.unit.telemetry.test_requests import answer, get

PROJECT = Project(
    "shop",
    None,
    "msctl.toml",
    (ServiceSpec("a", app="a:b"),),
    GatewaySpec(access_log_sample=1.0),
    BrokerSpec(),
)


async def snapshot() -> Snapshot:
    return Snapshot("shop", None, "1", 1, 1.0, (), BrokerSnapshot(BrokerMode.EXTERNAL, State.READY, ""))


async def test_rate_limit_counters_of_new_routes_start_at_zero_and_old_ones_stay() -> None:
    def limiting(path: str) -> Project:
        route = RouteSpec(path, "a", rate_limit=RateLimitSpec(1))
        return replace(PROJECT, services=(ServiceSpec("a", app="a:b", routes=(route,)),))

    observation = Observation(limiting("/old"), LogHub(FakeClock()), {}, snapshot=snapshot, targets=tuple)
    observation.requests.rate_limited("/old")
    observation.reconfigure(limiting("/new"))
    lines = (await observation.page(""))[0].decode().splitlines()
    assert 'msctl_gateway_ratelimited_total{http_route="/old"} 1.0' in lines
    assert 'msctl_gateway_ratelimited_total{http_route="/new"} 0.0' in lines


async def test_spans_reach_the_collector_without_a_reader(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(otlp, "EVERY_S", 0.01)
    collector = Collector()
    server = await serve(collector)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": str(server.make_url(""))}
    observation = Observation(PROJECT, LogHub(FakeClock()), env, snapshot=snapshot, targets=tuple)
    observation.start()

    async def ask(path: str) -> None:
        async def gateway(exchange: Exchange) -> None:
            span = observation.requests.request_started(exchange, ())
            span.finished("a", path, 200, 0.001)
            answer(exchange)

        await get(gateway, path)

    await ask("/one")
    assert [span["name"] for span in await collector.spans()] == ["GET /one"]
    await ask("/two")
    await observation.stop()
    assert [span["name"] for span in await collector.spans()] == ["GET /two"]
    await server.close()
