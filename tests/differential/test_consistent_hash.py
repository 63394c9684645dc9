"""Exchanges of type x-consistent-hash: weights, what is hashed, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, declare_exchange
from tests.support.rabbitmq import unique

KIND = "x-consistent-hash"


async def hashing(channel: Channel, *weights: str, **arguments: Any) -> tuple[str, list[str]]:
    """An exchange and a queue for each weight, bound by it."""
    table = {key.replace("_", "-"): value for key, value in arguments.items()}
    name = await channel.exchange(unique("hash"), KIND, auto_delete=True, arguments=table)
    queues = [await channel.queue() for _ in weights]
    for queue, weight in zip(queues, weights, strict=True):
        await channel.bind(queue, name, weight)
    return name, queues


async def spread(channel: Channel, exchange: str, queues: list[str], keys: int = 600) -> list[set[bytes]]:
    for number in range(keys):
        channel.publish(b"%d" % number, f"key-{number}", exchange=exchange)
    await channel.put(queues[0], b"")  # all published messages are in their queues after this
    return [set(await channel.bodies(queue)) - {b""} for queue in queues]


async def test_every_message_goes_to_one_queue_and_equal_keys_to_the_same(channel: Channel) -> None:
    exchange, queues = await hashing(channel, "1", "1", "1")
    first = await spread(channel, exchange, queues)
    assert sum(map(len, first)) == 600
    assert await spread(channel, exchange, queues) == first


async def test_weights_decide_how_much_a_queue_gets(channel: Channel) -> None:
    exchange, queues = await hashing(channel, "1", "3")
    light, heavy = (len(part) for part in await spread(channel, exchange, queues))
    assert 2 < heavy / light < 4.5


async def test_new_queue_takes_only_what_it_gets_itself(channel: Channel) -> None:
    exchange, queues = await hashing(channel, "1", "1", "1")
    before = await spread(channel, exchange, queues)
    queues.append(await channel.queue())
    await channel.bind(queues[-1], exchange, "1")
    after = await spread(channel, exchange, queues)
    assert after[3]
    for was, now in zip(before, after, strict=False):
        assert now == was - after[3]


async def test_second_binding_of_a_queue_changes_nothing(channel: Channel) -> None:
    exchange, queues = await hashing(channel, "1", "1")
    before = await spread(channel, exchange, queues)
    await channel.bind(queues[0], exchange, "20")
    assert await spread(channel, exchange, queues) == before


@pytest.mark.parametrize("name", ["message_id", "correlation_id", "timestamp"])
async def test_property_decides(channel: Channel, name: str) -> None:
    exchange, queues = await hashing(channel, "1", "1", hash_property=name)
    for number in range(60):
        value: Any = datetime.fromtimestamp(number * 1000, UTC) if name == "timestamp" else str(number)
        channel.publish(b"x", "one key", exchange=exchange, **{name: value})
    await channel.put(queues[0], b"")
    assert all([len(await channel.bodies(queue)) > 10 for queue in queues])


async def test_header_decides_and_without_it_one_queue_gets_all(channel: Channel) -> None:
    exchange, queues = await hashing(channel, "1", "1", hash_header="user")
    for number in range(60):
        channel.publish(b"x", "one key", exchange=exchange, headers={"user": number})
    await channel.put(queues[0], b"")
    assert all([len(await channel.bodies(queue)) > 10 for queue in queues])
    for number in range(20):
        channel.publish(b"x", f"key-{number}", exchange=exchange, headers={"other": number})
    await channel.put(queues[0], b"x")
    assert sorted([len(await channel.bodies(queue)) for queue in queues]) in ([1, 20], [0, 21])


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("0", "must be greater than 0"),
        ("-1", "must be greater than 0"),
        ("a", 'must be an integer: <<"a">>'),
        ("", "must be an integer: <<>>"),
        ("1.5", 'must be an integer: <<"1.5">>'),
    ],
)
async def test_binding_key_that_is_no_weight_is_refused(channel: Channel, key: str, why: str) -> None:
    exchange = await channel.exchange(unique("hash"), KIND)
    queue = await channel.queue()
    closed = await channel.refused(commands.Queue.Bind(0, queue, exchange, key))
    assert closed == ChannelClosed(406, f"PRECONDITION_FAILED - The binding key {why}", 50, 20)
    again = await channel.probe.channel()
    await again.rpc(commands.Exchange.Delete(0, exchange), commands.Exchange.DeleteOk)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"hash-property": "body"}, "Unsupported property: body"),
        (
            {"hash-header": "a", "hash-property": "message_id"},
            "hash-header and hash-property are mutually exclusive",
        ),
    ],
)
async def test_arguments_that_cannot_be_are_refused(
    channel: Channel, arguments: dict[str, str], why: str
) -> None:
    closed = await channel.refused(declare_exchange(unique("hash"), KIND, arguments=arguments))
    assert closed == ChannelClosed(406, f"PRECONDITION_FAILED - {why}", 40, 10)
