"""What a fault may be asked for, and what is refused with the option named."""

from __future__ import annotations

from typing import Any

import pytest

from msctl.errors import UsageError
from msctl.faults.kinds import KINDS, FaultKind, TargetType
from msctl.faults.parse import fault_from, faults_from_toml
from msctl.faults.spec import Distribution, Target, When


def test_every_kind_is_described_and_can_be_asked_for() -> None:
    examples: dict[str, Any] = {"delay": "1s", "rate": "1KiB", "offset": "+1h"}
    for kind, info in KINDS.items():
        name = {} if info.targets == (TargetType.BROKER,) else {str(info.targets[0]): "x"}
        spec = fault_from({"kind": str(kind), **{need: examples[need] for need in info.needs}, **name})
        assert (spec.kind, spec.lasts, spec.share) == (kind, 60.0, 1.0)
    assert set(KINDS) == set(FaultKind)


@pytest.mark.parametrize(
    ("kind", "text", "target"),
    [
        ("nack", "payments", Target(TargetType.QUEUE, "payments")),
        ("nack", "broker", Target(TargetType.BROKER)),
        ("nack", "exchange:orders", Target(TargetType.EXCHANGE, "orders")),
        ("cut", "payments-*", Target(TargetType.CONNECTION, "payments-*")),
        ("abort", "/users", Target(TargetType.ROUTE, "/users")),
        ("abort", "users", Target(TargetType.SERVICE, "users")),
        ("pause", "instance:users-1", Target(TargetType.INSTANCE, "users-1")),
    ],
)
def test_a_plain_target_is_of_the_kind_s_usual_type(kind: str, text: str, target: Target) -> None:
    assert fault_from({"kind": kind, "target": text}).target == target


def test_options_are_read_in_all_their_spellings() -> None:
    spec = fault_from(
        {
            "kind": "delay", "target": "users", "delay": "1m30s", "jitter": "0.5", "distribution": "pareto",
            "share": "12.5%", "for": "2h", "seed": "7", "header": ("X-User: alice", "x-trace", "a=b"),
        }
    )  # fmt: skip
    assert (spec.delay, spec.jitter, spec.share, spec.lasts, spec.seed) == (90.0, 0.5, 0.125, 7200.0, 7)
    assert spec.distribution is Distribution.PARETO
    assert spec.headers == (("x-user", "alice"), ("x-trace", None), ("a", "b"))
    reset = fault_from({"kind": "abort", "target": "users", "reset": True, "when": "after"})
    assert (reset.status, reset.when) == (0, When.AFTER)
    assert fault_from({"kind": "abort", "target": "users"}).status == 503
    assert fault_from({"kind": "bandwidth", "target": "users", "rate": "10KiB/s"}).rate == 10240
    assert fault_from({"kind": "clock-skew", "target": "users", "offset": "-5m"}).offset == -300.0


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "kind"),
        ({"kind": "dealy", "target": "x"}, "dealy"),
        ({"kind": "delay", "delay": "1s"}, "target"),
        ({"kind": "delay", "target": "x"}, "--delay"),
        ({"kind": "delay", "target": "x", "delay": "soon"}, "--delay"),
        ({"kind": "delay", "target": "x", "delay": "-1s"}, "--delay"),
        ({"kind": "delay", "target": "x", "delay": "2h"}, "--delay"),
        ({"kind": "delay", "target": "x", "delay": "1s", "jitter": "2s"}, "--jitter"),
        ({"kind": "delay", "target": "x", "delay": "1s", "distribution": "normal"}, "--jitter"),
        ({"kind": "delay", "target": "x", "delay": "1s", "jitter": "1s", "distribution": "odd"}, "odd"),
        ({"kind": "delay", "target": "x", "delay": "1s", "share": "101"}, "--share"),
        ({"kind": "delay", "target": "x", "delay": "1s", "share": "0"}, "--share"),
        ({"kind": "delay", "target": "x", "delay": "1s", "share": "nan"}, "--share"),
        ({"kind": "delay", "target": "x", "delay": "1s", "for": "0s"}, "--for"),
        ({"kind": "delay", "target": "x", "delay": "1s", "for": "inf"}, "--for"),
        ({"kind": "delay", "target": "x", "delay": "1s", "for": "25h"}, "--for"),
        ({"kind": "delay", "target": "x", "delay": "1s", "seed": "-1"}, "--seed"),
        ({"kind": "delay", "target": "x", "delay": "1s", "header": ("a b",)}, "--header"),
        ({"kind": "delay", "target": "x", "delay": "1s", "header": ("a: b\r\nc: d",)}, "--header"),
        ({"kind": "delay", "target": "x", "delay": "1s", "status": "500"}, "status does not fit delay"),
        ({"kind": "delay", "queue": "x", "delay": "1s"}, "queue"),
        ({"kind": "delay", "target": "x", "service": "y", "delay": "1s"}, "one target"),
        ({"kind": "delay", "target": " ", "delay": "1s"}, "target"),
        ({"kind": "abort", "target": "x", "status": "700"}, "--status"),
        ({"kind": "abort", "target": "x", "status": "503", "reset": True}, "--reset"),
        ({"kind": "abort", "target": "x", "when": "later"}, "--when"),
        ({"kind": "bandwidth", "target": "x", "rate": "0"}, "--rate"),
        ({"kind": "bandwidth", "target": "x", "rate": "fast"}, "--rate"),
        ({"kind": "nack", "service": "x"}, "service"),
        ({"kind": "pause", "target": "/users"}, "route"),
        ({"kind": "memory-alarm", "target": "queue:x"}, "queue"),
        ({"kind": "kill", "target": "x", "for": "10s"}, "--for"),
        ({"kind": "cut", "target": "broker", "frames": "1.5"}, "--frames"),
        ({"kind": "clock-skew", "target": "x", "offset": "0s"}, "--offset"),
    ],
)
def test_what_cannot_be_is_refused_by_name(values: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        fault_from(values)
    assert says in refused.value.message


def test_a_kind_that_is_nearly_right_is_hinted_at() -> None:
    with pytest.raises(UsageError) as refused:
        fault_from({"kind": "confirm-los", "queue": "x"})
    assert "confirm-lost" in str(refused.value.hint)


def test_a_scenario_file_has_the_options_of_the_command_line() -> None:
    first, second = faults_from_toml(
        """
        [[faults]]
        kind = "delay"
        route = "/users"
        delay = "200ms"
        share = 50
        header = { x-user = "alice" }

        [[faults]]
        kind = "confirm-lost"
        queue = "payments"
        for = 30
        """,
        "faults.toml",
    )
    assert (first.target, first.delay, first.share) == (Target(TargetType.ROUTE, "/users"), 0.2, 0.5)
    assert first.headers == (("x-user", "alice"),)
    assert (second.kind, second.lasts) == (FaultKind.CONFIRM_LOST, 30.0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[faults]", "not TOML"),
        ("", "no [[faults]]"),
        ("faults = 3", "no [[faults]]"),
        ("faults = [1]", "no [[faults]]"),
        ("[[fault]]\nkind = 'delay'", "'fault'"),
        ("[[faults]]\nkind = 'kill'\ntarget = 'x'\n[[faults]]\nkind = 'nack'", "[[faults]] 2"),
        ("[[faults]]\nkind = 'nack'\nqueue = 'x'\nshare = 300", "[[faults]] 1: share"),
        ("[[faults]]\nkind = 'nack'\nqueue = 'x'\nshar = 3", "'shar'"),
        ("[[faults]]\nkind = 'abort'\nservice = 'x'\nreset = 'yes'", "reset"),
    ],
)
def test_a_scenario_file_is_refused_with_its_name_and_the_entry(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        faults_from_toml(text, "faults.toml")
    assert "faults.toml" in refused.value.message
    assert says in refused.value.message
