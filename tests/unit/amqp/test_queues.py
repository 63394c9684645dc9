"""The course's queue is there in the end, whatever the broker says, and the user is told once."""

from __future__ import annotations

import pytest

from msctl.amqp.connection import Link
from msctl.amqp.errors import BrokerRefusedError
from msctl.amqp.queues import Once, count, declare, open_with_queue, require_exchange
from msctl.amqp.url import BrokerUrl, parse_url
from tests.support.fake_broker import fake_broker
from tests.support.rabbitmq import unique


def silent(text: str) -> None:
    raise AssertionError(f"nothing should be said, but: {text}")


async def test_a_new_queue_is_declared_as_the_course_does(link: Link) -> None:
    name = unique()
    found = await declare(link, name, say=silent)
    assert (found.name, found.ready, found.consumers) == (name, 0, 0)
    channel = await link.channel()
    # RabbitMQ answers 406 where anything differs from these.
    await link.ask(channel.queue_declare(name, durable=False, exclusive=False, auto_delete=False))
    await link.ask(channel.queue_delete(name))


async def test_a_queue_of_another_kind_is_used_as_it_is_and_said_once(link: Link, url: BrokerUrl) -> None:
    name = unique()
    channel = await link.channel()
    await link.ask(channel.queue_declare(name, durable=True))
    said: list[str] = []
    say = Once(said.append)
    for _ in range(2):
        other = await open_with_queue(url, name, name="test", say=say)
        assert (await count(other, name)).name == name
        await other.close()
    await link.ask(channel.queue_delete(name))
    assert len(said) == 1
    assert f"queue '{name}' is used as it is" in said[0]
    assert "inequivalent arg 'durable'" in said[0]


async def test_a_broker_without_transient_queues_gets_a_durable_one_and_it_is_said_once() -> None:
    said: list[str] = []
    say = Once(said.append)
    async with fake_broker() as broker:
        for _ in range(2):
            link = await open_with_queue(parse_url(broker.url), "hello", name="test", say=say)
            await link.close()
        assert broker.declared == [("hello", False), ("hello", True)] * 2
    assert said == ["this broker has no transient queues: queue 'hello' is declared durable"]


async def test_a_queue_that_belongs_to_another_connection_is_refused(link: Link, url: BrokerUrl) -> None:
    name = unique()
    channel = await link.channel()
    await link.ask(channel.queue_declare(name, exclusive=True))
    with pytest.raises(BrokerRefusedError) as failed:
        await open_with_queue(url, name, name="test", say=silent)
    assert failed.value.code == 405


async def test_a_reserved_name_is_refused_with_the_brokers_words(link: Link) -> None:
    with pytest.raises(BrokerRefusedError, match=r"reserved prefix 'amq\.\*'"):
        await declare(link, "amq.mine", say=silent)


async def test_counting_an_absent_queue_is_a_404(link: Link) -> None:
    with pytest.raises(BrokerRefusedError) as failed:
        await count(link, unique())
    assert failed.value.code == 404


async def test_an_exchange_is_looked_for_before_anything_is_sent(link: Link) -> None:
    await require_exchange(link, "amq.fanout")
    with pytest.raises(BrokerRefusedError, match="no exchange 'nope'"):
        await require_exchange(link, "nope")


async def test_no_queue_means_nothing_is_declared(url: BrokerUrl) -> None:
    link = await open_with_queue(url, None, name="test", say=silent)
    assert link.is_open
    await link.close()
