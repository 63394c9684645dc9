"""Options become AMQP's types, or an error that names the option."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from msctl.cli.options.message_options import parse_properties, parse_rate, queue_name
from msctl.errors import UsageError


def values(*pairs: str) -> dict[str, str | int | datetime]:
    return parse_properties(pairs, [], content_type=None, persistent=False).values


def test_default_content_type_is_text() -> None:
    assert values() == {"content_type": "text/plain"}
    assert values("content-type=a/b") == {"content_type": "a/b"}
    chosen = parse_properties(["content-type=a/b"], [], content_type="c/d", persistent=True)
    assert chosen.values == {"content_type": "c/d", "delivery_mode": 2}


@pytest.mark.parametrize(
    ("pair", "name", "value"),
    [
        ("delivery_mode=1", "delivery_mode", 1),
        ("Priority=9", "priority", 9),
        ("expiration=0", "expiration", "0"),
        ("type=t", "message_type", "t"),
        ("timestamp=0", "timestamp", datetime(1970, 1, 1, tzinfo=UTC)),
        ("timestamp=2026-01-02", "timestamp", datetime(2026, 1, 2, tzinfo=UTC)),
        ("reply-to=a=b", "reply_to", "a=b"),
    ],
)
def test_each_property_has_its_own_type(pair: str, name: str, value: object) -> None:
    assert values(pair)[name] == value


@pytest.mark.parametrize(
    "pair",
    [
        "delivery-mode=3",
        "priority=-1",
        "priority=",
        "expiration=1.5",
        "timestamp=1969-01-01",
        "timestamp=99999999999999999",
        "app-id=" + "x" * 256,
        "cluster-id=x",
        "=x",
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match="--property"):
        values(pair)


def test_header_name_that_clients_truncate_is_refused() -> None:
    with pytest.raises(UsageError, match="longer than 128 bytes"):
        parse_properties([], ["é" * 65 + "=x"], content_type=None, persistent=False)


def test_bytes_of_the_command_line_that_are_not_utf_8_are_refused() -> None:
    broken = b"\xff".decode(errors="surrogateescape")
    with pytest.raises(UsageError, match="not UTF-8"):
        parse_properties([], [f"k={broken}"], content_type=None, persistent=False)
    with pytest.raises(UsageError, match="not UTF-8"):
        queue_name(broken)


@pytest.mark.parametrize(("text", "rate"), [("100", 100.0), ("0.5", 0.5), ("30/m", 0.5), ("3600/h", 1.0)])
def test_a_rate_is_messages_per_second(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "x", "1/d", "1/", "inf", "nan"])
def test_invalid_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--rate"):
        parse_rate(text)
