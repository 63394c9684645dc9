"""Direct reply-to: answers that go straight to the asking channel, without a queue."""

from __future__ import annotations

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, Probe, declare_bytes
from tests.support.broker import Connect

PSEUDO = "amq.rabbitmq.reply-to"


async def test_answer_goes_to_the_channel_that_asked(connect: Connect) -> None:
    client = await (await connect()).channel()
    server = await (await connect()).channel()
    work = await server.queue()
    await server.consume(work, no_ack=True)
    tag = await client.consume(PSEUDO, no_ack=True)
    client.publish(b"question", work, reply_to=PSEUDO, correlation_id="7")
    question = await server.message()
    reply_to = question.properties["reply_to"]
    assert reply_to.startswith(PSEUDO + ".")
    server.publish(b"answer", reply_to, correlation_id="7", mandatory=True)
    answer = await client.message()
    assert isinstance(answer.method, commands.Basic.Deliver)
    assert (answer.body, answer.properties) == (b"answer", {"correlation_id": "7"})
    assert (answer.method.consumer_tag, answer.method.exchange) == (tag, "")
    assert answer.method.routing_key == reply_to
    assert answer.redelivered is False


async def test_asking_needs_a_consumer_first(channel: Channel) -> None:
    channel.publish(b"x", "work", reply_to=PSEUDO)
    assert await channel.closed() == ChannelClosed(
        406, "PRECONDITION_FAILED - fast reply consumer does not exist", 60, 40
    )


async def test_consumer_must_take_without_ack(channel: Channel) -> None:
    closed = await channel.refused(commands.Basic.Consume(0, PSEUDO, "t", False, False))
    assert closed == ChannelClosed(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", 60, 20)


async def test_only_one_consumer_for_a_channel(channel: Channel) -> None:
    await channel.consume(PSEUDO, no_ack=True)
    closed = await channel.refused(commands.Basic.Consume(0, PSEUDO, "t", False, True))
    assert closed == ChannelClosed(406, "PRECONDITION_FAILED - reply consumer already set", 60, 20)


async def test_pseudo_queue_can_be_declared_and_asked_for(connection: Probe) -> None:
    channel = await connection.channel()
    await channel.consume(PSEUDO, no_ack=True)
    ok = await channel.declare(PSEUDO, passive=True)
    assert (ok.queue, ok.message_count, ok.consumer_count) == (PSEUDO, 0, 1)


async def test_answer_after_the_asker_has_gone_is_returned(connection: Probe) -> None:
    client, server = await connection.channel(), await connection.channel()
    work = await server.queue()
    await client.consume(PSEUDO, no_ack=True)
    client.publish(b"question", work, reply_to=PSEUDO)
    while (question := await server.get(work, no_ack=True)) is None:
        pass
    reply_to = question.properties["reply_to"]
    passive = declare_bytes(reply_to.encode(), passive=True)
    server.probe.send_method(server.number, 50, 10, passive)
    ok = await server.expect(commands.Queue.DeclareOk)
    assert (ok.message_count, ok.consumer_count) == (0, 1)
    await client.close()
    server.publish(b"answer", reply_to, mandatory=True)
    assert isinstance((await server.message()).method, commands.Basic.Return)
    server.probe.send_method(server.number, 50, 10, passive)
    assert await server.closed() == ChannelClosed(
        404, f"NOT_FOUND - no queue '{reply_to}' in vhost '/'", 50, 10
    )


@pytest.mark.parametrize("again", [True, False])
async def test_cancelled_consumer_can_be_made_again(channel: Channel, again: bool) -> None:
    tag = await channel.consume(PSEUDO, no_ack=True)
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    if again:
        await channel.consume(PSEUDO, no_ack=True)
    else:
        channel.publish(b"x", "work", reply_to=PSEUDO)
        assert isinstance(await channel.closed(), ChannelClosed)


async def test_other_reply_to_is_left_as_it_is(channel: Channel) -> None:
    queue = await channel.queue()
    await channel.put(queue, b"x", reply_to="my-own-queue")
    assert (await channel.take(queue)).properties == {"reply_to": "my-own-queue"}


async def test_answers_are_confirmed(connection: Probe) -> None:
    client, server = await connection.channel(), await connection.channel()
    work = await server.queue()
    await server.consume(work, no_ack=True)
    await client.consume(PSEUDO, no_ack=True)
    client.publish(b"question", work, reply_to=PSEUDO)
    reply_to = (await server.message()).properties["reply_to"]
    await server.confirms()
    server.publish(b"answer", reply_to)
    assert await server.outcomes(1) == {1: "ack"}
    assert (await client.message()).body == b"answer"
