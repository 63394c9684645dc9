"""Bindings of queues and of exchanges: once each, removable, gone with either end."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed
from tests.support.rabbitmq import unique


async def unbind(channel: Channel, queue: str, exchange: str, key: str) -> None:
    await channel.rpc(commands.Queue.Unbind(0, queue, exchange, key), commands.Queue.UnbindOk)


async def test_binding_twice_is_one_binding(channel: Channel) -> None:
    queue, name = await channel.queue(), await channel.exchange(unique("x"))
    await channel.bind(queue, name, "k")
    await channel.bind(queue, name, "k")
    await channel.put("k", b"1", exchange=name)
    assert await channel.bodies(queue) == [b"1"]
    await unbind(channel, queue, name, "k")
    await channel.put("k", b"2", exchange=name)
    assert await channel.bodies(queue) == []


async def test_arguments_are_part_of_a_binding(channel: Channel) -> None:
    queue, name = await channel.queue(), await channel.exchange(unique("x"))
    await channel.bind(queue, name, "k", {"a": 1})
    await unbind(channel, queue, name, "k")
    await channel.put("k", b"still bound", exchange=name)
    assert await channel.bodies(queue) == [b"still bound"]
    await channel.rpc(commands.Queue.Unbind(0, queue, name, "k", {"a": 1}), commands.Queue.UnbindOk)
    await channel.put("k", b"not bound", exchange=name)
    assert await channel.bodies(queue) == []


@pytest.mark.parametrize(
    ("method", "missing", "ids"),
    [
        (commands.Queue.Bind(0, "no-q", "amq.direct", "k"), "queue 'no-q'", (50, 20)),
        (commands.Queue.Bind(0, "no-q", "no-x", "k"), "exchange 'no-x'", (50, 20)),
        (commands.Exchange.Bind(0, "no-x", "amq.direct", "k"), "exchange 'no-x'", (40, 30)),
        (commands.Exchange.Bind(0, "amq.direct", "no-x", "k"), "exchange 'no-x'", (40, 30)),
    ],
)
async def test_missing_end_is_not_found(
    channel: Channel, method: commands.Queue.Bind, missing: str, ids: tuple[int, int]
) -> None:
    assert await channel.refused(method) == ChannelClosed(404, f"NOT_FOUND - no {missing} in vhost '/'", *ids)


async def test_unbinding_what_is_not_bound_is_fine(channel: Channel) -> None:
    queue = await channel.queue()
    await unbind(channel, queue, "amq.direct", "never")
    await unbind(channel, queue, unique("no-x"), "never")
    await unbind(channel, unique("no-q"), "amq.direct", "never")
    method = commands.Exchange.Unbind(0, unique("no-x"), "amq.direct", "k")
    await channel.rpc(method, commands.Exchange.UnbindOk)


async def test_bindings_go_with_their_queue(channel: Channel) -> None:
    name = await channel.exchange(unique("x"))
    queue = await channel.queue(unique())
    await channel.bind(queue, name, "k")
    await channel.delete(queue)
    await channel.queue(queue)
    await channel.put("k", b"x", exchange=name)
    assert await channel.bodies(queue) == []


async def test_bindings_go_with_their_exchange(channel: Channel) -> None:
    name = await channel.exchange(unique("x"))
    queue = await channel.queue()
    await channel.bind(queue, name, "k")
    await channel.rpc(commands.Exchange.Delete(0, name), commands.Exchange.DeleteOk)
    await channel.exchange(name)
    await channel.put("k", b"x", exchange=name)
    assert await channel.bodies(queue) == []


async def test_exchanges_can_be_chained_and_loops_deliver_once(channel: Channel) -> None:
    first, second = [await channel.exchange(unique("x"), "topic") for _ in range(2)]
    queue = await channel.queue()
    for destination, source in ((second, first), (first, second)):
        method = commands.Exchange.Bind(0, destination, source, "#")
        await channel.rpc(method, commands.Exchange.BindOk)
    await channel.bind(queue, second, "a.*")
    await channel.bind(queue, first, "#")
    await channel.put("a.b", b"x", exchange=first)
    message = await channel.take(queue)
    assert isinstance(message.method, commands.Basic.GetOk)
    assert (message.method.exchange, message.method.routing_key) == (first, "a.b")
    assert await channel.bodies(queue) == []
    await channel.rpc(commands.Exchange.Unbind(0, second, first, "#"), commands.Exchange.UnbindOk)
    for name in (first, second):
        await channel.rpc(commands.Exchange.Delete(0, name), commands.Exchange.DeleteOk)


async def test_every_queue_is_bound_to_the_default_exchange_by_its_name(channel: Channel) -> None:
    queue = await channel.queue(unique())
    await channel.put(queue, b"x")
    message = await channel.take(queue)
    assert isinstance(message.method, commands.Basic.GetOk)
    assert (message.method.exchange, message.method.routing_key) == ("", queue)
