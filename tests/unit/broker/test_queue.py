"""One queue: what is counted, what its limits do, and who gets the next message."""

from __future__ import annotations

from typing import Any

import pytest

from msctl.broker.core.arguments import DROP_HEAD, REJECT_PUBLISH, REJECT_PUBLISH_DLX, QueueOptions
from msctl.broker.core.consumers import QueueConsumer
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import Message, cost_of
from msctl.broker.core.queues import EXPIRED, EXPIRED_PER_STEP, MAXLEN, REJECTED, ExpiringError, Queue
from msctl.broker.protocol.properties import PRIORITY, join
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from msctl.clock import Clock
from tests.support.clock import FakeClock


class Host:
    """A virtual host that notes what its queues ask of it."""

    name = "/"

    def __init__(self) -> None:
        self.fake = FakeClock()
        self.clock: Clock = self.fake
        self.memory = MemoryAccount()
        self.dead: list[tuple[bytes, str]] = []
        self.reminders: list[float] = []
        self.pumps = 0
        self.deleted: list[str] = []

    def dead_letter(self, queue: Queue, message: Message, reason: str) -> None:
        self.dead.append((message[2], reason))

    def remind(self, queue: Queue, when: float) -> None:
        self.reminders.append(when)

    def pump_later(self, queue: Queue) -> None:
        self.pumps += 1

    def delete_queue(self, queue: Queue) -> int:
        self.deleted.append(queue.name)
        return queue.close()


class Sink:
    """A channel that keeps what it is given."""

    def __init__(self) -> None:
        self.given: list[tuple[str, int, bytes, bool]] = []
        self.gone: list[str] = []
        self.open = True

    def accepts(self, consumer: QueueConsumer) -> bool:
        return self.open

    def deliver(
        self,
        consumer: QueueConsumer,
        number: int,
        message: Message,
        redelivered: bool,
        *,
        original: Message | None = None,
    ) -> None:
        self.given.append((consumer.tag, number, message[2], redelivered))

    def cancelled(self, consumer: QueueConsumer) -> None:
        self.gone.append(consumer.tag)


@pytest.fixture
def host() -> Host:
    return Host()


def queue(host: Host, **options: Any) -> Queue:
    return Queue("q", host, QueueOptions(**options))


def publish(to: Queue, *bodies: bytes, ttl: int | None = None) -> list[bool]:
    return [to.publish(b"route", b"props", body, ttl) for body in bodies]


def bodies(of: Queue) -> list[bytes]:
    return [message[2] for message, _ in of.ready.waiting()]


def test_a_new_queue_is_empty_and_its_own(host: Host) -> None:
    made = queue(host)
    assert (made.durable, made.auto_delete, made.owner, made.deleted) == (False, False, None, False)
    assert (made.published, made.delivered, made.unacked, made.arguments) == (0, 0, 0, {})
    assert (host.reminders, host.pumps) == ([], 0)


def test_every_message_is_counted_once_on_its_way(host: Host) -> None:
    made, sink, memory = queue(host), Sink(), host.memory
    publish(made, b"a", b"bb")
    waiting = [message for message, _ in made.ready.waiting()]
    assert (made.published, memory.messages, memory.used) == (2, 2, sum(map(cost_of, waiting)))
    first = made.get(no_ack=True)
    assert first is not None
    assert (first[0], first[1][2], first[2]) == (1, b"a", False)
    assert (made.delivered, memory.delivered, made.unacked, memory.messages) == (1, 1, 0, 1)
    second = made.get(no_ack=False)
    assert second is not None
    assert (second[0], made.delivered, memory.delivered, made.unacked, memory.messages) == (2, 2, 2, 1, 1)
    assert made.get(no_ack=False) is None
    made.ack(second[1])
    assert (made.unacked, memory.acked, memory.messages, memory.used) == (0, 1, 0, 0)
    made.add_consumer(QueueConsumer("eager", made, sink, no_ack=True))
    publish(made, b"ccc")
    assert sink.given == [("eager", 3, b"ccc", False)]
    assert (made.delivered, memory.delivered, made.unacked, memory.messages, memory.used) == (3, 3, 0, 0, 0)


def test_a_waiting_message_that_is_delivered_is_counted_until_it_is_acknowledged(host: Host) -> None:
    made, sink, memory = queue(host), Sink(), host.memory
    publish(made, b"a", b"b")
    consumer = QueueConsumer("c", made, sink, prefetch=1)
    made.add_consumer(consumer)
    assert (host.pumps, made.pump(10), consumer.credit, consumer.waiting) == (1, 1, 0, True)
    assert (made.unacked, memory.messages) == (1, 2)
    made.ack((b"route", b"props", b"a", None, 0))
    assert (made.unacked, memory.messages, memory.used) == (
        0,
        1,
        cost_of((b"route", b"props", b"b", None, 0)),
    )
    consumer.credit = 1
    made.wake(consumer)
    assert (host.pumps, made.pump(10), sink.given[1:]) == (2, 1, [("c", 2, b"b", False)])
    consumer.credit = 1
    made.wake(consumer)
    publish(made, b"d")
    assert (consumer.credit, made.unacked, memory.messages) == (0, 2, 2)
    unlimited = QueueConsumer("u", made, sink)
    made.add_consumer(unlimited)
    publish(made, b"e")
    assert (unlimited.credit, sink.given[-1][0]) == (-1, "u")


def test_a_pump_stops_at_its_limit_and_asks_for_another_turn(host: Host) -> None:
    made, sink = queue(host), Sink()
    publish(made, b"a", b"b", b"c")
    made.add_consumer(QueueConsumer("c", made, sink, no_ack=True))
    host.pumps = 0
    assert (made.pump(2), host.pumps, host.memory.messages) == (2, 1, 1)
    assert (made.pump(2), host.pumps, host.memory.used) == (1, 1, 0)
    assert [number for _, number, _, _ in sink.given] == [1, 2, 3]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"max_length": 2}, [b"bb", b"ccc"]),
        ({"max_length": 3}, [b"a", b"bb", b"ccc"]),
        ({"max_bytes": 5}, [b"bb", b"ccc"]),
        ({"max_bytes": 6}, [b"a", b"bb", b"ccc"]),
        ({"max_bytes": 4}, [b"ccc"]),
        ({"max_length": 0}, []),
        ({"max_length": 3, "max_bytes": 5}, [b"bb", b"ccc"]),
    ],
)
def test_the_oldest_messages_are_dropped_at_the_limit(
    host: Host, options: dict[str, int], kept: list[bytes]
) -> None:
    made = queue(host, **options)
    assert publish(made, b"a", b"bb", b"ccc") == [True] * 3
    assert bodies(made) == kept
    assert [reason for _, reason in host.dead] == [MAXLEN] * (3 - len(kept))
    assert host.memory.messages == len(kept)


@pytest.mark.parametrize(
    ("overflow", "dead"), [(REJECT_PUBLISH, []), (REJECT_PUBLISH_DLX, [(b"ccc", MAXLEN)])]
)
@pytest.mark.parametrize("options", [{"max_length": 2}, {"max_bytes": 5}])
def test_the_newest_message_is_refused_at_the_limit(
    host: Host, options: dict[str, int], overflow: str, dead: list[tuple[bytes, str]]
) -> None:
    made = queue(host, overflow=overflow, **options)
    assert publish(made, b"a", b"bb", b"ccc") == [True, True, False]
    assert (bodies(made), host.dead, made.published) == ([b"a", b"bb"], dead, 2)
    # Exactly at the limit is allowed.
    made.get(no_ack=True)
    assert publish(made, b"ccc") == [True]


def test_what_is_returned_over_the_limit_is_dropped_only_where_the_oldest_is(host: Host) -> None:
    for overflow, kept in ((DROP_HEAD, [b"b"]), (REJECT_PUBLISH, [b"a", b"b"])):
        made = queue(host, max_length=1, overflow=overflow)
        publish(made, b"a")
        first = made.get(no_ack=False)
        assert first is not None
        publish(made, b"b")
        made.requeue([first[:2]])
        assert (bodies(made), made.unacked) == (kept, 0)


def test_the_shorter_of_two_times_to_live_counts(host: Host) -> None:
    for own, given, due in ((None, 500, 0.5), (300, None, 0.3), (300, 500, 0.3), (500, 300, 0.3)):
        made = queue(host, message_ttl=own)
        publish(made, b"a", ttl=given)
        assert host.reminders.pop() == due


def test_expired_messages_leave_when_their_time_has_come(host: Host) -> None:
    made = queue(host, message_ttl=1000)
    publish(made, b"a")
    host.fake.set(0.5)
    publish(made, b"b")
    host.fake.set(0.999)
    assert (made.drop_expired(), bodies(made)) == (0, [b"a", b"b"])
    host.fake.set(1.0)
    assert (made.tick(1.0), bodies(made), host.dead) == (1, [b"b"], [(b"a", EXPIRED)])
    assert host.reminders == [1.0, 1.5]
    host.fake.set(2.0)
    assert made.get(no_ack=True) is None
    assert (host.memory.messages, host.memory.used) == (0, 0)


def test_a_queue_with_timed_messages_delivers_none_that_has_expired(host: Host) -> None:
    made, sink = queue(host), Sink()
    publish(made, b"old", ttl=100)
    publish(made, b"new")
    host.fake.set(1)
    made.add_consumer(QueueConsumer("c", made, sink, no_ack=True))
    assert made.pump(1) == 1
    assert made.pump(1) == 1
    assert (sink.given, host.dead) == ([("c", 1, b"new", False)], [(b"old", EXPIRED)])


def test_a_requeued_message_returns_to_its_place_and_is_marked(host: Host) -> None:
    made = queue(host, max_priority=2)
    for body, priority in ((b"low", 0), (b"high", 2)):
        made.publish(b"r", join({PRIORITY: bytes((priority,))}), body, None, priority)
    high, low = made.get(no_ack=False), made.get(no_ack=False)
    assert high is not None
    assert low is not None
    assert (high[1][2], made.unacked) == (b"high", 2)
    host.pumps = 0
    made.requeue([low[:2], high[:2]])
    assert (made.unacked, host.pumps, host.memory.messages) == (0, 1, 2)
    again = made.get(no_ack=True)
    assert again is not None
    assert again[2]


def test_rejected_messages_are_dead_lettered_unless_the_queue_is_gone(host: Host) -> None:
    made = queue(host)
    publish(made, b"a", b"b", b"c")
    taken = [made.get(no_ack=False) for _ in range(3)]
    first, second, third = (each for each in taken if each is not None)
    made.reject(first[1])
    assert (host.dead, made.unacked, host.memory.messages) == ([(b"a", REJECTED)], 2, 2)
    made.close()
    made.reject(second[1])
    made.requeue([third[:2]])
    assert (len(host.dead), made.unacked, host.memory.messages, host.memory.used) == (1, 0, 0, 0)
    assert bodies(made) == []


def test_a_purge_leaves_unacknowledged_messages(host: Host) -> None:
    made = queue(host)
    publish(made, b"a", b"b", b"c")
    made.get(no_ack=False)
    assert (made.purge(), bodies(made), made.unacked, host.memory.messages) == (2, [], 1, 1)


def test_an_exclusive_queue_is_for_its_owner(host: Host) -> None:
    me, you = object(), object()
    mine, open_to_all = Queue("q", host, QueueOptions(), owner=me), queue(host)
    mine.check_access(me)
    mine.check_access(me, strict=True)
    open_to_all.check_access(you)
    for made, owner, strict in ((mine, you, False), (mine, None, False), (open_to_all, you, True)):
        with pytest.raises(AmqpError) as caught:
            made.check_access(owner, strict=strict)
        assert caught.value.code is ReplyCode.RESOURCE_LOCKED


def test_a_single_active_consumer_is_followed_by_the_one_of_the_highest_priority(host: Host) -> None:
    made, sink = queue(host, single_active_consumer=True), Sink()
    first, low, high = (
        QueueConsumer(tag, made, sink, no_ack=True, priority=p) for tag, p in (("a", 0), ("l", 1), ("h", 5))
    )
    for each in (first, low, high):
        made.add_consumer(each)
    publish(made, b"1", b"2")
    made.remove_consumer(first)
    publish(made, b"3")
    made.remove_consumer(high)
    publish(made, b"4")
    assert [tag for tag, *_ in sink.given] == ["a", "a", "h", "l"]


def test_the_last_consumer_of_an_auto_delete_queue_deletes_it(host: Host) -> None:
    sink = Sink()
    made = Queue("q", host, QueueOptions(), auto_delete=True)
    one, two = QueueConsumer("1", made, sink), QueueConsumer("2", made, sink, exclusive=True)
    for each in (one, two):
        made.add_consumer(each)
    assert made.refuses_consumer(exclusive=False)
    made.remove_consumer(two)
    assert (host.deleted, made.refuses_consumer(exclusive=False)) == ([], False)
    made.remove_consumer(two)
    made.remove_consumer(one)
    assert (host.deleted, sink.gone) == (["q"], [])


def test_closing_cancels_every_consumer(host: Host) -> None:
    made, sink = queue(host), Sink()
    publish(made, b"a")
    for tag in ("1", "2"):
        made.add_consumer(QueueConsumer(tag, made, sink))
    assert (made.close(), sink.gone, made.deleted, len(made.consumers)) == (1, ["1", "2"], True, 0)


def test_an_unused_queue_expires_and_a_used_one_does_not(host: Host) -> None:
    made, sink = queue(host, expires=1000), Sink()
    assert host.reminders == [1.0]
    host.fake.set(0.5)
    made.get(no_ack=True)
    host.fake.set(1.0)
    assert (made.tick(1.0), host.deleted, host.reminders[-1]) == (0, [], 1.5)
    consumer = QueueConsumer("c", made, sink)
    made.add_consumer(consumer)
    host.fake.set(9.0)
    made.tick(9.0)
    assert host.deleted == []
    made.remove_consumer(consumer)
    assert host.reminders[-1] == 10.0
    host.fake.set(10.0)
    made.tick(10.0)
    assert host.deleted == ["q"]


def test_a_get_waits_while_more_messages_have_expired_than_one_step_drops(host: Host) -> None:
    made = queue(host)
    publish(made, *[b"old"] * (EXPIRED_PER_STEP + 1), ttl=1000)
    publish(made, b"new")
    host.fake.set(1.0)
    with pytest.raises(ExpiringError):
        made.get(no_ack=True)
    assert (len(host.dead), made.delivered) == (EXPIRED_PER_STEP, 0)
    found = made.get(no_ack=True)
    assert found is not None
    assert found[1][2] == b"new"


def test_a_get_does_not_wait_for_what_has_not_expired(host: Host) -> None:
    for ttl in (None, 2000):
        made = queue(host)
        publish(made, *[b"old"] * EXPIRED_PER_STEP, ttl=1000)
        publish(made, b"new", ttl=ttl)
        host.fake.set(host.fake.monotonic() + 1.0)
        found = made.get(no_ack=True)
        assert found is not None
        assert found[1][2] == b"new"


def test_messages_that_wait_are_delivered_once_their_consumer_is_activated_or_woken(host: Host) -> None:
    made, sink = queue(host, single_active_consumer=True), Sink()
    sink.open = False
    one, two = QueueConsumer("1", made, sink), QueueConsumer("2", made, sink)
    for each in (one, two):
        made.add_consumer(each)
    publish(made, b"a")
    assert host.pumps == 0
    made.remove_consumer(one)
    assert host.pumps == 1
    made.wake(two)
    assert host.pumps == 2
