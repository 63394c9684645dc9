"""Headers of dead-lettered messages, as RabbitMQ writes them, and which messages go round in circles."""

from __future__ import annotations

from typing import Any

import pytest

from msctl.broker.core.dead_letter import MAX_DEATHS, X_DEATH, cc_keys, dead_lettered, is_cycle
from msctl.broker.protocol.properties import EXPIRATION, headers_of, join, split, with_headers
from msctl.broker.protocol.tables import FieldValue, Table, text_field
from msctl.broker.protocol.wire import route_of, shortstr

ROUTE = route_of("shop", "orders")


def text(value: str) -> FieldValue:
    return text_field(value)


def death(queue: str, reason: str, **more: FieldValue) -> FieldValue:
    return ("F", {b"queue": text(queue), b"reason": text(reason), **{k.encode(): v for k, v in more.items()}})


def die(
    headers: Table | None = None, reason: str = "expired", key: str | None = None, **parts: bytes
) -> tuple[list[str], Table, bytes]:
    raw = join(with_headers({EXPIRATION: parts["expiration"]} if parts else {}, headers or {}))
    keys, properties, found = dead_lettered((ROUTE, raw, b"", None, 0), reason, "q", 1234.9, key)
    assert (headers_of(split(properties)) or {}) == found
    return keys, found, properties


def test_the_first_death_says_what_when_where_and_why() -> None:
    keys, headers, _ = die()
    assert keys == ["orders"]
    assert headers[X_DEATH] == (
        "A",
        [
            (
                "F",
                {
                    b"count": ("l", 1),
                    b"exchange": text("shop"),
                    b"queue": text("q"),
                    b"reason": text("expired"),
                    b"routing-keys": ("A", [text("orders")]),
                    b"time": ("T", 1234),
                },
            )
        ],
    )
    assert headers[b"x-first-death-reason"] == text("expired")
    assert headers[b"x-first-death-queue"] == text("q")
    assert headers[b"x-first-death-exchange"] == text("shop")
    assert list(headers) == sorted(headers)
    assert list(headers[X_DEATH][1][0][1]) == sorted(headers[X_DEATH][1][0][1])


def test_another_death_of_the_same_kind_is_counted_and_moves_to_the_front() -> None:
    earlier = [
        death("other", "expired", count=("l", 4)),
        death("q", "expired", count=("l", 2), mark=("I", 1)),
        death("q", "rejected"),
    ]
    _, headers, _ = die({X_DEATH: ("A", earlier)})
    first, *others = headers[X_DEATH][1]
    assert first[1][b"count"] == ("l", 3)
    assert first[1][b"mark"] == ("I", 1)
    assert others == [earlier[0], earlier[2]]
    assert b"x-first-death-queue" not in headers


def test_a_death_that_has_no_count_counts_for_none() -> None:
    _, headers, _ = die({X_DEATH: ("A", [death("q", "expired")])})
    assert [entry[1].get(b"count") for entry in headers[X_DEATH][1]] == [("l", 1)]


def test_duplicates_that_a_client_sent_are_one_and_odd_entries_are_kept() -> None:
    earlier: list[FieldValue] = [
        death("a", "expired", count=("l", 1)),
        ("I", 7),
        death("a", "expired", count=("l", 9)),
        ("I", 7),
    ]
    _, headers, _ = die({X_DEATH: ("A", earlier)})
    assert headers[X_DEATH][1][1:] == [earlier[0], ("I", 7), ("I", 7)]


@pytest.mark.parametrize(("sent", "first"), [(("S", b"x"), False), (("V", None), True)])
def test_what_is_no_list_of_deaths_is_replaced(sent: FieldValue, first: bool) -> None:
    _, headers, _ = die({X_DEATH: sent})
    assert len(headers[X_DEATH][1]) == 1
    assert (b"x-first-death-queue" in headers) is first


def test_the_expiration_is_taken_away_and_noted() -> None:
    _, headers, properties = die(expiration=shortstr("500"))
    assert headers[X_DEATH][1][0][1][b"original-expiration"] == text("500")
    assert EXPIRATION not in split(properties)


def test_additional_keys_are_kept_unless_the_queue_has_a_key_of_its_own() -> None:
    copies: Table = {b"CC": ("A", [text("a"), ("S", b"\xff")]), b"BCC": ("A", [text("b")])}
    keys, headers, _ = die(copies)
    assert keys == ["orders", "a", "\udcff", "b"]
    assert headers[X_DEATH][1][0][1][b"routing-keys"] == (
        "A",
        [text("orders"), text("a"), ("S", b"\xff"), text("b")],
    )
    assert b"CC" in headers
    keys, headers, _ = die(copies, key="dead")
    assert (keys, b"CC" in headers, b"BCC" in headers) == (["dead"], False, True)
    assert cc_keys(copies) == ["a", "\udcff", "b"]
    assert cc_keys({b"CC": ("I", 1)}) == []


@pytest.mark.parametrize(
    ("entries", "cycle"),
    [
        ([], False),
        ([death("q", "expired")], True),
        ([death("x", "expired"), death("q", "maxlen")], True),
        ([death("x", "expired")], False),
        ([death("x", "rejected"), death("q", "expired")], False),
        ([death("q", "rejected")], False),
        ([("I", 1), death("q", "expired")], False),
    ],
)
def test_a_message_that_returns_without_a_rejection_goes_round_in_a_circle(
    entries: list[FieldValue], cycle: bool
) -> None:
    headers: Table = {X_DEATH: ("A", entries)}
    assert is_cycle("q", "expired", headers) is cycle
    assert not is_cycle("q", "rejected", headers)


def test_a_message_with_more_deaths_than_fit_is_dropped_whatever_their_reason() -> None:
    entries: list[Any] = [death(f"x{n}", "rejected") for n in range(MAX_DEATHS)]
    assert not is_cycle("q", "rejected", {X_DEATH: ("A", entries)})
    assert is_cycle("q", "rejected", {X_DEATH: ("A", [*entries, death("y", "rejected")])})
    assert not is_cycle("q", "expired", {})
