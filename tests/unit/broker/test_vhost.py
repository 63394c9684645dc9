"""Queues over time and dead-lettering, with a fake clock."""

from __future__ import annotations

from typing import Any

import pytest

from msctl.broker.core.dead_letter import MAX_DEATHS, X_DEATH
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.properties import EXPIRATION, PRIORITY, headers_of, join, split
from msctl.broker.protocol.tables import FieldValue, Table
from msctl.broker.protocol.wire import route_of, shortstr, split_route
from tests.support.clock import FakeClock


class Host:
    """A virtual host with a fake clock, and short ways to declare and publish."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.warnings: list[str] = []
        self.vhost = VirtualHost(
            "/", self.clock, MemoryAccount(), log=lambda _level, text: self.warnings.append(text)
        )

    def queue(self, name: str, **arguments: Any) -> Queue:
        table: Table = {}
        for key, value in arguments.items():
            field: FieldValue = ("S", value.encode()) if isinstance(value, str) else ("I", value)
            if isinstance(value, bool):
                field = ("t", value)
            table[f"x-{key.replace('_', '-')}".encode()] = field
        return self.vhost.declare_queue(
            name, None, durable=False, exclusive=False, auto_delete=False, arguments=table
        )

    def publish(self, queue: Queue, *bodies: bytes, ttl: int | None = None, priority: int = 0) -> list[bool]:
        parts = {PRIORITY: bytes((priority,))} if priority else {}
        if ttl is not None:
            parts[EXPIRATION] = shortstr(str(ttl))
        raw = join(parts)
        return [queue.publish(route_of("", queue.name), raw, body, ttl, priority) for body in bodies]

    def pass_time(self, seconds: float) -> None:
        self.clock.set(self.clock.monotonic() + seconds)
        while (due := self.vhost.next_reminder()) is not None and due <= self.clock.monotonic():
            self.vhost.tick()


@pytest.fixture
def host() -> Host:
    return Host()


def bodies(queue: Queue) -> list[bytes]:
    return [message[2] for message, _ in queue.ready.waiting()]


def deaths(queue: Queue) -> list[dict[bytes, Any]]:
    headers = headers_of(split(next(queue.ready.waiting())[0][1])) or {}
    return [{name: value for name, (_, value) in death.items()} for _, death in headers[X_DEATH][1]]


def test_shorter_ttl_of_queue_and_message_wins(host: Host) -> None:
    queue = host.queue("q", message_ttl=1000)
    host.publish(queue, b"short", ttl=100)
    host.publish(queue, b"long", ttl=5000)
    host.pass_time(0.101)
    assert bodies(queue) == [b"long"]
    host.pass_time(0.9)
    assert bodies(queue) == []
    assert host.vhost.memory.used == 0


def test_expired_message_behind_a_live_one_stays(host: Host) -> None:
    queue = host.queue("q")
    host.publish(queue, b"first")
    host.publish(queue, b"second", ttl=10)
    host.pass_time(1)
    assert bodies(queue) == [b"first", b"second"]
    taken = queue.get(no_ack=True)
    assert taken is not None and taken[1][2] == b"first"
    assert bodies(queue) == []


def test_ttl_zero_without_a_consumer_drops_the_message(host: Host) -> None:
    queue = host.queue("q", message_ttl=0)
    host.publish(queue, b"now")
    assert bodies(queue) == []
    assert host.vhost.memory.messages == 0


def test_expired_messages_are_dropped_in_slices(host: Host) -> None:
    queue = host.queue("q", message_ttl=10)
    host.publish(queue, *[b"x"] * 2000)
    host.clock.set(1.0)
    host.vhost.tick(limit=300)
    assert queue.ready.count == 1700
    host.vhost.tick(limit=300)
    assert queue.ready.count == 1400
    host.pass_time(0)
    assert queue.ready.count == 0


def test_unused_queue_expires(host: Host) -> None:
    queue = host.queue("q", expires=1000)
    host.pass_time(0.9)
    queue.get(no_ack=True)
    host.pass_time(0.9)
    assert "q" in host.vhost.queues
    host.pass_time(0.2)
    assert "q" not in host.vhost.queues
    assert queue.deleted


def test_requeued_message_expires(host: Host) -> None:
    queue = host.queue("q")
    host.publish(queue, b"m", ttl=100)
    taken = queue.get(no_ack=False)
    assert taken is not None
    host.pass_time(0.2)
    queue.requeue([taken[:2]])
    assert bodies(queue) == []
    assert host.vhost.memory.used == 0


def test_expired_message_is_dead_lettered_without_its_expiration(host: Host) -> None:
    dead = host.queue("dead")
    queue = host.queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    host.publish(queue, b"m", ttl=50)
    host.pass_time(0.05)
    assert bodies(dead) == [b"m"]
    message, _ = next(dead.ready.waiting())
    assert split_route(message[0]) == ("", "dead")
    assert message[3] is None
    (death,) = deaths(dead)
    assert death[b"reason"] == b"expired" and death[b"queue"] == b"q" and death[b"count"] == 1
    assert death[b"original-expiration"] == b"50"
    assert death[b"time"] == 1_700_000_000


def test_overflow_drops_the_oldest(host: Host) -> None:
    dead = host.queue("dead")
    queue = host.queue("q", max_length=2, dead_letter_exchange="", dead_letter_routing_key="dead")
    host.publish(queue, b"1", b"2", b"3")
    assert bodies(queue) == [b"2", b"3"] and bodies(dead) == [b"1"]
    assert deaths(dead)[0][b"reason"] == b"maxlen"
    sized = host.queue("sized", max_length_bytes=10)
    host.publish(sized, b"x" * 6, b"y" * 6)
    assert bodies(sized) == [b"y" * 6]


def test_overflow_can_reject_the_newest(host: Host) -> None:
    dead = host.queue("dead")
    queue = host.queue(
        "q",
        max_length=1,
        overflow="reject-publish-dlx",
        dead_letter_exchange="",
        dead_letter_routing_key="dead",
    )
    assert host.publish(queue, b"1", b"2") == [True, False]
    assert bodies(queue) == [b"1"] and bodies(dead) == [b"2"]
    silent = host.queue("silent", max_length=0, overflow="reject-publish")
    assert host.publish(silent, b"1") == [False]


def test_cycle_without_a_rejection_is_broken_and_reported_once(host: Host) -> None:
    queue = host.queue("q", message_ttl=10, dead_letter_exchange="", dead_letter_routing_key="q")
    host.publish(queue, b"1", b"2")
    host.pass_time(1)
    assert bodies(queue) == []
    assert len(host.warnings) == 1 and "cycle" in host.warnings[0]


def test_rejected_message_may_return_and_its_deaths_are_counted(host: Host) -> None:
    queue = host.queue("q", dead_letter_exchange="", dead_letter_routing_key="q")
    host.publish(queue, b"m")
    for times in (1, 2, 3):
        taken = queue.get(no_ack=False)
        assert taken is not None and not taken[2]
        queue.reject(taken[1])
        assert deaths(queue)[0][b"count"] == times
    assert len(deaths(queue)) == 1
    headers = headers_of(split(next(queue.ready.waiting())[0][1]))
    assert headers is not None
    assert headers[b"x-first-death-reason"] == ("S", b"rejected")


def test_dead_lettering_does_not_recurse(host: Host) -> None:
    count = 60
    for number in range(count):
        host.queue(
            f"q{number}",
            max_length=0,
            dead_letter_exchange="",
            dead_letter_routing_key=f"q{number + 1}",
        )
    last = host.queue(f"q{count}")
    host.publish(host.vhost.queues["q0"], b"m")
    assert bodies(last) == [b"m"]


def test_message_with_too_many_deaths_is_dropped(host: Host) -> None:
    for number in range(MAX_DEATHS + 2):
        host.queue(
            f"q{number}", max_length=0, dead_letter_exchange="", dead_letter_routing_key=f"q{number + 1}"
        )
    last = host.queue(f"q{MAX_DEATHS + 2}")
    host.publish(host.vhost.queues["q0"], b"m")
    assert bodies(last) == []
    assert host.vhost.memory.used == 0


def test_message_without_its_dead_letter_exchange_is_dropped(host: Host) -> None:
    queue = host.queue("q", max_length=0, dead_letter_exchange="nowhere")
    host.publish(queue, b"m")
    assert host.vhost.memory.used == 0


def test_requeued_message_keeps_its_position_within_its_priority(host: Host) -> None:
    queue = host.queue("q", max_priority=5)
    host.publish(queue, b"low1", b"low2")
    host.publish(queue, b"high1", b"high2", priority=9)
    taken = [queue.get(no_ack=False) for _ in range(3)]
    assert [t[1][2] for t in taken if t] == [b"high1", b"high2", b"low1"]
    queue.requeue([t[:2] for t in reversed(taken) if t])
    again = queue.get(no_ack=False)
    assert again is not None and again[1][2] == b"high1"


def test_deleting_a_queue_forgets_unacked_messages(host: Host) -> None:
    queue = host.queue("q")
    host.publish(queue, b"1", b"2", b"3", b"4")
    out = [taken for _ in range(3) if (taken := queue.get(no_ack=False))]
    assert host.vhost.delete_queue(queue) == 1
    assert host.vhost.delete_queue(queue) == 0
    queue.ack(out[0][1])
    queue.reject(out[1][1])
    queue.requeue([out[2][:2]])
    assert host.vhost.memory.messages == 0
    host.vhost.memory.free(10)
    assert host.vhost.memory.used == 0


def test_route_cache_is_bounded(host: Host) -> None:
    exchange = host.vhost.routing.exchange("amq.topic")
    for number in range(10_000):
        assert host.vhost.routing.route_key(exchange, str(number)) == ()
    assert len(host.vhost.routing._routes) <= 4096
