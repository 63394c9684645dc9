"""Records of a registry: what is written is read again, and nothing else is believed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.discovery.record import MAX_RECORD, BadRecordError, Record, parse_record, read_record

USERS = Record("users", "users-1", "10.0.0.2", 8081, "a1", 3, ("/users",), "/healthz")


def encoded(**changes: object) -> bytes:
    fields = {**USERS.fields(), **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "record",
    [USERS, Record("users", "users-2", "fd00::2", 80), Record("users", "users-1", "host-b.internal", 65535)],
)
def test_a_record_is_read_as_it_was_written(record: Record) -> None:
    assert parse_record(json.dumps(record.fields()).encode(), record.key) == record


def test_unknown_fields_are_left_out_and_optional_ones_have_defaults() -> None:
    data = encoded(zone="a", weight=..., routes=..., health=..., stack=...)
    assert parse_record(data, USERS.key) == Record("users", "users-1", "10.0.0.2", 8081)


def test_an_endpoint_of_an_ipv6_address_has_brackets() -> None:
    endpoint = Record("users", "users-1", "fd00::2", 81, weight=2).endpoint("etcd")
    assert (endpoint.base_url, endpoint.instance) == ("http://[fd00::2]:81", "users-1@[fd00::2]:81")
    assert (endpoint.weight, endpoint.origin) == (2.0, "etcd")
    assert not endpoint.is_of("users-1")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\x00", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b"[]", "no JSON object"),
        (encoded(schema=2), "schema"),
        (encoded(schema=...), "schema"),
        (encoded(instance="users 1\r\n"), "instance"),
        (encoded(host="10.0.0.2/x"), "host"),
        (encoded(host="0.0.0.0"), "host"),
        (encoded(host="::"), "host"),
        (encoded(host="10.0.0"), "host"),
        (encoded(host=7), "host"),
        (encoded(port=0), "port"),
        (encoded(port=70_000), "port"),
        (encoded(port=True), "port"),
        (encoded(port="8081"), "port"),
        (encoded(weight=0), "weight"),
        (encoded(routes="/users"), "routes"),
        (encoded(routes=[1]), "routes"),
        (encoded(health=[]), "health"),
        (encoded(service="orders"), "describes orders/10.0.0.2:8081"),
        (b" " * MAX_RECORD + encoded(), "larger"),
    ],
)
def test_other_records_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadRecordError, match=reason):
        parse_record(data, USERS.key)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from([*USERS.fields()]), _VALUES))
def test_no_fields_are_more_than_a_refusal(changes: dict[str, object]) -> None:
    try:
        read_record({**USERS.fields(), **changes})
    except BadRecordError:
        pass
