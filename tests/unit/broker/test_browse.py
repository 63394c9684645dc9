"""Browsing a queue shows waiting messages in delivery order and changes nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from msctl.broker.core.browse import browse
from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import Message, ReadyMessages
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.properties import CONTENT_TYPE, PRIORITY, join, with_headers
from msctl.broker.protocol.tables import Table
from msctl.broker.protocol.wire import route_of, shortstr
from msctl.model.queue_messages import (
    PEEK_BODY,
    PEEK_BYTES,
    PEEK_HEADER,
    PEEK_HEADERS,
    PEEK_MESSAGES,
    PeekedMessage,
)
from tests.support.clock import FakeClock

PLAIN = join({})


class Channel:
    """A consumer's channel that takes messages or does not."""

    def __init__(self) -> None:
        self.ready = False
        self.got: list[tuple[bytes, bool]] = []

    def accepts(self, _consumer: QueueConsumer) -> bool:
        return self.ready

    def deliver(
        self,
        _consumer: QueueConsumer,
        _number: int,
        message: Message,
        redelivered: bool,
        *,
        original: Message | None = None,
    ) -> None:
        self.got.append((message[2], redelivered))

    def cancelled(self, _consumer: QueueConsumer) -> None:
        raise AssertionError("nothing is cancelled here")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def vhost(clock: FakeClock) -> VirtualHost:
    return VirtualHost("/", clock, MemoryAccount())


def declare(vhost: VirtualHost, **arguments: int) -> Queue:
    table: Table = {f"x-{key.replace('_', '-')}".encode(): ("I", value) for key, value in arguments.items()}
    return vhost.declare_queue("q", None, durable=False, exclusive=False, auto_delete=False, arguments=table)


def put(
    queue: Queue, *texts: bytes, ttl: int | None = None, properties: bytes = PLAIN, priority: int = 0
) -> None:
    for text in texts:
        queue.publish(route_of("", queue.name), properties, text, ttl, priority)


def shown(queue: Queue) -> list[PeekedMessage]:
    return [message for _, message in browse(queue)]


def bodies(queue: Queue) -> list[str]:
    return [message.body for message in shown(queue)]


def everything(part: object) -> dict[str, Any]:
    """All that a queue, its messages and its memory remember."""
    found: dict[str, Any] = {}
    for name in part.__slots__:  # type: ignore[attr-defined]  # the broker's classes have slots
        value = getattr(part, name)
        if name == "ready":
            levels = [(list(level.fresh), list(level.returned)) for level in value._levels]
            found[name] = (levels, value.count, value.bytes)
        else:
            found[name] = list(value) if isinstance(value, list) else value
    return found


def test_browsing_changes_nothing(vhost: VirtualHost, clock: FakeClock) -> None:
    queue = declare(vhost, expires=60_000, max_priority=3)
    channel = Channel()
    queue.add_consumer(QueueConsumer("tag", queue, channel, prefetch=1))
    put(queue, b"one", b"two", ttl=5000)
    put(queue, b"first", priority=2)
    taken = queue.get(no_ack=False)
    assert taken is not None
    queue.requeue([taken[:2]])
    clock.set(1.0)
    before = everything(queue), everything(vhost.memory), vhost.next_reminder()
    assert bodies(queue) == ["first", "one", "two"]
    assert (everything(queue), everything(vhost.memory), vhost.next_reminder()) == before


def test_message_delivered_after_browsing_is_not_redelivered(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    put(queue, b"one", b"two")
    browse(queue)
    channel = Channel()
    channel.ready = True
    queue.add_consumer(QueueConsumer("tag", queue, channel))
    queue.pump(10)
    assert channel.got == [(b"one", False), (b"two", False)]


def test_requeued_message_is_shown_at_its_position_as_redelivered(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    put(queue, *[b"%d" % number for number in range(9)])
    taken = [queue.get(no_ack=False) for _ in range(7)]
    marks = {message.body: mark for mark, message in browse(queue)}
    out = [one[:2] for one in taken if one is not None]
    queue.requeue([out[number] for number in (5, 0, 3, 1, 6, 4, 2)])
    found = browse(queue)
    assert [message.body for _, message in found] == [str(number) for number in range(9)]
    assert [message.redelivered for _, message in found] == [True] * 7 + [False] * 2
    assert {message.body: mark for mark, message in found}.items() >= marks.items()


def test_unacked_message_is_not_shown(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    put(queue, b"out", b"in")
    queue.get(no_ack=False)
    assert bodies(queue) == ["in"]


def test_expired_message_is_neither_shown_nor_dropped(vhost: VirtualHost, clock: FakeClock) -> None:
    queue = declare(vhost)
    put(queue, b"old", ttl=10)
    put(queue, b"new")
    clock.set(0.011)
    assert bodies(queue) == ["new"]
    assert queue.ready.count == 2


def test_browsing_is_bounded_in_messages_and_bytes(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    put(queue, *[b"x"] * (PEEK_MESSAGES + 5))
    assert len(browse(queue)) == PEEK_MESSAGES
    queue.purge()
    put(queue, *[b"x" * PEEK_BODY * 2] * PEEK_MESSAGES)
    assert len(browse(queue)) == PEEK_BYTES // (PEEK_BODY + len(PLAIN))
    assert {(len(message.body), message.size) for message in shown(queue)} == {(PEEK_BODY, 2 * PEEK_BODY)}


def test_message_larger_than_the_bound_is_shown(vhost: VirtualHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.broker.core.browse.PEEK_BYTES", 1)
    queue = declare(vhost)
    put(queue, b"large", b"next")
    assert bodies(queue) == ["large"]


def test_different_messages_have_different_marks(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    put(queue, b"x", b"x", b"y", b"x" * (PEEK_BODY + 1), b"x" * (PEEK_BODY + 2))
    put(queue, b"x", properties=join({PRIORITY: b"\x01"}))
    queue.publish(route_of("amq.fanout", "q"), PLAIN, b"x")
    marks = [mark for mark, _ in browse(queue)]
    assert marks[0] == marks[1]
    assert len(set(marks)) == len(marks) - 1


def test_properties_are_shown_as_client_libraries_return_them(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    headers: Table = {
        b"text": ("S", b"caf\xc3\xa9"),
        b"bytes": ("S", b"\xff"),
        b"number": ("l", -3),
        b"yes": ("t", True),
        b"nothing": ("V", None),
        b"price": ("D", (2, 314)),
        b"when": ("T", 1_700_000_000),
        b"never": ("T", 2**64 - 1),
        b"nested": ("F", {b"list": ("A", [("I", 1), ("S", b"two")])}),
        b"long": ("S", b"x" * 1000),
    }
    properties = join(with_headers({CONTENT_TYPE: shortstr("text/x-test")}, headers))
    queue.publish(route_of("amq.topic", "a.b\udcff"), properties, b"\xffbody")
    (message,) = shown(queue)
    assert message == PeekedMessage(
        body="\\xffbody",
        size=5,
        exchange="amq.topic",
        routing_key="a.b\\xff",
        content_type="text/x-test",
        headers={
            "text": "café",
            "bytes": "\\xff",
            "number": "-3",
            "yes": "True",
            "nothing": "None",
            "price": str(Decimal("3.14")),
            "when": "2023-11-14 22:13:20+00:00",
            "never": str(2**64 - 1),
            "nested": "{'list': [1, 'two']}",
            "long": "x" * PEEK_HEADER,
        },
    )


def test_only_the_first_headers_are_shown(vhost: VirtualHost) -> None:
    queue = declare(vhost)
    many: Table = {b"h%d" % number: ("I", number) for number in range(PEEK_HEADERS + 1)}
    put(queue, b"x", properties=join(with_headers({}, many)))
    (message,) = shown(queue)
    assert list(message.headers) == [f"h{number}" for number in range(PEEK_HEADERS)]


def test_first_requeued_messages_are_found_without_sorting_all() -> None:
    ready = ReadyMessages()
    compared = 0

    class Number(int):
        def __lt__(self, other: int) -> bool:
            nonlocal compared
            compared += 1
            return int(self) < int(other)

    for number in reversed(range(10_000)):
        ready.give_back(Number(number), (b"", b"", b"%d" % number, None, 0), 0)
    compared = 0
    waiting = ready.waiting()
    assert [int(next(waiting)[0][2]) for _ in range(100)] == list(range(100))
    assert compared < 5000
