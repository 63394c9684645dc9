"""Arguments of queues: which values are taken, which are refused and how, and what is equivalent."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, ChannelClosed, declare
from tests.support.rabbitmq import unique

NEGATIVE = "{value_negative,-1}"
NOT_INTEGER = '"expected integer, got longstr"'


def invalid(argument: str, name: str, why: str) -> ChannelClosed:
    text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/'{why}"
    return ChannelClosed(406, text, 50, 10)


@pytest.mark.parametrize(
    ("argument", "value", "why"),
    [
        ("x-message-ttl", -1, NEGATIVE),
        ("x-message-ttl", "5", NOT_INTEGER),
        ("x-message-ttl", True, '"expected integer, got bool"'),
        ("x-message-ttl", 1.5, '"expected integer, got float"'),
        ("x-message-ttl", 2**40, "{value_too_large,1099511627776}"),
        ("x-expires", 0, "{value_zero,0}"),
        ("x-expires", -1, NEGATIVE),
        ("x-expires", "5", NOT_INTEGER),
        ("x-max-length", -1, NEGATIVE),
        ("x-max-length", "5", NOT_INTEGER),
        ("x-max-length-bytes", -1, NEGATIVE),
        ("x-max-length-bytes", "5", NOT_INTEGER),
        ("x-overflow", "spill", "invalid_overflow"),
        ("x-overflow", 1, "{unacceptable_type,byte}"),
        ("x-dead-letter-routing-key", "k", "routing_key_but_no_dlx_defined"),
        ("x-dead-letter-routing-key", 1, "{unacceptable_type,byte}"),
        ("x-max-priority", -1, NEGATIVE),
        ("x-max-priority", 256, "{max_value_exceeded,256}"),
        ("x-max-priority", "5", NOT_INTEGER),
        ("x-single-active-consumer", 1, "{unacceptable_type,byte}"),
        ("x-single-active-consumer", "true", "{unacceptable_type,longstr}"),
        ("x-queue-type", "heap", "\"unsupported queue type 'heap'\""),
        ("x-queue-type", 1, "{unacceptable_type,byte}"),
        ("x-queue-mode", "busy", "\"unsupported queue mode 'busy'\""),
        ("x-queue-mode", 1, "{unacceptable_type,byte}"),
    ],
)
async def test_bad_value_is_refused_with_its_reason(
    channel: Channel, argument: str, value: object, why: str
) -> None:
    name = unique()
    closed = await channel.refused(declare(name, exclusive=True, arguments={argument: value}))
    assert closed == invalid(argument, name, f": {why}")


async def test_dead_letter_exchange_that_is_no_text_is_refused(channel: Channel) -> None:
    name = unique()
    closed = await channel.refused(declare(name, exclusive=True, arguments={"x-dead-letter-exchange": 1}))
    assert closed == ChannelClosed(
        406,
        "PRECONDITION_FAILED - invalid type 'byte' for arg 'x-dead-letter-exchange' "
        f"in queue '{name}' in vhost '/'",
        50,
        10,
    )


@pytest.mark.parametrize(
    "argument",
    [
        "x-delivery-limit",
        "x-max-in-memory-length",
        "x-quorum-initial-group-size",
        "x-queue-leader-locator",
        "x-max-age",
        "x-stream-max-segment-size-bytes",
        "x-initial-cluster-size",
        "x-dead-letter-strategy",
    ],
)
async def test_argument_of_other_queue_types_is_refused(channel: Channel, argument: str) -> None:
    name = unique()
    closed = await channel.refused(declare(name, exclusive=True, arguments={argument: 5}))
    assert closed == invalid(argument, name, " of queue type rabbit_classic_queue")


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("x-message-ttl", 0),
        ("x-message-ttl", 4294967295),
        ("x-expires", 60_000),
        ("x-max-length", 0),
        ("x-max-length-bytes", 0),
        ("x-max-priority", 0),
        ("x-max-priority", 255),
        ("x-overflow", "drop-head"),
        ("x-overflow", "reject-publish"),
        ("x-overflow", "reject-publish-dlx"),
        ("x-single-active-consumer", True),
        ("x-single-active-consumer", False),
        ("x-queue-type", "classic"),
        ("x-queue-mode", "lazy"),
        ("x-queue-mode", "default"),
        ("x-dead-letter-exchange", ""),
        ("x-dead-letter-exchange", "not-yet-there"),
        ("x-anything", {"of": ["any", "kind"]}),
        ("no-prefix", 1),
    ],
)
async def test_good_value_is_taken_and_equal_to_itself(
    channel: Channel, argument: str, value: object
) -> None:
    name = unique()
    arguments: dict[str, Any] = {argument: value}
    assert (await channel.declare(name, exclusive=True, arguments=arguments)).queue == name
    assert (await channel.declare(name, exclusive=True, arguments=arguments)).queue == name


async def test_other_value_is_inequivalent(channel: Channel) -> None:
    name = await channel.queue(unique(), x_message_ttl=5000)
    closed = await channel.refused(declare(name, exclusive=True, arguments={"x-message-ttl": 6000}))
    assert closed == ChannelClosed(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{name}' in vhost '/': "
        "received '6000' but current is '5000'",
        50,
        10,
    )


async def test_value_where_there_was_none_is_inequivalent(channel: Channel) -> None:
    name = await channel.queue(unique())
    closed = await channel.refused(declare(name, exclusive=True, arguments={"x-max-length": 100}))
    assert closed == ChannelClosed(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{name}' in vhost '/': "
        "received the value '100' of type 'byte' but current is none",
        50,
        10,
    )


async def test_missing_value_is_inequivalent(channel: Channel) -> None:
    name = await channel.queue(unique(), x_dead_letter_exchange="dlx")
    closed = await channel.refused(declare(name, exclusive=True))
    assert closed == ChannelClosed(
        406,
        f"PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue '{name}' "
        "in vhost '/': received none but current is the value 'dlx' of type 'longstr'",
        50,
        10,
    )


async def test_absent_queue_type_is_classic(channel: Channel) -> None:
    name = await channel.queue(unique())
    await channel.declare(name, exclusive=True, arguments={"x-queue-type": "classic"})
    other = await channel.queue(unique(), x_queue_type="classic")
    await channel.declare(other, exclusive=True)


async def test_unknown_arguments_do_not_count(channel: Channel) -> None:
    name = await channel.queue(unique(), x_unknown=1)
    await channel.declare(name, exclusive=True, arguments={"x-other": "text"})
    await channel.declare(name, exclusive=True)


async def test_width_of_an_integer_does_not_count(channel: Channel) -> None:
    name = unique()
    wide = _declare_with(name, b"\x0dx-message-ttll" + (100).to_bytes(8, "big"))
    narrow = _declare_with(name, b"\x0dx-message-ttlb" + (100).to_bytes(1, "big"))
    unsigned = _declare_with(name, b"\x0dx-message-ttli" + (100).to_bytes(4, "big"))
    for arguments in (wide, narrow, unsigned):
        channel.probe.send_method(channel.number, 50, 10, arguments)
        assert isinstance(await channel.next(), commands.Queue.DeclareOk)


def _declare_with(name: str, table: bytes) -> bytes:
    exclusive = 0b00100
    head = b"\x00\x00" + bytes([len(name)]) + name.encode() + bytes([exclusive])
    return head + len(table).to_bytes(4, "big") + table


async def test_max_length_drops_the_oldest(channel: Channel) -> None:
    name = await channel.queue(x_max_length=2)
    await channel.put(name, b"1", b"2", b"3", b"4")
    assert await channel.bodies(name) == [b"3", b"4"]


async def test_max_length_does_not_count_unacked_messages(channel: Channel) -> None:
    name = await channel.queue(x_max_length=1)
    await channel.put(name, b"1")
    first = await channel.get(name)
    assert first is not None
    await channel.put(name, b"2")
    assert await channel.counts(name) == (1, 0)
    channel.nack(first.tag)
    await channel.settled(name)
    assert await channel.bodies(name) == [b"2"], "a requeued message can be the one too many"


async def test_max_length_bytes_counts_bodies(channel: Channel) -> None:
    name = await channel.queue(x_max_length_bytes=10)
    await channel.put(name, b"aaaa", b"bbbb", b"cccc")
    assert await channel.bodies(name) == [b"bbbb", b"cccc"]
    await channel.put(name, b"x" * 11)
    assert await channel.bodies(name) == []


async def test_max_length_zero_keeps_nothing_but_still_delivers(channel: Channel) -> None:
    name = await channel.queue(x_max_length=0)
    await channel.put(name, b"nobody there")
    assert await channel.counts(name) == (0, 0)
    await channel.consume(name, no_ack=True)
    channel.publish(b"somebody there", name)
    assert (await channel.message()).body == b"somebody there"


async def test_reject_publish_refuses_the_newest(channel: Channel) -> None:
    name = await channel.queue(x_max_length=2, x_overflow="reject-publish")
    await channel.confirms()
    for body in (b"1", b"2", b"3", b"4"):
        channel.publish(body, name)
    assert await channel.outcomes(4) == {1: "ack", 2: "ack", 3: "nack", 4: "nack"}
    assert await channel.bodies(name) == [b"1", b"2"]


async def test_reject_publish_by_bytes(channel: Channel) -> None:
    name = await channel.queue(x_max_length_bytes=5, x_overflow="reject-publish")
    await channel.confirms()
    for body in (b"aaa", b"bbb", b"ccc"):
        channel.publish(body, name)
    assert await channel.outcomes(3) == {1: "ack", 2: "nack", 3: "nack"}
    assert await channel.bodies(name) == [b"aaa"], "refused is what would not fit"


async def test_one_full_queue_among_several_is_a_nack(channel: Channel) -> None:
    full = await channel.queue(x_max_length=0, x_overflow="reject-publish")
    roomy = await channel.queue()
    key = unique("k")
    for name in (full, roomy):
        await channel.bind(name, "amq.direct", key)
    await channel.confirms()
    channel.publish(b"x", key, exchange="amq.direct")
    assert await channel.outcomes(1) == {1: "nack"}
    assert await channel.bodies(roomy) == [b"x"]


async def test_reject_publish_without_confirms_is_silent(channel: Channel) -> None:
    name = await channel.queue(x_max_length=1, x_overflow="reject-publish")
    channel.publish(b"1", name)
    await channel.put(name, b"2")
    assert await channel.bodies(name) == [b"1"]
