"""Instances on other machines, from listings and changes of a registry."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.discovery import found as module
from msctl.discovery.found import Found, Read
from msctl.discovery.record import BadRecordError, Record

ONE = Record("users", "users-1", "10.0.0.1", 8081, "a")
TWO = Record("users", "users-1", "10.0.0.2", 8081, "b")
ORDERS = Record("orders", "orders-1", "10.0.0.2", 8082, "b")


def entries(*records: Record) -> dict[str, Read]:
    return {record.key: lambda record=record: record for record in records}  # type: ignore[misc]


def bad() -> Record:
    raise BadRecordError("port is missing or wrong")


def make() -> tuple[Found, list[str]]:
    warnings: list[str] = []
    return Found("own", 10.0, warnings.append), warnings


def users(found: Found) -> tuple[Record, ...]:
    return found.records(["users"])["users"]


def test_listing_and_changes_give_the_instances_of_the_services_asked_for() -> None:
    found, _ = make()
    found.listed(None, entries(TWO, ORDERS), 0.0, resumed=True)
    found.put(ONE.key, lambda: ONE)
    assert found.records(["users", "none"]) == {"users": (ONE, TWO), "none": ()}
    found.removed(TWO.key)
    found.removed("users/unknown:1")
    assert users(found) == (ONE,)


def test_the_own_records_of_a_stack_are_left_out() -> None:
    found, _ = make()
    mine = Record("users", "users-1", "10.0.0.1", 8081, "own")
    found.put(ONE.key, lambda: ONE)
    found.put(mine.key, lambda: mine)
    assert users(found) == ()


def test_what_a_new_session_does_not_list_is_kept_for_a_ttl() -> None:
    found, _ = make()
    found.listed(None, entries(ONE, TWO), 0.0, resumed=True)
    found.listed(None, entries(), 100.0, resumed=True)
    found.listed(None, entries(), 105.0, resumed=True)
    found.listed(None, entries(), 106.0, resumed=False)
    found.put(TWO.key, lambda: TWO)
    found.expire(109.9)
    assert users(found) == (ONE, TWO)
    found.expire(110.0)
    assert users(found) == (TWO,)


def test_what_a_later_listing_lacks_is_gone_at_once_for_that_service_alone() -> None:
    found, _ = make()
    found.listed("users", entries(ONE, TWO), 0.0, resumed=True)
    found.listed("orders", entries(ORDERS), 0.0, resumed=True)
    found.listed("users", entries(TWO), 1.0, resumed=False)
    assert found.records(["users", "orders"]) == {"users": (TWO,), "orders": (ORDERS,)}


def test_a_record_that_cannot_be_used_takes_no_requests_and_is_warned_of_once() -> None:
    found, warnings = make()
    found.put(ONE.key, lambda: ONE)
    for _ in range(3):
        found.put(ONE.key, bad)
    assert users(found) == ()
    assert len(warnings) == 1
    assert ONE.key in warnings[0]
    found.put(ONE.key, lambda: ONE)
    assert users(found) == (ONE,)


def test_the_records_of_a_namespace_are_bounded_and_those_at_hand_can_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_RECORDS", 2)
    monkeypatch.setattr(module, "MAX_WARNED", 1)
    found, warnings = make()
    found.listed(None, entries(ONE, TWO, ORDERS), 0.0, resumed=True)
    assert found.records(["users", "orders"]) == {"users": (ONE, TWO), "orders": ()}
    heavier = replace(ONE, weight=9)
    found.put(ONE.key, lambda: heavier)
    assert users(found) == (heavier, TWO)
    for key in ("users/1", "users/2"):
        found.put(key, bad)
    assert len(warnings) == 1
