"""The ring of consumers: turns, priorities, and who is set aside until it is woken."""

from __future__ import annotations

import pytest

from msctl.broker.core.consumers import UNLIMITED, ConsumerRing, MessageSource, QueueConsumer
from msctl.broker.core.messages import Message, Taken


class Channel:
    """Accepts messages as long as `open` is true."""

    def __init__(self) -> None:
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
        raise AssertionError("the ring delivers nothing")

    def cancelled(self, consumer: QueueConsumer) -> None:
        raise AssertionError("the ring cancels nothing")


class Source:
    """A queue that only counts who is woken."""

    name = "q"
    hands_over_in_order = False

    def __init__(self) -> None:
        self.woken: list[QueueConsumer] = []

    def wake(self, consumer: QueueConsumer) -> None:
        self.woken.append(consumer)

    def add_consumer(self, consumer: QueueConsumer) -> None: ...

    def remove_consumer(self, consumer: QueueConsumer) -> None: ...

    def released(self, consumer: QueueConsumer) -> None: ...

    def ack(self, message: Message) -> None: ...

    def reject(self, message: Message) -> None: ...

    def requeue(self, taken: list[Taken]) -> None: ...


def consumer(
    tag: str, channel: Channel | None = None, source: MessageSource | None = None, **options: int
) -> QueueConsumer:
    return QueueConsumer(tag, source or Source(), channel or Channel(), **options)  # type: ignore[arg-type]  # flags


def ring(*consumers: QueueConsumer) -> ConsumerRing:
    made = ConsumerRing()
    for each in consumers:
        made.add(each)
    return made


def turns(of: ConsumerRing, count: int) -> str:
    return "".join(each.tag if (each := of.choose()) else "-" for _ in range(count))


def test_consumers_take_turns_within_a_priority() -> None:
    assert turns(ring(*map(consumer, "abc")), 7) == "abcabca"
    assert turns(ring(consumer("a")), 3) == "aaa"
    assert turns(ConsumerRing(), 1) == "-"


def test_higher_priorities_come_first_while_they_can_take_a_message() -> None:
    high = [consumer("h", priority=5), consumer("i", priority=5)]
    low = consumer("l", priority=-1)
    middle = consumer("m")
    of = ring(low, high[0], middle, high[1])
    assert turns(of, 4) == "hihi"
    for each in high:
        each.credit = 0
    assert turns(of, 3) == "mmm"
    assert [each.waiting for each in (*high, middle, low)] == [True, True, False, False]
    of.remove(middle)
    assert turns(of, 2) == "ll"
    high[0].credit = 1
    assert turns(of, 1) == "l"  # not woken yet
    of.add(high[0])
    assert (turns(of, 2), high[0].waiting) == ("hh", False)


def test_a_consumer_without_credit_or_with_a_full_channel_is_set_aside() -> None:
    full = Channel()
    full.open = False
    poor, stuck, free = consumer("p", prefetch=1), consumer("s", full), consumer("f")
    poor.credit = 0
    of = ring(poor, stuck, free)
    assert turns(of, 3) == "fff"
    assert (poor.waiting, stuck.waiting, free.waiting) == (True, True, False)
    full.open = True
    of.add(stuck)
    assert turns(of, 4) == "fsfs"
    free.credit = stuck.credit = 0
    assert turns(of, 2) == "--"


def test_a_removed_consumer_has_no_more_turns() -> None:
    one, two, three = consumer("a"), consumer("b"), consumer("c", priority=1)
    of = ring(one, two, three)
    of.remove(three)
    assert turns(of, 3) == "aba"
    of.remove(one)
    of.remove(one)
    assert turns(of, 2) == "bb"
    of.remove(two)
    assert turns(of, 1) == "-"
    of.remove(consumer("x", priority=9))
    of.add(three)
    assert turns(of, 2) == "cc"
    of.add(one)
    assert turns(of, 2) == "cc"


def test_only_who_was_set_aside_is_woken() -> None:
    source = Source()
    one = consumer("a", source=source)
    one.wake()
    assert source.woken == []
    one.waiting = True
    one.wake()
    assert source.woken == [one]


@pytest.mark.parametrize(
    ("prefetch", "no_ack", "credit"), [(0, False, UNLIMITED), (3, False, 3), (3, True, UNLIMITED)]
)
def test_the_prefetch_is_the_credit_of_who_acknowledges(prefetch: int, no_ack: bool, credit: int) -> None:
    made = QueueConsumer("a", Source(), Channel(), no_ack=no_ack, prefetch=prefetch)
    assert (made.credit, made.no_ack) == (credit, no_ack)


def test_a_consumer_acknowledges_shares_and_has_no_priority_by_default() -> None:
    made = QueueConsumer("a", Source(), Channel())
    assert (made.no_ack, made.exclusive, made.priority, made.credit) == (False, False, 0, UNLIMITED)
    assert not made.waiting


def test_cached_frames_fit_the_same_route_properties_and_size_only() -> None:
    one = consumer("a")
    assert (one.head, one.tail) == (b"", b"")
    route, other_route = bytes(bytearray(b"route")), bytes(bytearray(b"route"))
    properties, other_properties = bytes(bytearray(b"props")), bytes(bytearray(b"props"))
    first: Message = (route, properties, b"body", None, 0)
    assert not one.fits(first)
    assert one.fits(first)
    assert one.fits((route, properties, b"size", 1.0, 0))
    for other in (
        (other_route, properties, b"body", None, 0),
        (other_route, other_properties, b"body", None, 0),
        (other_route, other_properties, b"bodies", None, 0),
        (other_route, other_properties, b"", None, 0),
    ):
        assert not one.fits(other)
        assert one.fits(other)
    assert not one.fits(first)
    fresh = consumer("b")
    assert not fresh.fits((b"", b"", b"", None, 0))
