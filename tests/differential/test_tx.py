"""Transactions of one channel: publishes and acks take effect at commit."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Probe
from tests.support.rabbitmq import unique


async def select(channel: Channel) -> None:
    await channel.rpc(commands.Tx.Select(), commands.Tx.SelectOk)


async def commit(channel: Channel) -> None:
    await channel.rpc(commands.Tx.Commit(), commands.Tx.CommitOk)


async def rollback(channel: Channel) -> None:
    await channel.rpc(commands.Tx.Rollback(), commands.Tx.RollbackOk)


@pytest.mark.parametrize(("method", "method_id"), [(commands.Tx.Commit(), 20), (commands.Tx.Rollback(), 30)])
async def test_without_select_there_is_no_transaction(
    channel: Channel, method: commands.Tx.Commit, method_id: int
) -> None:
    assert await channel.refused(method) == ChannelClosed(
        406, "PRECONDITION_FAILED - channel is not transactional", 90, method_id
    )


async def test_publishes_wait_for_the_commit(connection: Probe) -> None:
    channel, watcher = await connection.channel(), await connection.channel()
    queue = await channel.queue()
    await select(channel)
    channel.publish(b"1", queue)
    channel.publish(b"2", queue)
    await channel.settled(queue)
    assert await watcher.get(queue) is None
    await commit(channel)
    assert await watcher.bodies(queue) == [b"1", b"2"]


async def test_rolled_back_publishes_are_gone(channel: Channel) -> None:
    queue = await channel.queue()
    await select(channel)
    channel.publish(b"1", queue)
    await rollback(channel)
    channel.publish(b"2", queue)
    await commit(channel)
    assert await channel.bodies(queue) == [b"2"]


async def test_acks_wait_for_the_commit(connection: Probe) -> None:
    channel, watcher = await connection.channel(), await connection.channel()
    queue = await channel.queue()
    await channel.put(queue, b"1", b"2")
    await select(channel)
    first, second = await channel.get(queue), await channel.get(queue)
    assert first is not None and second is not None
    channel.ack(first.tag)
    await commit(channel)
    channel.ack(second.tag)
    await channel.close()  # uncommitted: as if it had not been acked
    message = await watcher.take(queue)
    assert (message.body, message.redelivered) == (b"2", True)
    assert await watcher.get(queue) is None


async def test_rolled_back_acks_can_be_made_again(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"1")
    await select(channel)
    message = await channel.get(queue)
    assert message is not None
    channel.ack(message.tag)
    await rollback(channel)
    channel.ack(message.tag)
    await commit(channel)


async def test_rejects_wait_for_the_commit_too(connection: Probe) -> None:
    channel, watcher = await connection.channel(), await connection.channel()
    queue = await channel.queue()
    await channel.put(queue, b"1")
    await select(channel)
    message = await channel.get(queue)
    assert message is not None
    channel.nack(message.tag)
    await channel.settled(queue)
    assert await watcher.get(queue) is None
    await commit(channel)
    again = await watcher.take(queue)
    assert (again.body, again.redelivered) == (b"1", True)


async def test_returns_come_with_the_commit(channel: Channel) -> None:
    await select(channel)
    channel.publish(b"x", unique("nobody"), mandatory=True)
    channel.send(commands.Tx.Commit())
    returned = await channel.message()
    assert isinstance(returned.method, commands.Basic.Return)
    assert isinstance(await channel.next(), commands.Tx.CommitOk)


async def test_missing_exchange_closes_at_once(channel: Channel) -> None:
    await select(channel)
    name = unique("missing")
    channel.publish(b"x", "k", exchange=name)
    assert await channel.closed() == ChannelClosed(
        404, f"NOT_FOUND - no exchange '{name}' in vhost '/'", 60, 40
    )


async def test_uncommitted_publishes_go_with_the_channel(connection: Probe) -> None:
    channel, watcher = await connection.channel(), await connection.channel()
    queue = await channel.queue()
    await select(channel)
    channel.publish(b"x", queue)
    await channel.close()
    assert await watcher.get(queue) is None


async def test_selecting_twice_is_fine(channel: Channel) -> None:
    await select(channel)
    await select(channel)
    await commit(channel)
