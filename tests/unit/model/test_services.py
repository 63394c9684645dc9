"""The questions asked of a declaration, each by its kinds of service."""

from __future__ import annotations

import pytest

from msctl.model.project import BrokerSpec, GatewaySpec, Isolation, Project, RouteSpec, ServiceSpec
from msctl.model.services import can_scale, clashes, listens, process_stop_timeout, runs_here, stop_timeout


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
