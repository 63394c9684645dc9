"""The questions asked of a declaration, each by its kinds of service."""

from __future__ import annotations

import pytest

from msctl.errors import ConfigError
from msctl.model.address import Address
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.services import (
    address_of,
    as_run,
    can_scale,
    check,
    clashes,
    listens,
    probed,
    process_stop_timeout,
    runs_here,
    shares_gateway_port,
    stop_timeout,
)
from msctl.model.upstream_policy import UpstreamPolicy


@pytest.mark.parametrize(
    ("spec", "in_stack", "alone"),
    [
        (ServiceSpec("a", app="a:b"), 5.0, 10.0),
        (ServiceSpec("a", app="a:b", stop_timeout=10.0), 10.0, 10.0),
        (ServiceSpec("a", app="a:b", isolation=Isolation.PROCESS), 10.0, 10.0),
        (ServiceSpec("a", command=("x",)), 10.0, 10.0),
        (ServiceSpec("a", command=("x",), stop_timeout=0.0), 0.0, 0.0),
    ],
)
def test_a_stop_timeout_that_is_set_is_never_taken_for_the_default(
    spec: ServiceSpec, in_stack: float, alone: float
) -> None:
    assert stop_timeout(spec) == in_stack
    assert process_stop_timeout(spec) == alone


@pytest.mark.parametrize(
    ("spec", "here", "listening", "scalable"),
    [
        (ServiceSpec("a", app="a:b"), True, True, False),
        (ServiceSpec("a", app="a:b", isolation=Isolation.PROCESS), False, True, True),
        (ServiceSpec("a", command=("x",)), False, False, True),
        (ServiceSpec("a", command=("x",), health="/healthz"), False, True, True),
        (ServiceSpec("a", command=("x",), routes=(RouteSpec("/a", "a"),)), False, True, True),
        (ServiceSpec("a", command=("x",), port=0, oneshot=True), False, False, True),
        (ServiceSpec("a", url="http://far:1"), False, True, False),
    ],
)
def test_where_a_service_runs_and_whether_it_listens_and_scales(
    spec: ServiceSpec, here: bool, listening: bool, scalable: bool
) -> None:
    assert (runs_here(spec), listens(spec), can_scale(spec)) == (here, listening, scalable)


HOSTED, COMMAND = ServiceSpec("a", app="x:y", port=8080), ServiceSpec("b", command=("x",), port=8080)
AT_GATEWAY = ServiceSpec("gateway", port=8080)


@pytest.mark.parametrize(
    ("services", "clashing"),
    [
        ((HOSTED, AT_GATEWAY), []),
        ((HOSTED, ServiceSpec("c", app="x:y", port=8080), AT_GATEWAY), []),
        ((COMMAND, AT_GATEWAY), [("b", "gateway")]),
        ((HOSTED, COMMAND), [("a", "b")]),
        ((ServiceSpec("c", url="http://far:1", port=8080), COMMAND), []),
    ],
)
def test_only_hosted_services_share_an_address_and_only_the_gateways(
    services: tuple[ServiceSpec, ...], clashing: list[tuple[str, str]]
) -> None:
    project = Project("p", None, "msctl.toml", services, GatewaySpec(), BrokerSpec())
    assert [(clash.first.name, clash.second.name) for clash in clashes(project)] == clashing


def project(*services: ServiceSpec, gateway: GatewaySpec | None = None) -> Project:
    return Project("p", None, "shop.toml", services, gateway, BrokerSpec())


@pytest.mark.parametrize(
    ("spec", "observable"),
    [
        (ServiceSpec("a", app="a:b"), True),
        (ServiceSpec("a", url="http://far:1"), True),
        (ServiceSpec("a", command=("x",)), False),
        (ServiceSpec("a", command=("x",), port=0), True),
        (ServiceSpec("a", command=("x",), ready_log="up"), True),
        (ServiceSpec("a", command=("x",), oneshot=True, ready_log="up"), True),
        (ServiceSpec("a", command=("x",), oneshot=True, port=1), False),
    ],
)
def test_readiness_is_observed_where_there_is_something_to_ask_or_read(
    spec: ServiceSpec, observable: bool
) -> None:
    assert probed(spec) is observable


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        (ServiceSpec("a", app="x:y", port=8081), Address("127.0.0.1", 8081)),
        (ServiceSpec("a", app="x:y", port=0), Address("127.0.0.1", 0)),
        (ServiceSpec("a", app="x:y"), None),
        (ServiceSpec("a", command=("x",), port=9000, host="0.0.0.0"), Address("0.0.0.0", 9000)),
        (ServiceSpec("a", url="http://far:1", port=9000), None),
        (ServiceSpec("a", app="x:y", port=9000), Address("::1", 9000)),
        (ServiceSpec("gateway", port=1), Address("::1", 9000)),
    ],
)
def test_an_address_is_the_services_own_or_the_gateways(spec: ServiceSpec, address: Address | None) -> None:
    assert address_of(spec, project(spec, gateway=GatewaySpec(host="::1", port=9000))) == address


def test_without_a_gateway_every_address_is_a_services_own() -> None:
    for spec in (ServiceSpec("gateway", port=1), ServiceSpec("a", app="x:y", port=1)):
        assert address_of(spec, project(spec)) == Address("127.0.0.1", 1)
        assert not shares_gateway_port(spec, project(spec))


def test_only_hosted_services_on_the_gateways_port_share_it() -> None:
    gateway = GatewaySpec(port=8080)
    for spec, shared in (
        (HOSTED, True),
        (COMMAND, False),
        (ServiceSpec("c", app="x:y", port=8081), False),
        (ServiceSpec("c", app="x:y"), False),
        (ServiceSpec("c", app="x:y", port=8080, isolation=Isolation.PROCESS), False),
    ):
        assert shares_gateway_port(spec, project(spec, gateway=gateway)) is shared
    any_port = ServiceSpec("c", app="x:y", port=0)
    assert not shares_gateway_port(any_port, project(any_port, gateway=GatewaySpec(port=0)))


def test_an_external_service_keeps_only_what_counts_for_one() -> None:
    routes, policy = (RouteSpec("/a", "a"),), UpstreamPolicy(retries=3)
    spec = ServiceSpec(
        "a",
        url="http://far:1/",
        command=("x",),
        port=1,
        replicas=3,
        depends_on=(Dependency("b"),),
        routes=routes,
        health="/healthz",
        autostart=False,
        policy=policy,
    )
    kept = ServiceSpec(
        "a", url="http://far:1", routes=routes, health="/healthz", autostart=False, policy=policy
    )
    own = ServiceSpec("b", command=("x",), port=2, replicas=2)
    assert as_run(project(spec, own)).services == (kept, own)
    assert as_run(project(spec, own)).source == "shop.toml"


def test_a_project_that_cannot_run_is_refused_with_its_source() -> None:
    check(project(HOSTED, AT_GATEWAY, gateway=GatewaySpec(port=8080)))
    check(project(ServiceSpec("a", command=("x",), replicas=2), ServiceSpec("b", app="x:y", replicas=1)))
    with pytest.raises(ConfigError, match=r"^shop\.toml: .*'a' and 'b' both listen on 127\.0\.0\.1:8080"):
        check(project(HOSTED, COMMAND))
    with pytest.raises(ConfigError, match=r"^shop\.toml: service 'a' .* 2 replicas") as caught:
        check(project(ServiceSpec("a", app="x:y", replicas=2)))
    assert caught.value.hint == 'set isolation = "process" under [services.a]'
