"""What a stack announces of itself, where, and what it cannot announce."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.discovery.announcement import Announcement, announcement
from msctl.model.broker_spec import BrokerSpec
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import Exchange
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import Isolation, ServiceSpec

ANYWHERE = "0.0.0.0"
HERE = "10.0.0.7"


async def handle(_exchange: Exchange) -> None:
    raise AssertionError("unreachable: nothing is sent")


HOSTED = ServiceSpec(
    "users",
    app="x:y",
    host=ANYWHERE,
    port=8081,
    routes=(RouteSpec("/users", "users"),),
    health="/ok",
    weight=3,
)


def project(*services: ServiceSpec) -> Project:
    return Project(
        "shop", None, "msctl.toml", (*services, ServiceSpec("gateway")), GatewaySpec(), BrokerSpec()
    )


def announced(spec: ServiceSpec, *endpoints: Endpoint, advertise: str = HERE) -> Announcement:
    ready = {spec.name: endpoints}
    return announcement(project(spec), lambda name: ready.get(name, ()), advertise=advertise, stack="a")


def test_a_hosted_service_is_announced_at_its_port_with_what_others_want_to_know() -> None:
    endpoint = Endpoint("users", "users-1", base_url="http://127.0.0.1:8081", handler=handle)
    (record,) = announced(HOSTED, endpoint).records.values()
    assert (record.address, record.instance, record.stack) == (f"{HERE}:8081", "users-1", "a")
    assert (record.routes, record.health, record.weight) == (("/users",), "/ok", 3)


def test_each_replica_is_announced_at_its_own_port() -> None:
    spec = replace(HOSTED, isolation=Isolation.PROCESS, replicas=2)
    endpoints = [Endpoint("users", f"users-{n}", base_url=f"http://127.0.0.1:{8080 + n}") for n in (1, 2)]
    assert [*announced(spec, *endpoints).records] == [f"users/{HERE}:8081", f"users/{HERE}:8082"]


@pytest.mark.parametrize(
    ("host", "advertise", "address"),
    [
        ("10.0.0.9", HERE, "10.0.0.9:8081"),
        ("::", "fd00::7", "[fd00::7]:8081"),
        (ANYWHERE, "host-a.internal", "host-a.internal:8081"),
        ("localhost", "127.0.0.1", "127.0.0.1:8081"),
        ("127.0.0.1", HERE, None),
        ("localhost", HERE, None),
    ],
)
def test_the_announced_address_is_one_at_which_it_listens(
    host: str, advertise: str, address: str | None
) -> None:
    endpoint = Endpoint("users", "users-1", base_url="http://127.0.0.1:8081")
    found = announced(replace(HOSTED, host=host), endpoint, advertise=advertise)
    assert [record.address for record in found.records.values()] == ([address] if address else [])
    assert list(found.problems) == ([] if address else ["users"])


@pytest.mark.parametrize(
    "spec",
    [
        replace(HOSTED, announce=False),
        replace(HOSTED, port=None),
        ServiceSpec("users", command=("job",), oneshot=True, port=1),
        ServiceSpec("users", command=("worker",)),
        ServiceSpec("users", url="http://10.0.0.9:80"),
        ServiceSpec("users", discover=True),
    ],
)
def test_what_is_not_to_be_reached_is_not_announced(spec: ServiceSpec) -> None:
    endpoint = Endpoint("users", "users-1", base_url="http://127.0.0.1:8081")
    assert announced(spec, endpoint) == Announcement({}, {})


def test_an_instance_that_was_found_elsewhere_is_not_announced_again() -> None:
    endpoint = Endpoint("users", "users-1@x", base_url="http://10.0.0.9:8081", origin="etcd")
    assert announced(HOSTED, endpoint) == Announcement({}, {})


def test_a_program_at_a_url_is_announced_if_it_is_asked_for() -> None:
    spec = ServiceSpec("users", url="http://10.0.0.9:8081", announce=True)
    endpoint = Endpoint("users", "users-1", base_url="http://10.0.0.9:8081")
    assert [*announced(spec, endpoint).records] == ["users/10.0.0.9:8081"]


def test_a_service_on_the_gateways_port_is_announced_while_no_gateway_answers_there() -> None:
    spec = replace(HOSTED, port=8080)
    shop = replace(project(spec), gateway=GatewaySpec(host=ANYWHERE))
    ready = {"users": (Endpoint("users", "users-1", base_url="http://127.0.0.1:8080", handler=handle),)}

    def found() -> Announcement:
        return announcement(shop, lambda name: ready.get(name, ()), advertise=HERE, stack="a")

    assert [*found().records] == [f"users/{HERE}:8080"]
    ready["gateway"] = (Endpoint("gateway", "gateway-1", handler=handle),)
    assert (found().records, list(found().problems)) == ({}, ["users"])
