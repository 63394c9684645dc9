"""Ready messages: their order, their count and bytes, whoever was taken and given back."""

from __future__ import annotations

import pytest

from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import MESSAGE_COST, Level, Message, ReadyMessages, cost_of


def message(body: bytes, properties: bytes = b"") -> Message:
    return (b"route", properties, body, None, 0)


def taken(ready: ReadyMessages) -> list[bytes]:
    return [ready.take()[1][2] for _ in range(ready.count)]


def test_fresh_messages_leave_in_their_order() -> None:
    ready = ReadyMessages()
    for body in (b"a", b"bb", b"ccc"):
        ready.add(message(body), 0)
    assert (ready.count, ready.bytes) == (3, 6)
    assert ready.head() == message(b"a")
    assert ready.take() == (None, message(b"a"))
    assert (ready.count, ready.bytes) == (2, 5)
    assert taken(ready) == [b"bb", b"ccc"]
    assert (ready.count, ready.bytes, ready.head()) == (0, 0, None)
    with pytest.raises(IndexError):
        ready.take()


def test_higher_priorities_leave_first_and_those_above_the_limit_count_as_the_highest() -> None:
    ready = ReadyMessages(max_priority=2)
    for body, priority in ((b"0", 0), (b"2", 2), (b"1", 1), (b"9", 9), (b"00", 0)):
        ready.add(message(body), priority)
    assert [found[2] for found, _ in ready.waiting()] == [b"2", b"9", b"1", b"0", b"00"]
    assert taken(ready) == [b"2", b"9", b"1", b"0", b"00"]


def test_without_priorities_all_messages_are_of_one() -> None:
    ready = ReadyMessages()
    for body, priority in ((b"a", 0), (b"b", 9), (b"c", 1)):
        ready.add(message(body), priority)
    assert taken(ready) == [b"a", b"b", b"c"]


def test_returned_messages_come_before_fresh_ones_in_their_old_order() -> None:
    ready = ReadyMessages(max_priority=1)
    ready.add(message(b"fresh"), 0)
    for number in (5, 3, 9, 1, 7, 4):
        ready.give_back(number, message(b"x" * number), 0)
    ready.give_back(8, message(b"urgent"), 5)
    assert (ready.count, ready.bytes) == (8, 5 + 29 + 6)
    assert ready.head() == message(b"urgent")
    shown = [(found[2], redelivered) for found, redelivered in ready.waiting()]
    assert shown == [(b"urgent", True), *((b"x" * n, True) for n in (1, 3, 4, 5, 7, 9)), (b"fresh", False)]
    assert [ready.take() for _ in range(3)] == [
        (8, message(b"urgent")),
        (1, message(b"x")),
        (3, message(b"xxx")),
    ]
    assert taken(ready) == [b"x" * 4, b"x" * 5, b"x" * 7, b"x" * 9, b"fresh"]


def test_the_length_of_a_level_counts_both_kinds() -> None:
    level = Level()
    level.fresh.extend([message(b"a"), message(b"b")])
    level.returned.append((1, message(b"c")))
    assert len(level) == 3


def test_a_message_costs_its_properties_its_body_and_a_constant() -> None:
    assert cost_of(message(b"body", b"props")) == MESSAGE_COST + 9
    # What is measured of CPython: a tuple, three bytes objects and a place in a deque.
    assert 120 < MESSAGE_COST < 240


def test_detached_messages_are_freed_in_slices() -> None:
    ready, memory = ReadyMessages(max_priority=1), MemoryAccount()
    for priority in (0, 1):
        for body in (b"a", b"bb"):
            ready.add(message(body), priority)
    ready.give_back(1, message(b"ccc"), 0)
    memory.used, memory.messages = 5 * MESSAGE_COST + 9 + 1000, 5 + 7
    memory.discard(ready.detach())
    assert (ready.count, ready.bytes, ready.head()) == (0, 0, None)
    assert (memory.messages, memory.has_discarded) == (7, True)
    assert [memory.free(2), memory.free(2), memory.free(2), memory.free(2)] == [2, 2, 1, 0]
    assert (memory.used, memory.has_discarded) == (1000, False)
    ready.add(message(b"new"), 1)
    assert taken(ready) == [b"new"]
