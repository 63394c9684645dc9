"""Dead letters: why, where to, with which headers, and how cycles end."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from pamqp import commands

from tests.support.amqp_probe import Channel, Message, Probe
from tests.support.rabbitmq import unique


def deaths(message: Message) -> list[dict[str, Any]]:
    """x-death without the times, which are checked to be times."""
    found = []
    for entry in message.headers["x-death"]:
        assert isinstance(entry["time"], datetime.datetime)
        assert abs(entry["time"].timestamp() - datetime.datetime.now(datetime.UTC).timestamp()) < 60
        found.append({name: value for name, value in entry.items() if name != "time"})
    return found


async def arrival(channel: Channel, queue: str) -> Message:
    """The next message of the dead-letter queue, on which nobody else consumes."""
    tag = await channel.consume(queue, no_ack=True)
    message = await channel.message()
    await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
    return message


async def test_rejected_message_carries_its_death(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"x", headers={"mine": 1}, message_id="m")
    message = await channel.get(queue)
    assert message is not None
    channel.reject(message.tag, requeue=False)
    letter = await arrival(channel, dead)
    assert isinstance(letter.method, commands.Basic.Deliver)
    assert (letter.body, letter.redelivered) == (b"x", False)
    assert (letter.method.exchange, letter.method.routing_key) == ("", dead)
    assert deaths(letter) == [
        {"count": 1, "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": [queue]}
    ]
    rest = {name: value for name, value in letter.headers.items() if name != "x-death"}
    assert rest == {
        "mine": 1,
        "x-first-death-exchange": "",
        "x-first-death-queue": queue,
        "x-first-death-reason": "rejected",
    }
    assert letter.properties["message_id"] == "m"


@pytest.mark.parametrize("how", ["nack", "reject"])
async def test_only_without_requeue_is_it_a_rejection(channel: Channel, how: str) -> None:
    dead = await channel.queue()
    queue = await channel.queue(x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"x")
    for requeue in (True, False):
        message = await channel.get(queue)
        assert message is not None
        if how == "nack":
            channel.nack(message.tag, requeue=requeue)
        else:
            channel.reject(message.tag, requeue=requeue)
    assert (await arrival(channel, dead)).body == b"x"


async def test_expired_message_carries_its_death_and_loses_its_expiration(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"x", expiration="1")
    letter = await arrival(channel, dead)
    assert deaths(letter) == [
        {
            "count": 1,
            "reason": "expired",
            "queue": queue,
            "exchange": "",
            "routing-keys": [queue],
            "original-expiration": "1",
        }
    ]
    assert "expiration" not in letter.properties


async def test_message_expired_by_its_queue_carries_no_original_expiration(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(
        unique(), x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
    )
    await channel.put(queue, b"x")
    assert deaths(await arrival(channel, dead)) == [
        {"count": 1, "reason": "expired", "queue": queue, "exchange": "", "routing-keys": [queue]}
    ]


async def test_dropped_head_dies_of_maxlen(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(
        unique(), x_max_length=1, x_dead_letter_exchange="", x_dead_letter_routing_key=dead
    )
    await channel.put(queue, b"1", b"2")
    letter = await arrival(channel, dead)
    assert letter.body == b"1"
    assert deaths(letter) == [
        {"count": 1, "reason": "maxlen", "queue": queue, "exchange": "", "routing-keys": [queue]}
    ]


async def test_message_refused_by_a_full_queue_dies_only_where_asked(channel: Channel) -> None:
    dead = await channel.queue()
    plain = await channel.queue(
        x_max_length=0,
        x_overflow="reject-publish",
        x_dead_letter_exchange="",
        x_dead_letter_routing_key=dead,
    )
    lettering = await channel.queue(
        unique(),
        x_max_length=0,
        x_overflow="reject-publish-dlx",
        x_dead_letter_exchange="",
        x_dead_letter_routing_key=dead,
    )
    await channel.put(plain, b"gone")
    await channel.put(lettering, b"dead")
    letter = await arrival(channel, dead)
    assert letter.body == b"dead"
    assert deaths(letter) == [
        {"count": 1, "reason": "maxlen", "queue": lettering, "exchange": "", "routing-keys": [lettering]}
    ]


async def test_without_a_routing_key_the_messages_own_are_used(channel: Channel) -> None:
    name = await channel.exchange(unique("dlx"), "direct", auto_delete=True)
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange=name)
    await channel.bind(dead, name, "original")
    await channel.bind(queue, "amq.direct", "original")
    await channel.put("original", b"x", exchange="amq.direct")
    message = await channel.get(queue)
    assert message is not None
    channel.nack(message.tag, requeue=False)
    letter = await arrival(channel, dead)
    assert isinstance(letter.method, commands.Basic.Deliver)
    assert (letter.method.exchange, letter.method.routing_key) == (name, "original")
    assert deaths(letter)[0]["exchange"] == "amq.direct"
    assert deaths(letter)[0]["routing-keys"] == ["original"]
    await channel.rpc(commands.Queue.Unbind(0, queue, "amq.direct", "original"), commands.Queue.UnbindOk)


async def test_copied_keys_are_kept_without_a_routing_key_and_dropped_with_one(channel: Channel) -> None:
    name = await channel.exchange(unique("dlx"), "fanout", auto_delete=True)
    dead = await channel.queue()
    await channel.bind(dead, name)
    keeping = await channel.queue(unique(), x_dead_letter_exchange=name)
    await channel.put(keeping, b"x", headers={"CC": ["other"]}, expiration="0")
    letter = await arrival(channel, dead)
    assert letter.headers["CC"] == ["other"]
    assert deaths(letter)[0]["routing-keys"] == [keeping, "other"]
    changing = await channel.queue(unique(), x_dead_letter_exchange=name, x_dead_letter_routing_key="k")
    await channel.put(changing, b"x", headers={"CC": ["other"]}, expiration="0")
    letter = await arrival(channel, dead)
    assert "CC" not in letter.headers
    assert deaths(letter)[0]["routing-keys"] == [changing, "other"]


async def test_deaths_are_listed_latest_first_and_counted(channel: Channel) -> None:
    first, second, dead = unique("first"), unique("second"), await channel.queue()
    await channel.queue(first, x_dead_letter_exchange="", x_dead_letter_routing_key=second)
    await channel.queue(second, x_dead_letter_exchange="", x_dead_letter_routing_key=first)
    await channel.put(first, b"x")
    for queue in (first, second, first):
        tag = await channel.consume(queue)
        message = await channel.message()
        await channel.rpc(commands.Basic.Cancel(tag), commands.Basic.CancelOk)
        channel.nack(message.tag, requeue=False)
    letter = await arrival(channel, second)
    assert deaths(letter) == [
        {"count": 2, "reason": "rejected", "queue": first, "exchange": "", "routing-keys": [first]},
        {"count": 1, "reason": "rejected", "queue": second, "exchange": "", "routing-keys": [second]},
    ]
    assert letter.headers["x-first-death-queue"] == first
    assert dead


async def test_each_reason_in_a_queue_is_a_death_of_its_own(channel: Channel) -> None:
    queue, dead = unique(), await channel.queue()
    await channel.queue(queue, x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"x")
    message = await channel.get(queue)
    assert message is not None
    channel.nack(message.tag, requeue=False)
    letter = await arrival(channel, dead)
    await channel.put(queue, letter.body, headers=letter.headers, expiration="0")
    letter = await arrival(channel, dead)
    assert [(one["reason"], one["count"]) for one in deaths(letter)] == [("expired", 1), ("rejected", 1)]
    assert letter.headers["x-first-death-reason"] == "rejected"


async def test_cycle_without_a_rejection_ends(channel: Channel) -> None:
    first, second = unique("first"), unique("second")
    await channel.queue(first, x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=second)
    await channel.queue(second, x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=first)
    probe = await channel.queue(x_message_ttl=60, x_dead_letter_exchange="", x_dead_letter_routing_key="q")
    done = await channel.queue(unique())
    timer = await channel.queue(
        unique(), x_message_ttl=60, x_dead_letter_exchange="", x_dead_letter_routing_key=done
    )
    await channel.put(first, b"round")
    await channel.put(timer, b"later")
    assert (await arrival(channel, done)).body == b"later"
    assert [await channel.counts(queue) for queue in (first, second)] == [(0, 0), (0, 0)]
    assert probe


async def test_queue_that_expires_into_itself_drops(channel: Channel) -> None:
    queue = unique()
    await channel.queue(queue, x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=queue)
    done = await channel.queue()
    timer = await channel.queue(x_message_ttl=40, x_dead_letter_exchange="", x_dead_letter_routing_key=done)
    await channel.put(queue, b"x")
    await channel.put(timer, b"later")
    await arrival(channel, done)
    assert await channel.counts(queue) == (0, 0)


async def test_missing_exchange_drops(channel: Channel) -> None:
    queue = await channel.queue(x_dead_letter_exchange=unique("missing"))
    await channel.put(queue, b"x")
    message = await channel.get(queue)
    assert message is not None
    channel.nack(message.tag, requeue=False)
    assert await channel.get(queue) is None


async def test_purged_and_deleted_messages_do_not_die(connection: Probe) -> None:
    channel = await connection.channel()
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"1")
    await channel.rpc(commands.Queue.Purge(0, queue), commands.Queue.PurgeOk)
    await channel.put(queue, b"2")
    await channel.delete(queue)
    assert await channel.get(dead) is None


async def test_dead_letter_keeps_its_other_properties(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"x", priority=3, delivery_mode=2, correlation_id="c", expiration="0")
    letter = await arrival(channel, dead)
    kept = {name: letter.properties[name] for name in ("priority", "delivery_mode", "correlation_id")}
    assert kept == {"priority": 3, "delivery_mode": 2, "correlation_id": "c"}


async def test_rejected_many_die_in_order(channel: Channel) -> None:
    dead = await channel.queue()
    queue = await channel.queue(unique(), x_dead_letter_exchange="", x_dead_letter_routing_key=dead)
    await channel.put(queue, b"1", b"2", b"3")
    for _ in range(3):
        message = await channel.get(queue)
    assert message is not None
    channel.nack(message.tag, multiple=True, requeue=False)
    await channel.consume(dead, no_ack=True)
    assert await channel.messages(3) == [b"1", b"2", b"3"]
