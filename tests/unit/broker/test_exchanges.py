"""Topic and headers matching, compared with a naive reference."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from msctl.broker.core.arguments import QueueOptions
from msctl.broker.core.exchanges import Binding, Exchange, ExchangeType, headers_match, resolve
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.tables import FieldValue, Table
from tests.unit.broker.client import make_broker

words = st.sampled_from(["a", "b", "", "*", "#"])
keys = st.lists(st.sampled_from(["a", "b", "", "*", "#"]), max_size=6).map(".".join)
patterns = st.lists(words, max_size=6).map(".".join)


def split(key: str) -> tuple[str, ...]:
    return tuple(key.split(".")) if key else ()


@cache
def topic_matches(pattern: tuple[str, ...], key: tuple[str, ...]) -> bool:
    """The specification, read aloud."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return topic_matches(pattern[1:], key) or bool(key and topic_matches(pattern, key[1:]))
    return bool(key) and pattern[0] in ("*", key[0]) and topic_matches(pattern[1:], key[1:])


def vhost() -> VirtualHost:
    return make_broker().vhosts["/"]


def queue(name: str, host: VirtualHost) -> Queue:
    return Queue(name, host, QueueOptions())


@given(st.lists(patterns, max_size=8, unique=True), st.lists(keys, max_size=5), st.data())
def test_topic_bindings_match_as_specified(
    bound: list[str], published: list[str], data: st.DataObject
) -> None:
    host = vhost()
    exchange = Exchange("x", ExchangeType.TOPIC)
    bindings = {pattern: Binding(exchange, queue(pattern, host), pattern, {}) for pattern in bound}
    for binding in bindings.values():
        assert exchange.bind(binding)
        assert not exchange.bind(binding)
    gone = data.draw(st.sets(st.sampled_from(bound))) if bound else set()
    for pattern in gone:
        assert exchange.unbind(bindings[pattern].identity) is bindings[pattern]
        assert exchange.unbind(bindings[pattern].identity) is None
    for key in published:
        found = sorted(each.name for each in set(exchange.match((key,), {})))
        expected = [p for p in bound if p not in gone and topic_matches(split(p), split(key))]
        assert found == sorted(expected)


values: st.SearchStrategy[FieldValue] = st.one_of(
    st.tuples(st.just("S"), st.sampled_from([b"1", b"2"])),
    st.tuples(st.sampled_from(["I", "l"]), st.integers(0, 2)),
    st.tuples(st.just("t"), st.booleans()),
    st.just(("V", None)),
)
header_names = st.sampled_from([b"a", b"b", b"c", b"x-a", b"x-b"])
header_tables = st.dictionaries(header_names, values, max_size=4)


def reference(pattern: Table, headers: Table, mode: str) -> bool:
    wanted = {n: f for n, f in pattern.items() if mode.endswith("with-x") or not n.startswith(b"x-")}
    hits = []
    for name, (kind, value) in wanted.items():
        if name not in headers:
            hits.append(False)
        elif kind == "V":
            hits.append(True)
        else:
            other_kind, other = headers[name]
            hits.append(
                type(other) is type(value) and other == value and (kind == "t") == (other_kind == "t")
            )
    return any(hits) if mode.startswith("any") else all(hits)


@given(header_tables, header_tables, st.sampled_from(["all", "any", "all-with-x", "any-with-x", None]))
def test_headers_match_like_the_reference(pattern: Table, headers: Table, mode: str | None) -> None:
    arguments = dict(pattern)
    if mode is not None:
        arguments[b"x-match"] = ("S", mode.encode())
    assert headers_match(arguments, headers) == reference(pattern, headers, mode or "all")


def test_exchanges_bound_in_a_cycle_are_visited_once() -> None:
    host = vhost()
    one, two = Exchange("one", ExchangeType.FANOUT), Exchange("two", ExchangeType.FANOUT)
    target = queue("q", host)
    for binding in (Binding(one, two, "", {}), Binding(two, one, "", {}), Binding(two, target, "", {})):
        binding.source.bind(binding)
    lookup = {"one": one, "two": two}.get
    assert list(resolve(one, ("k",), {}, lookup)) == [target]


def test_unroutable_message_goes_to_the_alternate_exchange() -> None:
    host = vhost()
    spare = Exchange("spare", ExchangeType.FANOUT)
    main = Exchange("main", ExchangeType.DIRECT, arguments={b"alternate-exchange": ("S", b"spare")})
    target = queue("q", host)
    spare.bind(Binding(spare, target, "", {}))
    assert list(resolve(main, ("k",), {}, {"spare": spare}.get)) == [target]
    assert list(resolve(main, ("k",), {}, lambda _name: None)) == []
