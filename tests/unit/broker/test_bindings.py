"""Declarations, deletions and bindings of exchanges: what differs, what is refused, what is forgotten."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from msctl.broker.core.arguments import QueueOptions
from msctl.broker.core.exchanges import Binding, Exchange, ExchangeType, headers_match, resolve
from msctl.broker.core.queues import Queue
from msctl.broker.core.routing import Routing
from msctl.broker.core.topic_index import TopicIndex
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from msctl.broker.protocol.tables import FieldValue, Table
from tests.unit.broker.client import make_broker

ME, YOU = object(), object()
DIFFERENT = ReplyCode.PRECONDITION_FAILED


@pytest.fixture
def vhost() -> VirtualHost:
    return make_broker().vhosts["/"]


@pytest.fixture
def routing(vhost: VirtualHost) -> Routing:
    return vhost.routing


def declare(routing: Routing, name: str, kind: str = "direct", **options: Any) -> None:
    flags = {"passive": False, "durable": False, "auto_delete": False, "internal": False, "arguments": {}}
    routing.declare(name, kind, **{**flags, **options})


def queue(vhost: VirtualHost, name: str, **options: Any) -> Queue:
    flags = {"durable": False, "exclusive": False, "auto_delete": False, "arguments": {}}
    return vhost.declare_queue(name, ME, **{**flags, **options})


def refused(code: ReplyCode, call: Any, *arguments: Any, **options: Any) -> str:
    with pytest.raises(AmqpError) as caught:
        call(*arguments, **options)
    assert caught.value.code is code
    return caught.value.text.decode().partition(" - ")[2]


def reached(routing: Routing, exchange: str, key: str = "", headers: Table | None = None) -> set[str]:
    return {found.name for found in routing.route(routing.exchange(exchange), (key,), headers or {})}


# --- declarations -------------------------------------------------------------------------------------


def test_a_virtual_host_begins_with_the_exchanges_of_the_specification(routing: Routing) -> None:
    assert {name: exchange.type.value for name, exchange in routing.exchanges.items()} == {
        "": "direct",
        "amq.direct": "direct",
        "amq.fanout": "fanout",
        "amq.topic": "topic",
        "amq.headers": "headers",
        "amq.match": "headers",
    }
    assert all(e.durable and not e.auto_delete and not e.internal for e in routing.exchanges.values())


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"kind": "fanout"}, "type"),
        ({"durable": True}, "durable"),
        ({"auto_delete": True}, "auto_delete"),
        ({"internal": True}, "internal"),
        ({"arguments": {b"alternate-exchange": ("S", b"y")}}, "alternate-exchange"),
    ],
)
def test_a_redeclaration_has_to_be_the_same(routing: Routing, options: dict[str, Any], argument: str) -> None:
    declare(routing, "x")
    declare(routing, "x")
    text = refused(DIFFERENT, declare, routing, "x", **options)
    assert text.startswith(f"inequivalent arg '{argument}' for exchange 'x' in vhost '/': received ")
    declare(routing, "x", passive=True, **options)


def test_a_declaration_keeps_its_options_and_line_breaks_are_no_part_of_a_name(routing: Routing) -> None:
    arguments: Table = {b"alternate-exchange": ("S", b"y")}
    declare(routing, "x\r\n", "topic", durable=True, auto_delete=True, internal=True, arguments=arguments)
    made = routing.exchange("x")
    assert (made.type, made.durable, made.auto_delete, made.internal) == (
        ExchangeType.TOPIC,
        True,
        True,
        True,
    )
    assert (made.arguments, made.alternate) == (arguments, "y")


def test_what_cannot_be_declared_is_named(routing: Routing) -> None:
    for passive in (False, True):
        assert "default exchange" in refused(ReplyCode.ACCESS_REFUSED, declare, routing, "", passive=passive)
    assert "no exchange 'x' in vhost '/'" in refused(ReplyCode.NOT_FOUND, declare, routing, "x", passive=True)
    assert "exchange name 'amq.x'" in refused(ReplyCode.ACCESS_REFUSED, declare, routing, "amq.x")
    wrong = {b"alternate-exchange": ("I", 1)}
    assert "in exchange 'x' in vhost '/'" in refused(DIFFERENT, declare, routing, "x", arguments=wrong)
    declare(routing, "amq.direct", durable=True)


# --- deletion -----------------------------------------------------------------------------------------


def test_exchanges_of_the_broker_cannot_be_deleted(routing: Routing) -> None:
    refused(ReplyCode.ACCESS_REFUSED, routing.delete, "", if_unused=False)
    text = refused(ReplyCode.ACCESS_REFUSED, routing.delete, "amq.topic", if_unused=False)
    assert text == "deletion of system exchange 'amq.topic' in vhost '/' not allowed"
    routing.delete("nowhere", if_unused=True)


def test_a_deleted_exchange_routes_nothing_and_can_be_declared_otherwise(vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "x")
    queue(vhost, "q")
    routing.bind("x", "q", "queue", "k", {}, ME)
    before = routing.generation
    assert "exchange 'x' in vhost '/' in use" in refused(DIFFERENT, routing.delete, "x", if_unused=True)
    routing.delete("x", if_unused=False)
    assert routing.generation > before
    refused(ReplyCode.NOT_FOUND, routing.exchange, "x")
    declare(routing, "x", "fanout")
    assert reached(routing, "x", "k") == set()
    routing.delete("x", if_unused=True)
    # The queue knows nothing of the exchange any more.
    declare(routing, "x")
    vhost.delete_queue(vhost.queue("q"))


def test_a_second_exchange_of_a_name_has_bindings_of_its_own(
    vhost: VirtualHost,
) -> None:
    routing = vhost.routing
    queue(vhost, "q")
    for kind in ("direct", "fanout"):
        declare(routing, "x", kind)
        routing.bind("x", "q", "queue", "k", {}, ME)
        assert reached(routing, "x", "k") == {"q"}
        if kind == "direct":
            routing.delete("x", if_unused=False)
    vhost.delete_queue(vhost.queue("q"))
    assert not routing.exchange("x").bindings


def test_the_end_of_a_destination_unbinds_it_and_deletes_sources_that_are_unused(vhost: VirtualHost) -> None:
    routing = vhost.routing
    for name, auto_delete in (("kept", False), ("gone", True), ("busy", True)):
        declare(routing, name, auto_delete=auto_delete)
        for key in ("a", "b"):
            routing.bind(name, queue(vhost, "q").name, "queue", key, {}, ME)
    routing.bind("busy", queue(vhost, "other").name, "queue", "a", {}, ME)
    vhost.delete_queue(vhost.queue("q"))
    assert {"kept", "busy"} <= set(routing.exchanges)
    assert "gone" not in routing.exchanges
    assert (reached(routing, "kept", "a"), reached(routing, "busy", "a")) == (set(), {"other"})


# --- bindings -----------------------------------------------------------------------------------------


def test_the_default_exchange_cannot_be_bound(vhost: VirtualHost) -> None:
    routing = vhost.routing
    queue(vhost, "q")
    for call in (routing.bind, routing.unbind):
        refused(ReplyCode.ACCESS_REFUSED, call, "", "q", "queue", "k", {}, ME)
        refused(ReplyCode.ACCESS_REFUSED, call, "amq.direct", "", "exchange", "k", {}, ME)
    refused(ReplyCode.NOT_FOUND, routing.bind, "amq.direct", "", "queue", "k", {}, ME)
    text = refused(ReplyCode.NOT_FOUND, routing.bind, "amq.direct", "x", "exchange", "k", {}, ME)
    assert "no exchange 'x'" in text


def test_x_match_is_checked_for_headers_exchanges_alone(vhost: VirtualHost) -> None:
    routing = vhost.routing
    queue(vhost, "q")
    for wrong in (("S", b"some"), ("I", 1), ("t", True)):
        text = refused(DIFFERENT, routing.bind, "amq.headers", "q", "queue", "", {b"x-match": wrong}, ME)
        assert text.startswith("Invalid x-match field ")
        routing.bind("amq.direct", "q", "queue", "", {b"x-match": wrong}, ME)
    for right in (b"all", b"any", b"all-with-x", b"any-with-x"):
        routing.bind("amq.headers", "q", "queue", "", {b"x-match": ("S", right)}, ME)
    routing.bind("amq.headers", "q", "queue", "", {}, ME)
    assert len(routing.exchange("amq.headers").bindings) == 5


def test_unbinding_takes_exactly_one_binding_away(vhost: VirtualHost) -> None:
    routing = vhost.routing
    queue(vhost, "q")
    declare(routing, "x", "topic", auto_delete=True)
    for key in ("a.*", "a.#", "b"):
        routing.bind("x", "q", "queue", key, {}, ME)
    before = routing.generation
    routing.unbind("x", "q", "queue", "c", {}, ME)
    routing.unbind("nowhere", "q", "queue", "b", {}, ME)
    routing.unbind("x", "nowhere", "queue", "b", {}, ME)
    assert routing.generation == before
    for key in ("a.*", "a.#"):
        assert reached(routing, "x", "a.b") == {"q"}
        routing.unbind("x", "q", "queue", key, {}, ME)
        assert routing.generation > before
    assert (reached(routing, "x", "a.b"), reached(routing, "x", "b")) == (set(), {"q"})
    routing.unbind("x", "q", "queue", "b", {}, ME)
    assert "x" not in routing.exchanges


@pytest.mark.parametrize("way", ["delete", "unbind"])
def test_a_queue_forgets_an_exchange_that_is_gone_and_not_its_successor(vhost: VirtualHost, way: str) -> None:
    routing = vhost.routing
    declare(routing, "x", auto_delete=True)
    target = queue(vhost, "q")
    routing.bind("x", "q", "queue", "k", {}, ME)
    if way == "delete":
        routing.delete("x", if_unused=False)
    else:
        routing.unbind("x", "q", "queue", "k", {}, ME)
    assert "x" not in routing.exchanges
    declare(routing, "x")
    vhost.delete_queue(target)
    assert "x" in routing.exchanges


def test_a_queue_that_was_unbound_from_one_exchange_still_leaves_the_other_when_it_ends(
    vhost: VirtualHost,
) -> None:
    routing = vhost.routing
    target = queue(vhost, "q")
    for exchange in ("amq.direct", "amq.fanout", "amq.topic"):
        routing.bind(exchange, "q", "queue", "k", {}, ME)
    routing.unbind("amq.direct", "q", "queue", "k", {}, ME)
    vhost.delete_queue(target)
    assert not routing.exchange("amq.fanout").bindings
    assert not routing.exchange("amq.topic").bindings


def test_bindings_are_counted_however_they_end(vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "x")
    declare(routing, "y", "fanout")
    target = queue(vhost, "q")
    counts = [routing.bindings.count]
    for exchange, key in (("x", "a"), ("x", "a"), ("x", "b"), ("amq.direct", "c"), ("y", "")):
        routing.bind(exchange, "q", "queue", key, {}, ME)
        counts.append(routing.bindings.count)
    routing.unbind("x", "q", "queue", "nothing", {}, ME)
    routing.unbind("x", "q", "queue", "a", {}, ME)
    counts.append(routing.bindings.count)
    routing.delete("x", if_unused=False)
    counts.append(routing.bindings.count)
    vhost.delete_queue(target)
    counts.append(routing.bindings.count)
    assert counts == [0, 1, 1, 2, 3, 4, 3, 2, 0]


def test_another_connections_exclusive_queue_cannot_be_unbound(vhost: VirtualHost) -> None:
    routing = vhost.routing
    queue(vhost, "q", exclusive=True)
    routing.bind("amq.direct", "q", "queue", "k", {}, ME)
    refused(ReplyCode.RESOURCE_LOCKED, routing.unbind, "amq.direct", "q", "queue", "k", {}, YOU)
    assert reached(routing, "amq.direct", "k") == {"q"}


def test_cached_routes_follow_every_change(vhost: VirtualHost) -> None:
    routing = vhost.routing
    direct, default = routing.exchange("amq.direct"), routing.exchange("")
    assert (routing.route_key(direct, "k"), routing.route_key(default, "q")) == ((), ())
    target = queue(vhost, "q")
    assert routing.route_key(default, "q") == (target,)
    routing.bind("amq.direct", "q", "queue", "k", {}, ME)
    assert routing.route_key(direct, "k") == (target,)
    assert routing.route_key(direct, "k") is routing.route_key(direct, "k")
    routing.unbind("amq.direct", "q", "queue", "k", {}, ME)
    assert routing.route_key(direct, "k") == ()
    vhost.delete_queue(target)
    assert routing.route_key(default, "q") == ()


# --- matching -----------------------------------------------------------------------------------------


def test_a_topic_index_forgets_what_was_removed_and_only_that(vhost: VirtualHost) -> None:
    index: TopicIndex[Binding] = TopicIndex()
    exchange = Exchange("x", ExchangeType.TOPIC)
    target = Queue("q", vhost, QueueOptions())
    patterns = ("a.b.c", "a.b", "a.*", "#", "a.#.c")
    bindings = {pattern: Binding(exchange, target, pattern, {}) for pattern in patterns}
    for binding in bindings.values():
        index.add(binding)

    def found(key: str) -> set[str]:
        return {binding.key for binding in index.find(key)}

    assert found("a.b.c") == {"a.b.c", "#", "a.#.c"}
    index.remove(bindings["a.b.c"])
    assert (found("a.b.c"), found("a.b")) == ({"#", "a.#.c"}, {"a.b", "a.*", "#"})
    for pattern in ("a.b", "a.#.c", "#", "a.*"):
        index.remove(bindings[pattern])
        assert pattern not in found("a.b") | found("a.c")
    # Nothing of the trie is left.
    assert not index._root.children


HEADERS: Table = {b"a": ("S", b"1"), b"b": ("I", 2), b"x-c": ("S", b"3")}


@pytest.mark.parametrize(
    ("mode", "pattern", "matches"),
    [
        (None, {b"a": ("S", b"1"), b"b": ("l", 2)}, True),
        (None, {b"a": ("S", b"1"), b"b": ("I", 3)}, False),
        (b"all", {b"a": ("S", b"1"), b"z": ("V", None)}, False),
        (b"all", {b"a": ("V", None), b"x-c": ("S", b"no")}, True),
        (b"all-with-x", {b"a": ("V", None), b"x-c": ("S", b"no")}, False),
        (b"any", {b"a": ("S", b"no"), b"b": ("I", 2)}, True),
        (b"any", {b"a": ("S", b"no"), b"x-c": ("S", b"3")}, False),
        (b"any-with-x", {b"a": ("S", b"no"), b"x-c": ("S", b"3")}, True),
        (b"any", {}, False),
        (b"all", {}, True),
        (b"odd", {b"a": ("S", b"1"), b"b": ("I", 9)}, False),
        (b"\xff", {b"a": ("S", b"1"), b"b": ("I", 2)}, True),
        (None, {b"b": ("t", True)}, False),
    ],
)
def test_headers_match_in_four_modes(mode: bytes | None, pattern: Table, matches: bool) -> None:
    table: Table = pattern if mode is None else {**pattern, b"x-match": ("S", mode)}
    assert headers_match(table, HEADERS) is matches


def test_only_bindings_that_match_lead_somewhere(vhost: VirtualHost) -> None:
    routing = vhost.routing
    for name, value in (("one", b"1"), ("two", b"2")):
        queue(vhost, name)
        routing.bind("amq.headers", name, "queue", "", {b"a": ("S", value)}, ME)
        routing.bind("amq.direct", name, "queue", name, {}, ME)
        routing.bind("amq.fanout", name, "queue", name, {}, ME)
    assert reached(routing, "amq.headers", headers={b"a": ("S", b"2")}) == {"two"}
    assert (reached(routing, "amq.direct", "one"), reached(routing, "amq.fanout", "x")) == (
        {"one"},
        {"one", "two"},
    )


def test_the_alternate_exchange_gets_what_leads_nowhere(vhost: VirtualHost) -> None:
    target, other = Queue("q", vhost, QueueOptions()), Queue("other", vhost, QueueOptions())
    alternate: dict[bytes, FieldValue] = {b"alternate-exchange": ("S", b"y")}
    first, second = (
        Exchange("x", ExchangeType.DIRECT, arguments=alternate),
        Exchange("y", ExchangeType.FANOUT),
    )
    first.bind(Binding(first, other, "k", {}))
    second.bind(Binding(second, target, "", {}))

    def names(key: str, known: Iterable[Exchange]) -> list[str]:
        table = {exchange.name: exchange for exchange in known}
        return [found.name for found in resolve(first, (key,), {}, table.get)]

    assert names("k", [first, second]) == ["other"]
    assert names("z", [first, second]) == ["q"]
    assert names("z", [first]) == []
