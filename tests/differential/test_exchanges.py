"""Exchanges: declaring, deleting, the built-in ones, routing by each type, alternate exchanges."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, ConnectionClosed, Probe, declare_exchange
from tests.support.rabbitmq import unique

ON_DEFAULT = "ACCESS_REFUSED - operation not permitted on the default exchange"


def not_found(name: str, class_id: int, method_id: int) -> ChannelClosed:
    return ChannelClosed(404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", class_id, method_id)


def inequivalent(argument: str, name: str, received: str, current: str) -> ChannelClosed:
    text = (
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{name}' in vhost '/': "
        f"received {received} but current is {current}"
    )
    return ChannelClosed(406, text, 40, 10)


async def delete(probe: Probe, name: str) -> None:
    channel = await probe.channel()
    await channel.rpc(commands.Exchange.Delete(0, name), commands.Exchange.DeleteOk)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("amq.direct", "direct"),
        ("amq.fanout", "fanout"),
        ("amq.topic", "topic"),
        ("amq.headers", "headers"),
        ("amq.match", "headers"),
    ],
)
async def test_built_in_exchange_is_durable_and_of_its_type(channel: Channel, name: str, kind: str) -> None:
    await channel.exchange(name, kind, durable=True)
    await channel.exchange(name, kind, passive=True)
    closed = await channel.refused(declare_exchange(name, kind))
    assert closed == inequivalent("durable", name, "'false'", "'true'")


async def test_type_is_the_first_difference_that_is_told(channel: Channel) -> None:
    closed = await channel.refused(declare_exchange("amq.direct", "fanout"))
    assert closed == inequivalent("type", "amq.direct", "'fanout'", "'direct'")


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (declare_exchange(""), (40, 10)),
        (declare_exchange("", passive=True), (40, 10)),
        (commands.Exchange.Delete(0, ""), (40, 20)),
        (commands.Exchange.Bind(0, "", "amq.direct", "k"), (40, 30)),
        (commands.Exchange.Bind(0, "amq.direct", "", "k"), (40, 30)),
        (commands.Exchange.Unbind(0, "amq.direct", "", "k"), (40, 40)),
        (commands.Queue.Bind(0, "q", "", "k"), (50, 20)),
        (commands.Queue.Unbind(0, "q", "", "k"), (50, 50)),
    ],
)
async def test_default_exchange_takes_no_operation(
    channel: Channel, method: commands.Exchange.Delete, ids: tuple[int, int]
) -> None:
    assert await channel.refused(method) == ChannelClosed(403, ON_DEFAULT, *ids)


async def test_deleting_a_built_in_exchange_is_refused(channel: Channel) -> None:
    assert await channel.refused(commands.Exchange.Delete(0, "amq.topic")) == ChannelClosed(
        403, "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed", 40, 20
    )


async def test_reserved_prefix_is_refused(channel: Channel) -> None:
    assert await channel.refused(declare_exchange("amq.mine")) == ChannelClosed(
        403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", 40, 10
    )


async def test_missing_reserved_name_is_not_found_passively(channel: Channel) -> None:
    assert await channel.refused(declare_exchange("amq.mine", passive=True)) == not_found("amq.mine", 40, 10)


async def test_unknown_type_is_a_command_invalid(channel: Channel) -> None:
    assert await channel.refused(declare_exchange(unique("x"), "carousel")) == ConnectionClosed(
        503, "COMMAND_INVALID - unknown exchange type 'carousel'", 40, 10
    )


async def test_type_is_not_looked_at_passively(channel: Channel) -> None:
    await channel.exchange("amq.direct", "fanout", passive=True)


@pytest.mark.parametrize("flag", ["durable", "auto_delete", "internal"])
async def test_redeclaring_with_another_property_is_refused(connection: Probe, flag: str) -> None:
    channel = await connection.channel()
    name = await channel.exchange(unique("x"))
    flags: dict[str, Any] = {flag: True}
    closed = await channel.refused(declare_exchange(name, **flags))
    assert closed == inequivalent(flag, name, "'true'", "'false'")
    await delete(connection, name)


async def test_redeclaring_with_another_alternate_exchange_is_refused(connection: Probe) -> None:
    channel = await connection.channel()
    name = await channel.exchange(unique("x"), arguments={"alternate-exchange": "one"})
    await channel.exchange(name, arguments={"alternate-exchange": "one", "unknown": 1})
    closed = await channel.refused(declare_exchange(name, arguments={"alternate-exchange": "two"}))
    assert closed == inequivalent("alternate-exchange", name, "'two'", "'one'")
    await delete(connection, name)


async def test_deleting_a_missing_exchange_is_fine(channel: Channel) -> None:
    await channel.rpc(commands.Exchange.Delete(0, unique("missing")), commands.Exchange.DeleteOk)


async def test_if_unused_keeps_an_exchange_with_bindings(connection: Probe) -> None:
    channel = await connection.channel()
    name = await channel.exchange(unique("x"))
    queue = await channel.queue()
    await channel.bind(queue, name, "k")
    assert await channel.refused(commands.Exchange.Delete(0, name, True)) == ChannelClosed(
        406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use", 40, 20
    )
    await delete(connection, name)


async def test_auto_delete_exchange_goes_with_its_last_binding(channel: Channel) -> None:
    name = await channel.exchange(unique("x"), auto_delete=True)
    queue = await channel.queue()
    await channel.bind(queue, name, "a")
    await channel.bind(queue, name, "b")
    await channel.rpc(commands.Queue.Unbind(0, queue, name, "a"), commands.Queue.UnbindOk)
    await channel.exchange(name, passive=True)
    await channel.rpc(commands.Queue.Unbind(0, queue, name, "b"), commands.Queue.UnbindOk)
    assert await channel.refused(declare_exchange(name, passive=True)) == not_found(name, 40, 10)


async def test_auto_delete_exchange_goes_with_its_last_queue(channel: Channel) -> None:
    name = await channel.exchange(unique("x"), auto_delete=True)
    queue = await channel.queue()
    await channel.bind(queue, name, "a")
    await channel.delete(queue)
    assert await channel.refused(declare_exchange(name, passive=True)) == not_found(name, 40, 10)


async def test_auto_delete_chain_of_exchanges_goes_together(channel: Channel) -> None:
    outer = await channel.exchange(unique("x"), "fanout", auto_delete=True)
    inner = await channel.exchange(unique("x"), "fanout")
    await channel.rpc(commands.Exchange.Bind(0, inner, outer, ""), commands.Exchange.BindOk)
    await channel.rpc(commands.Exchange.Delete(0, inner), commands.Exchange.DeleteOk)
    assert await channel.refused(declare_exchange(outer, passive=True)) == not_found(outer, 40, 10)


async def test_internal_exchange_takes_no_publish(connection: Probe) -> None:
    channel = await connection.channel()
    name = await channel.exchange(unique("x"), "fanout", internal=True)
    channel.publish(b"x", "k", exchange=name)
    assert await channel.closed() == ChannelClosed(
        403, f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'", 60, 40
    )
    await delete(connection, name)


async def test_internal_exchange_routes_what_other_exchanges_give_it(channel: Channel) -> None:
    outer = await channel.exchange(unique("x"), "fanout", auto_delete=True)
    inner = await channel.exchange(unique("x"), "fanout", auto_delete=True, internal=True)
    queue = await channel.queue()
    await channel.rpc(commands.Exchange.Bind(0, inner, outer, ""), commands.Exchange.BindOk)
    await channel.bind(queue, inner)
    await channel.put("k", b"through", exchange=outer)
    assert await channel.bodies(queue) == [b"through"]


async def test_direct_routes_on_the_whole_key_once_per_queue(channel: Channel) -> None:
    one, two = await channel.queue(), await channel.queue()
    name = await channel.exchange(unique("x"), "direct", auto_delete=True)
    await channel.bind(one, name, "k")
    await channel.bind(one, name, "k", {"twice": True})
    await channel.bind(two, name, "k.l")
    await channel.put("k", b"x", exchange=name)
    assert (await channel.bodies(one), await channel.bodies(two)) == ([b"x"], [])


async def test_fanout_ignores_the_key(channel: Channel) -> None:
    queues = [await channel.queue() for _ in range(3)]
    name = await channel.exchange(unique("x"), "fanout", auto_delete=True)
    for queue in queues:
        await channel.bind(queue, name, unique("k"))
    await channel.put("whatever", b"x", exchange=name)
    assert [await channel.bodies(queue) for queue in queues] == [[b"x"]] * 3


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "a.", ""]),
        ("a.*", ["a.b", "a."], ["a", "a.b.c"]),
        ("*", ["a"], ["", "a.b"]),
        ("*.*", ["a.b", "."], ["a", "a.b.c"]),
        ("#", ["", "a", "a.b", "..."], []),
        ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]),
        ("#.a", ["a", "b.a", "c.b.a"], ["a.b"]),
        ("a.#.b", ["a.b", "a.x.b", "a.x.y.b"], ["a", "b", "a.x"]),
        ("*.#", ["a", "a.b"], []),
        ("#.#", ["", "a", "a.b.c"], []),
        ("a.**", ["a.**"], ["a.b", "a.bb"]),
        ("#.b.#", ["b", "a.b", "b.c", "a.b.c"], ["a", "a.c"]),
        ("", [""], ["a"]),
    ],
)
async def test_topic_matches_word_by_word(
    channel: Channel, pattern: str, matching: list[str], other: list[str]
) -> None:
    queue = await channel.queue()
    name = await channel.exchange(unique("x"), "topic", auto_delete=True)
    await channel.bind(queue, name, pattern)
    for key in [*matching, *other]:
        await channel.put(key, key.encode(), exchange=name)
    assert await channel.bodies(queue) == [key.encode() for key in matching]


@pytest.mark.parametrize(
    ("arguments", "matching", "other"),
    [
        (
            {"a": 1, "b": "x"},
            [{"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 2}],
            [{"a": 1}, {}, {"a": 1, "b": "y"}],
        ),
        ({"x-match": "all", "a": 1}, [{"a": 1}], [{"a": 2}, {"b": 1}]),
        ({"x-match": "any", "a": 1, "b": 2}, [{"a": 1}, {"b": 2}, {"a": 0, "b": 2}], [{"a": 2}, {}]),
        ({"x-match": "all"}, [{}, {"a": 1}], []),
        ({"x-match": "any"}, [], [{}, {"a": 1}]),
        ({"x-match": "all", "x-a": 1, "b": 2}, [{"b": 2}], [{"x-a": 1}]),
        ({"x-match": "all-with-x", "x-a": 1, "b": 2}, [{"x-a": 1, "b": 2}], [{"b": 2}]),
        ({"x-match": "any", "x-a": 1, "b": 2}, [{"b": 2}], [{"x-a": 1}]),
        ({"x-match": "any-with-x", "x-a": 1, "b": 2}, [{"x-a": 1}, {"b": 2}], [{"c": 3}]),
        ({"x-match": "all", "a": True}, [{"a": True}], [{"a": 1}, {"a": "true"}, {"a": False}]),
        ({"x-match": "all", "a": "1"}, [{"a": "1"}], [{"a": 1}]),
        ({"x-match": "all", "a": 300}, [{"a": 300}], [{"a": 301}]),
        ({"x-match": "all", "a": None}, [{"a": None}, {"a": 5}, {"a": "any"}], [{}]),
        ({"x-match": "all", "a": {"b": [1]}}, [{"a": {"b": [1]}}], [{"a": {"b": [2]}}]),
    ],
)
async def test_headers_match_as_the_binding_says(
    channel: Channel, arguments: dict[str, Any], matching: list[dict[str, Any]], other: list[dict[str, Any]]
) -> None:
    queue = await channel.queue()
    name = await channel.exchange(unique("x"), "headers", auto_delete=True)
    await channel.bind(queue, name, "ignored", arguments)
    for number, headers in enumerate([*matching, *other]):
        await channel.put("", str(number).encode(), exchange=name, headers=headers)
    assert await channel.bodies(queue) == [str(number).encode() for number in range(len(matching))]


async def test_headers_compare_values_whatever_the_width_of_the_integer(channel: Channel) -> None:
    queue = await channel.queue()
    name = await channel.exchange(unique("x"), "headers", auto_delete=True)
    await channel.bind(queue, name, "", {"x-match": "all", "a": 70_000})  # as 32 bits
    channel.send(commands.Basic.Publish(0, name, ""))
    table = b"\x01al" + (70_000).to_bytes(8, "big")  # as 64 bits
    flags = (1 << 13).to_bytes(2, "big")
    head = b"\x00\x3c\x00\x00" + bytes(8) + flags + len(table).to_bytes(4, "big") + table
    channel.probe.send_raw(2, channel.number, head)
    assert await channel.bodies(queue) == [b""]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("some", 'Invalid x-match field value <<"some">>; expected all, any, all-with-x, or any-with-x'),
        (1, "Invalid x-match field type byte (value 1); expected longstr"),
    ],
)
async def test_bad_x_match_is_refused(connection: Probe, value: object, text: str) -> None:
    channel = await connection.channel()
    queue = await channel.queue()
    bind = commands.Queue.Bind(0, queue, "amq.headers", "", False, {"x-match": value})  # type: ignore[dict-item]
    closed = await channel.refused(bind)
    assert closed == ChannelClosed(406, f"PRECONDITION_FAILED - {text}", 50, 20)


async def test_unroutable_message_goes_to_the_alternate_exchange(channel: Channel) -> None:
    other = await channel.exchange(unique("ae"), "fanout", auto_delete=True)
    name = await channel.exchange(
        unique("x"), "direct", auto_delete=True, arguments={"alternate-exchange": other}
    )
    routed, fallen = await channel.queue(), await channel.queue()
    await channel.bind(routed, name, "known")
    await channel.bind(fallen, other)
    await channel.put("known", b"1", exchange=name)
    await channel.put("unknown", b"2", exchange=name)
    assert (await channel.bodies(routed), await channel.bodies(fallen)) == ([b"1"], [b"2"])


async def test_alternate_exchange_may_have_one_too_and_a_cycle_ends(channel: Channel) -> None:
    first, second = unique("x"), unique("x")
    await channel.exchange(first, "direct", auto_delete=True, arguments={"alternate-exchange": second})
    await channel.exchange(second, "direct", auto_delete=True, arguments={"alternate-exchange": first})
    queue = await channel.queue()
    await channel.bind(queue, second, "b")
    await channel.bind(queue, first, "a")
    await channel.put("b", b"by the second", exchange=first)
    assert await channel.bodies(queue) == [b"by the second"]
    channel.publish(b"nowhere", "c", exchange=first, mandatory=True)
    returned = await channel.message()
    assert isinstance(returned.method, commands.Basic.Return)
    assert returned.method.reply_code == 312


async def test_alternate_exchange_that_does_not_exist_drops(channel: Channel) -> None:
    name = await channel.exchange(unique("x"), arguments={"alternate-exchange": unique("missing")})
    channel.publish(b"x", "k", exchange=name, mandatory=True)
    assert isinstance((await channel.message()).method, commands.Basic.Return)
    await channel.rpc(commands.Exchange.Delete(0, name), commands.Exchange.DeleteOk)


async def test_no_wait_declaration_and_deletion_are_answered_by_nothing(channel: Channel) -> None:
    name = unique("x")
    channel.send(declare_exchange(name, nowait=True))
    channel.send(commands.Exchange.Delete(0, name, False, True))
    assert await channel.refused(declare_exchange(name, passive=True)) == not_found(name, 40, 10)
