"""Field tables round trip in RabbitMQ's dialect; malformed ones are detected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.broker.protocol.tables import (
    MAX_DEPTH,
    FieldValue,
    MalformedError,
    Table,
    decode_table,
    encode_table,
    texts,
)

names = st.binary(max_size=20)


def ranged(low: int, high: int) -> st.SearchStrategy[int]:
    return st.integers(low, high)


leaves: st.SearchStrategy[FieldValue] = st.one_of(
    st.tuples(st.just("S"), st.binary(max_size=30)),
    st.tuples(st.just("x"), st.binary(max_size=30)),
    st.tuples(st.just("b"), ranged(-128, 127)),
    st.tuples(st.just("B"), ranged(0, 255)),
    st.tuples(st.just("s"), ranged(-(2**15), 2**15 - 1)),
    st.tuples(st.just("u"), ranged(0, 2**16 - 1)),
    st.tuples(st.just("I"), ranged(-(2**31), 2**31 - 1)),
    st.tuples(st.just("i"), ranged(0, 2**32 - 1)),
    st.tuples(st.just("l"), ranged(-(2**63), 2**63 - 1)),
    st.tuples(st.just("T"), ranged(0, 2**64 - 1)),
    st.tuples(st.just("d"), st.floats(allow_nan=False)),
    st.tuples(st.just("f"), st.floats(allow_nan=False, width=32)),
    st.tuples(st.just("t"), st.booleans()),
    st.tuples(st.just("D"), st.tuples(ranged(0, 255), ranged(0, 2**32 - 1))),
    st.just(("V", None)),
)


def nested(inner: st.SearchStrategy[FieldValue]) -> st.SearchStrategy[FieldValue]:
    return st.one_of(
        st.tuples(st.just("A"), st.lists(inner, max_size=4)),
        st.tuples(st.just("F"), st.dictionaries(names, inner, max_size=4)),
    )


fields = st.recursive(leaves, nested, max_leaves=12)
tables: st.SearchStrategy[Table] = st.dictionaries(names, fields, max_size=6)


def decode(raw: bytes) -> Table:
    return decode_table(raw, 4, len(raw))


@given(tables)
def test_tables_round_trip(table: Table) -> None:
    assert decode(encode_table(table)) == table


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_table_or_malformed(raw: bytes) -> None:
    try:
        decode_table(raw, 0, len(raw))
    except MalformedError:
        pass


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b"\x01kl\xff\xff\xff\xff\xff\xff\xff\xff", ("l", -1)),
        (b"\x01kL\xff\xff\xff\xff\xff\xff\xff\xff", ("l", -1)),
        (b"\x01kb\xff", ("b", -1)),
        (b"\x01kB\xff", ("B", 255)),
        (b"\x01ks\xff\xff", ("s", -1)),
        (b"\x01ku\xff\xff", ("u", 65535)),
        (b"\x01kt\x07", ("t", True)),
    ],
)
def test_numbers_are_read_as_rabbitmq_reads_them(raw: bytes, field: tuple[str, Any]) -> None:
    assert decode_table(raw, 0, len(raw)) == {b"k": field}


def test_first_field_of_a_name_wins() -> None:
    raw = b"\x01kb\x01\x01kb\x02"
    assert decode_table(raw, 0, len(raw)) == {b"k": ("b", 1)}


def test_deep_nesting_is_malformed() -> None:
    raw = b""
    for _ in range(MAX_DEPTH + 2):
        raw = b"\x01kF" + len(raw).to_bytes(4, "big") + raw
    with pytest.raises(MalformedError, match="nested"):
        decode_table(raw, 0, len(raw))


@pytest.mark.parametrize("raw", [b"\x05k", b"\x01k", b"\x01kS\x00\x00\x00\x09x", b"\x01kI\x00", b"\x01kz"])
def test_truncated_field_is_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_table(raw, 0, len(raw))


def test_texts_are_the_long_strings_of_an_array() -> None:
    table: Table = {b"CC": ("A", [("S", b"a"), ("I", 1), ("S", b"b")]), b"x": ("S", b"c")}
    assert texts(table, b"CC") == [b"a", b"b"]
    assert texts(table, b"x") == texts(table, b"none") == []
