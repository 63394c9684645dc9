"""Properties stay encoded, are split for the rules that need it, and are refused as RabbitMQ does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands

from msctl.broker.protocol.properties import (
    HEADERS,
    MAX_EXPIRY_MS,
    expiration_ms,
    headers_of,
    join,
    read_properties,
    split,
    with_headers,
)
from msctl.broker.protocol.replies import AmqpError
from msctl.broker.protocol.tables import MalformedError

texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
KINDS: dict[str, st.SearchStrategy[Any]] = {
    "content_type": texts,
    "content_encoding": texts,
    "delivery_mode": st.sampled_from([1, 2]),
    "priority": st.integers(0, 255),
    "correlation_id": texts,
    "reply_to": texts,
    "expiration": st.integers(0, MAX_EXPIRY_MS).map(str),
    "message_id": texts,
    "message_type": texts,
    "user_id": texts,
    "app_id": texts,
}


def encoded(**properties: Any) -> bytes:
    made = commands.Basic.Properties(**properties)
    made.cluster_id = None  # type: ignore[assignment]  # an empty one would be sent
    raw: bytes = made.marshal()
    return raw


@given(st.fixed_dictionaries({}, optional=KINDS))
def test_properties_round_trip_with_pamqp(properties: dict[str, Any]) -> None:
    raw = encoded(**properties)
    assert join(split(raw)) == raw
    read = read_properties(raw)
    assert read.raw == raw
    assert read.priority == (properties.get("priority") or 0)
    expiration = properties.get("expiration")
    assert read.ttl_ms == (int(expiration) if expiration else None)


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_properties_or_malformed(raw: bytes) -> None:
    try:
        read_properties(raw)
    except (MalformedError, AmqpError):
        pass


def test_headers_can_be_changed() -> None:
    parts = split(encoded(headers={"a": "1"}, app_id="me"))
    changed = with_headers(parts, {b"b": ("S", b"2")})
    assert headers_of(split(join(changed))) == {b"b": ("S", b"2")}
    assert changed.keys() == parts.keys() and HEADERS in parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no_integer"),
        (b"x", "no_integer"),
        (b" 1", "no_integer"),
        (b"12x", 'leftover_string,"x"'),
        (b"1.5", 'leftover_string,".5"'),
        (b"-1", "value_negative,-1"),
        (b"%d" % (MAX_EXPIRY_MS + 1), "value_too_large"),
    ],
)
def test_invalid_expiration_is_refused_with_a_reason(text: bytes, why: str) -> None:
    with pytest.raises(AmqpError, match=why):
        expiration_ms(text)


@pytest.mark.parametrize(("text", "value"), [(b"0", 0), (b"+5", 5), (b"007", 7), (None, None)])
def test_expirations_are_read_as_integers(text: bytes | None, value: int | None) -> None:
    assert expiration_ms(text) == value


def test_unknown_delivery_mode_is_refused() -> None:
    with pytest.raises(AmqpError, match="delivery_mode_unknown,3"):
        read_properties(b"\x10\x00\x03")


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x80\x00\x05a", b"\x00\x00x", b"\x00\x01"])
def test_invalid_property_list_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        read_properties(raw)
