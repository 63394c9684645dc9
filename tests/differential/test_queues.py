"""Queues: names, equivalence, exclusivity, passive declaration, purge, delete, auto-delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Message, Probe, declare, declare_bytes
from tests.support.broker import Connect
from tests.support.rabbitmq import unique


def not_found(name: str, class_id: int, method_id: int) -> ChannelClosed:
    return ChannelClosed(404, f"NOT_FOUND - no queue '{name}' in vhost '/'", class_id, method_id)


def locked(name: str, class_id: int, method_id: int) -> ChannelClosed:
    text = (
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. "
        "It could be originally declared on another connection or the exclusive property value "
        "does not match that of the original declaration."
    )
    return ChannelClosed(405, text, class_id, method_id)


def inequivalent(argument: str, name: str, received: str, current: str) -> ChannelClosed:
    text = (
        f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost '/': "
        f"received '{received}' but current is '{current}'"
    )
    return ChannelClosed(406, text, 50, 10)


async def test_empty_name_is_replaced_by_a_generated_one(channel: Channel) -> None:
    first, second = await channel.queue(), await channel.queue()
    assert first != second
    for name in (first, second):
        assert name.startswith("amq.gen-")
        assert len(name) == len("amq.gen-") + 22


async def test_empty_name_means_the_queue_declared_last_on_this_channel(connection: Probe) -> None:
    channel = await connection.channel()
    name = await channel.queue()
    channel.publish(b"1", name)
    await channel.bind("", "amq.direct", name)
    message = await channel.get("")
    assert message is not None and message.body == b"1"
    channel.ack(message.tag)
    tag = await channel.consume("")
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    assert (await channel.rpc(commands.Queue.Purge(0, ""), commands.Queue.PurgeOk)).message_count == 0
    assert await channel.delete("") == 0
    other = await connection.channel()
    assert await other.refused(commands.Basic.Get(0, "")) == ChannelClosed(
        404, "NOT_FOUND - no previously declared queue", 60, 70
    )


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (commands.Basic.Consume(0, ""), (60, 20)),
        (commands.Basic.Get(0, ""), (60, 70)),
        (commands.Queue.Purge(0, ""), (50, 30)),
        (commands.Queue.Delete(0, ""), (50, 40)),
        (commands.Queue.Bind(0, "", "amq.direct", "k"), (50, 20)),
    ],
)
async def test_empty_name_without_a_declaration_is_not_found(
    channel: Channel, method: commands.Basic.Get, ids: tuple[int, int]
) -> None:
    assert await channel.refused(method) == ChannelClosed(
        404, "NOT_FOUND - no previously declared queue", *ids
    )


async def test_reserved_prefix_is_refused(channel: Channel) -> None:
    assert await channel.refused(declare("amq.mine")) == ChannelClosed(
        403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", 50, 10
    )


async def test_declare_ok_tells_name_messages_and_consumers(channel: Channel) -> None:
    name = unique()
    ok = await channel.declare(name, exclusive=True)
    assert (ok.queue, ok.message_count, ok.consumer_count) == (name, 0, 0)
    await channel.put(name, b"1", b"2")
    ok = await channel.declare(name, exclusive=True)
    assert (ok.queue, ok.message_count, ok.consumer_count) == (name, 2, 0)
    await channel.get(name)
    assert await channel.counts(name) == (1, 0), "only what is ready counts"


@pytest.mark.parametrize(
    ("method", "ids"),
    [
        (declare("missing", passive=True), (50, 10)),
        (commands.Basic.Get(0, "missing"), (60, 70)),
        (commands.Basic.Consume(0, "missing"), (60, 20)),
        (commands.Queue.Purge(0, "missing"), (50, 30)),
        (commands.Queue.Bind(0, "missing", "amq.direct", "k"), (50, 20)),
    ],
)
async def test_missing_queue_is_not_found(
    channel: Channel, method: commands.Basic.Get, ids: tuple[int, int]
) -> None:
    assert await channel.refused(method) == not_found("missing", *ids)


async def test_passive_declaration_ignores_properties_and_arguments(channel: Channel) -> None:
    name = await channel.queue(unique())
    ok = await channel.declare(
        name, passive=True, durable=True, auto_delete=True, arguments={"x-max-length": 1}
    )
    assert ok.queue == name


@pytest.mark.parametrize("flag", ["durable", "auto_delete"])
@pytest.mark.parametrize("current", [False, True])
async def test_redeclaring_with_another_property_is_refused(
    connection: Probe, flag: str, current: bool
) -> None:
    channel = await connection.channel()
    name = unique()
    flags: dict[str, Any] = {flag: current}
    await channel.declare(name, **flags)
    flags[flag] = not current
    closed = await channel.refused(declare(name, **flags))
    assert closed == inequivalent(flag, name, str(not current).lower(), str(current).lower())
    await (await connection.channel()).delete(name)


async def test_first_difference_that_is_told_is_durable(connection: Probe) -> None:
    channel = await connection.channel()
    name = unique()
    await channel.declare(name)
    closed = await channel.refused(
        declare(name, durable=True, auto_delete=True, arguments={"x-max-length": 1})
    )
    assert closed == inequivalent("durable", name, "true", "false")
    await (await connection.channel()).delete(name)


async def test_exclusive_queue_is_never_durable(channel: Channel) -> None:
    name = unique()
    await channel.declare(name, exclusive=True, durable=True)
    await channel.declare(name, exclusive=True, durable=False)


async def test_generated_name_cannot_be_declared_again(channel: Channel) -> None:
    name = await channel.queue()
    assert await channel.counts(name) == (0, 0)
    assert await channel.refused(declare(name, exclusive=True)) == ChannelClosed(
        403, f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'", 50, 10
    )


@pytest.mark.parametrize("exclusive", [True, False])
async def test_exclusive_flag_that_does_not_match_is_locked(channel: Channel, exclusive: bool) -> None:
    name = unique()
    await channel.declare(name, exclusive=exclusive)
    assert await channel.refused(declare(name, exclusive=not exclusive)) == locked(name, 50, 10)


@pytest.mark.parametrize(
    ("make", "ids"),
    [
        (lambda name: declare(name, passive=True), (50, 10)),
        (declare, (50, 10)),
        (lambda name: declare(name, exclusive=True), (50, 10)),
        (lambda name: commands.Basic.Get(0, name), (60, 70)),
        (lambda name: commands.Basic.Consume(0, name), (60, 20)),
        (lambda name: commands.Queue.Purge(0, name), (50, 30)),
        (lambda name: commands.Queue.Delete(0, name), (50, 40)),
        (lambda name: commands.Queue.Bind(0, name, "amq.direct", "k"), (50, 20)),
    ],
    ids=["passive", "declare", "declare-exclusive", "get", "consume", "purge", "delete", "bind"],
)
async def test_another_connections_exclusive_queue_is_locked(
    connect: Connect, make: Callable[[str], commands.Basic.Get], ids: tuple[int, int]
) -> None:
    owner = await (await connect()).channel()
    name = unique("x")
    await owner.declare(name, exclusive=True)
    stranger = await (await connect()).channel()
    assert await stranger.refused(make(name)) == locked(name, *ids)


async def test_anyone_may_publish_to_an_exclusive_queue(connect: Connect) -> None:
    owner, stranger = await (await connect()).channel(), await (await connect()).channel()
    name = await owner.queue()
    await stranger.confirms()
    stranger.publish(b"hello", name)
    assert await stranger.outcomes(1) == {1: "ack"}
    assert (await owner.take(name)).body == b"hello"


async def test_another_channel_of_the_owner_may_use_its_exclusive_queue(connection: Probe) -> None:
    first, second = await connection.channel(), await connection.channel()
    name = await first.queue()
    assert await second.counts(name) == (0, 0)


async def test_deleting_tells_how_many_messages_went(channel: Channel) -> None:
    name = await channel.queue()
    for _ in range(3):
        await channel.put(name, b"x")
    await channel.get(name)
    assert await channel.delete(name) == 2


async def test_deleting_a_missing_queue_is_fine(channel: Channel) -> None:
    assert await channel.delete(unique("missing")) == 0


async def test_if_unused_keeps_a_queue_with_consumers(channel: Channel) -> None:
    name = await channel.queue()
    await channel.consume(name, "t")
    assert await channel.refused(commands.Queue.Delete(0, name, True)) == ChannelClosed(
        406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use", 50, 40
    )


async def test_if_empty_keeps_a_queue_with_messages(channel: Channel) -> None:
    name = await channel.queue()
    channel.publish(b"x", name)
    assert await channel.refused(commands.Queue.Delete(0, name, False, True)) == ChannelClosed(
        406, f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty", 50, 40
    )


async def test_if_unused_and_if_empty_let_an_idle_queue_go(channel: Channel) -> None:
    name = await channel.queue()
    await channel.rpc(commands.Queue.Delete(0, name, True, True), commands.Queue.DeleteOk)
    assert await channel.refused(declare(name, passive=True)) == not_found(name, 50, 10)


async def test_purge_takes_ready_messages_and_leaves_unacked_ones(channel: Channel) -> None:
    name = await channel.queue()
    await channel.put(name, b"1", b"2", b"3")
    first = await channel.get(name)
    assert first is not None
    ok = await channel.rpc(commands.Queue.Purge(0, name), commands.Queue.PurgeOk)
    assert ok.message_count == 2
    channel.nack(first.tag)
    assert await channel.bodies(name) == [b"1"]


async def test_auto_delete_queue_lives_until_its_last_consumer_has_gone(connection: Probe) -> None:
    channel, other = await connection.channel(), await connection.channel()
    name = unique()
    await channel.declare(name, auto_delete=True)
    await channel.consume(name, "a")
    await other.consume(name, "b")
    await channel.rpc(commands.Basic.Cancel("a"), commands.Basic.CancelOk)
    assert await channel.counts(name) == (0, 1)
    await other.rpc(commands.Basic.Cancel("b"), commands.Basic.CancelOk)
    assert await channel.refused(declare(name, passive=True)) == not_found(name, 50, 10)


async def test_auto_delete_queue_that_never_had_a_consumer_stays(channel: Channel) -> None:
    name = unique()
    await channel.declare(name, auto_delete=True)
    channel.publish(b"x", name)
    assert (await channel.take(name)).body == b"x"
    assert await channel.counts(name) == (0, 0)
    assert await channel.delete(name) == 0


async def test_auto_delete_queue_goes_with_its_consumers_channel(connection: Probe) -> None:
    channel, other = await connection.channel(), await connection.channel()
    name = unique()
    await channel.declare(name, auto_delete=True)
    await channel.consume(name)
    await channel.close()
    assert await other.refused(declare(name, passive=True)) == not_found(name, 50, 10)


async def test_non_exclusive_queue_outlives_its_connection(connect: Connect) -> None:
    probe = await connect()
    name = unique()
    channel = await probe.channel()
    await channel.declare(name)
    await channel.put(name, b"kept")
    await probe.close()
    other = await (await connect()).channel()
    assert (await other.take(name)).body == b"kept"
    await other.delete(name)


async def test_no_wait_is_answered_by_nothing(channel: Channel) -> None:
    name = unique()
    channel.send(declare(name, exclusive=True, nowait=True))
    channel.send(commands.Queue.Bind(0, name, "amq.fanout", "", True))
    channel.send(commands.Basic.Consume(0, name, "t", False, True, False, True))
    channel.publish(b"x", name)
    message = await channel.next()
    assert isinstance(message, Message)
    assert message.body == b"x"
    channel.send(commands.Basic.Cancel("t", True))
    channel.publish(b"y", name)
    channel.send(commands.Queue.Purge(0, name, True))
    channel.send(commands.Queue.Delete(0, name, False, False, True))
    channel.send(declare(name, passive=True))
    assert isinstance(await channel.next(), commands.Channel.Close)


@pytest.mark.parametrize("prefix", ["with space ", "ünïcode-", "a/b?c#d*", "\x01\t"])
async def test_names_may_be_any_text(channel: Channel, prefix: str) -> None:
    name = (prefix + unique()).encode()
    channel.probe.send_method(channel.number, 50, 10, declare_bytes(name))
    ok = await channel.next()
    assert isinstance(ok, commands.Queue.DeclareOk)
    assert (ok.queue or "").encode() == name
