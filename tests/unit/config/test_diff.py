"""What an edit changes: which services restart, which only go by new rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.config.diff import Changes, diff, with_edited, without
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import Dependency, RestartPolicy
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.snapshots import BrokerMode
from msctl.secret import Secret

USERS = ServiceSpec("users", app="a:b", port=1, routes=(RouteSpec("/users", "users"),))
ORDERS = ServiceSpec("orders", app="a:b", depends_on=(Dependency("users"),), isolation=Isolation.PROCESS)
PROJECT = Project("shop", None, "msctl.toml", (USERS, ORDERS), GatewaySpec(), BrokerSpec())


def with_services(*services: ServiceSpec, gateway: GatewaySpec | None = PROJECT.gateway) -> Project:
    return replace(PROJECT, services=services, gateway=gateway)


def test_nothing_changes_where_nothing_was_edited() -> None:
    changes = diff(PROJECT, with_services(USERS, ORDERS))
    assert changes == Changes()
    assert not changes


def test_services_come_and_go() -> None:
    new = ServiceSpec("new", command=("x",))
    changes = diff(PROJECT, with_services(USERS, new))
    assert changes == Changes(added=("new",), removed=("orders",))
    assert changes


@pytest.mark.parametrize(
    "edited",
    [
        replace(USERS, app="a:c"),
        replace(USERS, app=None, command=("x",)),
        replace(USERS, env={"A": "1"}),
        replace(USERS, health="/healthz"),
        replace(USERS, isolation=Isolation.PROCESS),
    ],
)
def test_what_an_instance_was_started_with_restarts_it(edited: ServiceSpec) -> None:
    assert diff(PROJECT, with_services(edited, ORDERS)) == Changes(restarted=("users",))


@pytest.mark.parametrize(
    "edited",
    [
        replace(USERS, routes=()),
        replace(USERS, restart=RestartPolicy.NO),
        replace(USERS, stop_timeout=1.0),
        replace(USERS, autostart=False),
        replace(USERS, success_exit_codes=(3,)),
    ],
)
def test_rules_change_while_it_runs_on(edited: ServiceSpec) -> None:
    assert diff(PROJECT, with_services(edited, ORDERS)) == Changes(updated=("users",))


def test_a_key_that_is_another_is_the_gateway_s_affair_alone() -> None:
    assert diff(PROJECT, replace(PROJECT, secrets={"KEYS": Secret("k")})) == Changes(gateway=True)


def test_more_replicas_only_scale() -> None:
    edited = replace(ORDERS, replicas=3, autostart=False)
    assert diff(PROJECT, with_services(USERS, edited)) == Changes(scaled=("orders",))


@pytest.mark.parametrize("edited", [replace(USERS, port=2), replace(USERS, url="http://far:1")])
def test_who_depends_on_a_moved_service_restarts_too(edited: ServiceSpec) -> None:
    assert diff(PROJECT, with_services(edited, ORDERS)) == Changes(restarted=("users", "orders"))


def test_a_new_dependency_restarts_for_it_is_told_an_address() -> None:
    assert diff(PROJECT, with_services(USERS, replace(ORDERS, depends_on=()))) == Changes(
        restarted=("orders",)
    )


def test_who_reaches_a_dependency_through_the_gateway_restarts_when_that_moves() -> None:
    users = replace(USERS, port=None)
    before = with_services(users, ORDERS)
    after = with_services(users, ORDERS, gateway=GatewaySpec(port=9090))
    assert diff(before, after) == Changes(restarted=("orders",), gateway=True)


def test_the_gateways_own_settings_restart_no_service() -> None:
    assert diff(PROJECT, replace(PROJECT, gateway=None)) == Changes(gateway=True)


def test_another_broker_restarts_everything() -> None:
    changes = diff(PROJECT, replace(PROJECT, broker=BrokerSpec(url="amqp://far/")))
    assert changes == Changes(restarted=("users", "orders"), broker=True)


def test_another_mode_at_the_same_url_restarts_no_service() -> None:
    changes = diff(PROJECT, replace(PROJECT, broker=replace(PROJECT.broker, mode=BrokerMode.LOCAL)))
    assert changes == Changes(broker=True)


MOVED = GatewaySpec(port=9090)


@pytest.mark.parametrize(
    ("old", "new", "edited", "expected"),
    [
        (PROJECT, PROJECT, (), Changes()),
        (PROJECT, PROJECT, ("users",), Changes(restarted=("users",))),
        (PROJECT, with_services(USERS), ("orders",), Changes(removed=("orders",))),
        (
            PROJECT,
            with_services(USERS, replace(ORDERS, replicas=2)),
            ("orders", "users"),
            Changes(restarted=("users", "orders")),
        ),
        (
            PROJECT,
            with_services(replace(USERS, routes=()), ORDERS),
            ("users",),
            Changes(restarted=("users",)),
        ),
    ],
)
def test_edited_source_restarts_its_service(
    old: Project, new: Project, edited: tuple[str, ...], expected: Changes
) -> None:
    assert with_edited(diff(old, new), old, new, edited) == expected


GATED = ServiceSpec("gateway", port=8080)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, GatewaySpec(), Changes(added=("gateway",), gateway=True)),
        (GatewaySpec(), None, Changes(removed=("gateway",), gateway=True)),
        (GatewaySpec(), MOVED, Changes(restarted=("gateway",), gateway=True)),
        (GatewaySpec(), GatewaySpec(retries=3), Changes(gateway=True)),
    ],
)
def test_the_gateway_starts_anew_only_where_it_moves(
    before: GatewaySpec | None, after: GatewaySpec | None, expected: Changes
) -> None:
    old, new = (
        with_services(*((USERS, GATED) if spec is not None else (USERS,)), gateway=spec)
        for spec in (before, after)
    )
    assert with_edited(diff(old, new), old, new, ()) == expected


def test_what_could_not_be_had_runs_as_before_by_the_new_rules() -> None:
    edited = replace(USERS, app="a:c", port=2, routes=(), stop_timeout=1.0)
    kept = without(PROJECT, with_services(edited, ORDERS), ["users"])
    assert kept.service("users") == replace(USERS, routes=(), stop_timeout=1.0)
    assert kept.service("orders") == ORDERS
    old, new = (
        with_services(GATED),
        with_services(replace(GATED, port=9090), gateway=replace(MOVED, retries=7)),
    )
    kept = without(old, new, ["gateway", "unknown"])
    assert kept.gateway == GatewaySpec(retries=7)
    assert kept.service("gateway") == GATED
