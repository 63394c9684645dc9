"""Which faults a running stack can have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from msctl.errors import BrokerError, MsctlError, NotRunningError, UnknownServiceError, UsageError
from msctl.faults.check import RunningService, World, check
from msctl.faults.kinds import TargetType
from msctl.faults.parse import fault_from
from msctl.faults.spec import Target
from msctl.model.snapshots import BrokerMode, Kind

WORLD = World(
    services={
        "users": RunningService(Kind.HOSTED, {"users-1": None}, intercepted=True),
        "orders": RunningService(
            Kind.COMMAND, {"orders-1": 10, "orders-2": 11}, intercepted=True, probed=True
        ),
        "worker": RunningService(Kind.COMMAND, {"worker-1": 12}),
        "idle": RunningService(Kind.COMMAND, {"idle-1": None}, probed=True),
        "mail": RunningService(Kind.REMOTE, {"mail-1": None}, intercepted=True),
        "gateway": RunningService(Kind.HOSTED, {"gateway-1": None}, intercepted=True),
    },
    routes={"/users": True, "/static": False},
    broker=BrokerMode.EMBEDDED,
    queues=["payments"],
    exchanges=["orders"],
)


def test_the_name_of_an_instance_is_one_too() -> None:
    spec = check(fault_from({"kind": "abort", "target": "orders-2"}), WORLD)
    assert spec.target == Target(TargetType.INSTANCE, "orders-2")


@pytest.mark.parametrize(
    ("values", "error", "says"),
    [
        ({"kind": "abort", "target": "/user"}, UsageError, "/users"),
        ({"kind": "abort", "target": "/static"}, UsageError, "itself"),
        ({"kind": "abort", "target": "user"}, UnknownServiceError, "users"),
        ({"kind": "abort", "instance": "orders-3"}, UnknownServiceError, "orders-"),
        ({"kind": "abort", "target": "worker"}, UsageError, "service_addresses"),
        ({"kind": "abort", "target": "gateway"}, UsageError, "behind"),
        ({"kind": "kill", "target": "users"}, UsageError, "isolation"),
        ({"kind": "kill", "target": "mail"}, UsageError, "elsewhere"),
        ({"kind": "kill", "target": "idle"}, NotRunningError, "start"),
        ({"kind": "failing-probe", "target": "worker"}, UsageError, "health"),
        ({"kind": "clock-skew", "target": "orders", "offset": "+1h"}, UsageError, "faketime"),
        ({"kind": "nack", "queue": "payment"}, BrokerError, "payments"),
        ({"kind": "nack", "exchange": "order"}, BrokerError, "orders"),
    ],
)
def test_a_target_that_cannot_have_it_is_refused(
    values: dict[str, Any], error: type[MsctlError], says: str
) -> None:
    with pytest.raises(error) as refused:
        check(fault_from(values), WORLD)
    assert says in f"{refused.value.message} {refused.value.hint}"


def test_an_external_broker_has_no_faults_of_messages() -> None:
    with pytest.raises(BrokerError) as refused:
        check(fault_from({"kind": "nack", "queue": "payments"}), replace(WORLD, broker=BrokerMode.EXTERNAL))
    assert "nack" in refused.value.message


def test_a_stack_that_others_reach_is_broken_only_by_force() -> None:
    exposed = replace(WORLD, exposed=["0.0.0.0:8080"])
    spec = fault_from({"kind": "abort", "target": "users"})
    with pytest.raises(UsageError) as refused:
        check(spec, exposed)
    assert "--force" in str(refused.value.hint)
    assert check(spec, exposed, force=True) == spec


def test_without_a_gateway_no_route_can_be_broken() -> None:
    with pytest.raises(NotRunningError):
        check(fault_from({"kind": "abort", "target": "/users"}), replace(WORLD, routes=None))
