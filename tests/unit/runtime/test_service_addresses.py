"""Which services have a service address."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec, ServiceAddresses
from msctl.model.project import Project
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.runtime.service_addresses import addressed

PROJECT = Project(
    name="shop",
    root=None,
    source="msctl.toml",
    services=(
        ServiceSpec("many", command=("many",), replicas=2),
        ServiceSpec("one", command=("one",)),
        ServiceSpec("hosted", app="app:app"),
        ServiceSpec("elsewhere", url="http://127.0.0.1:9"),
        ServiceSpec("nobody-asks", command=("many",), replicas=2),
        ServiceSpec(
            "front",
            command=("front",),
            depends_on=tuple(map(Dependency, ("many", "one", "hosted", "elsewhere"))),
        ),
    ),
    gateway=GatewaySpec(),
    broker=BrokerSpec(),
)


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (ServiceAddresses.OFF, []),
        (ServiceAddresses.REPLICATED, ["many"]),
        (ServiceAddresses.ALL, ["many", "one", "hosted"]),
    ],
)
def test_the_mode_selects_among_services_that_others_need(mode: ServiceAddresses, names: list[str]) -> None:
    project = replace(PROJECT, gateway=GatewaySpec(service_addresses=mode))
    assert [spec.name for spec in addressed(project)] == names


def test_a_project_without_a_gateway_balances_replicas() -> None:
    assert [spec.name for spec in addressed(replace(PROJECT, gateway=None))] == ["many"]
