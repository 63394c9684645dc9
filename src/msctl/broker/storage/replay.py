"""What a log holds: applies its records in order. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from struct import error

from msctl.broker.core.messages import Message
from msctl.broker.storage.records import (
    CLOSED,
    COUNTED,
    COUNTED_RECORD,
    DELIVERED,
    ENTRY,
    ITEM_HEAD,
    ITEMS,
    MESSAGE,
    MESSAGE_HEAD,
    NUMBER_SIZE,
    NUMBERS_HEAD,
    PURGED,
    PURGED_HEAD,
    REMOVED,
    SEALED,
    BadRecordError,
    Item,
    StoredQueue,
    item_record,
    message_head,
    read_item,
    skip,
    unpack,
)


class Replay:
    """The state after the records applied so far.

    `messages` has the messages of each queue by their numbers; the time at which one expires is in epoch
    seconds. A message that was moved can precede its queue, which was moved later, so messages of queues
    that are not known are kept until `finish`. `moved` has the segment of each entry that was moved.
    `closed` says whether the log was closed properly; then `delivered` are the messages that have been
    delivered before.
    """

    def __init__(self) -> None:
        self.items: dict[int, Item] = {}
        self.sizes: dict[int, int] = {}
        self.messages: dict[int, dict[int, Message]] = {}
        self.moved: dict[int, int] = {}
        self.delivered: set[int] = set()
        self.counts: dict[int, int] = {}
        """How often messages in quorum queues have been delivered; dead entries are not removed."""
        self.closed = False
        self.sealed = False
        self.last = 0
        self._homes: dict[int, dict[int, Message]] = {}

    def apply(self, payload: bytes, segment: int, base: int) -> None:
        """Apply a block of `segment`, whose own entries begin at `base`. Raises DamagedError."""
        self.closed = self.sealed = False
        try:
            self._apply(payload, segment, base)
        except (error, IndexError) as exc:
            raise BadRecordError("a record runs past the end of its block") from exc

    def _apply(self, payload: bytes, segment: int, base: int) -> None:
        at, size = 0, len(payload)
        head, unpack_head, head_size = MESSAGE, MESSAGE_HEAD.unpack_from, MESSAGE_HEAD.size
        messages, homes, last = self.messages, self._homes, self.last
        route = properties = b""
        queue_number = -1
        queue: dict[int, Message] = {}
        while at < size:
            if payload[at] != head:
                at = self._apply_other(payload, at, segment, base)
                queue_number = -1
                continue
            _, count, a, b, c, number, target, expires = unpack_head(payload, at)
            at += head_size
            others: tuple[tuple[int, int, float], ...] = ()
            if count != 1:
                stop = at + (count - 1) * ENTRY.size
                others = tuple(ENTRY.iter_unpack(payload[at:stop]))
                at = stop
            stop = at + a
            found = payload[at:stop]
            if found != route:
                route = found
            at = stop + b
            found = payload[stop:at]
            if found != properties:
                properties = found
            stop = at + c
            if stop > size:
                raise IndexError(stop)
            body = payload[at:stop]
            at = stop
            if target != queue_number:
                queue_number, queue = target, messages.setdefault(target, {})
            queue[number] = (route, properties, body, expires or None, number)
            homes[number] = queue
            if number < base:
                self.moved[number] = segment
            if number > last:
                last = number
            for number, target, expires in others:
                other = messages.setdefault(target, {})
                other[number] = (route, properties, body, expires or None, number)
                homes[number] = other
                if number < base:
                    self.moved[number] = segment
                if number > last:
                    last = number
        self.last = max(last, self.last)

    def _apply_other(self, payload: bytes, at: int, segment: int, base: int) -> int:
        """Apply the record at `at`, which is no message; return where it ends."""
        kind = payload[at]
        if kind in ITEMS:
            _, number, size = ITEM_HEAD.unpack_from(payload, at)
            start = at + ITEM_HEAD.size
            stop: int = start + size
            self._put_item(number, read_item(kind, payload[start:stop]), size)
            if number < base:
                self.moved[number] = segment
            return stop
        end = skip(kind, payload, at)
        if end > len(payload):
            raise IndexError(end)
        if kind == REMOVED:
            self._remove(payload[at + NUMBERS_HEAD.size : end])
        elif kind == PURGED:
            _, queue, bound, count = PURGED_HEAD.unpack_from(payload, at)
            self._purge(queue, bound, payload[end - count * NUMBER_SIZE : end])
        elif kind == COUNTED:
            _, number, deliveries = COUNTED_RECORD.unpack_from(payload, at)
            self.counts[number] = deliveries
        elif kind == DELIVERED:
            self.delivered = set(unpack(payload[at + NUMBERS_HEAD.size : end]))
        self.closed = kind == CLOSED
        self.sealed = kind == SEALED
        return end

    def _put_item(self, number: int, item: Item, size: int) -> None:
        self.items[number] = item
        self.sizes[number] = size + ITEM_HEAD.size
        if isinstance(item, StoredQueue):
            self.messages.setdefault(number, {})
        self.last = max(self.last, number)

    def _remove(self, numbers: bytes) -> None:
        homes, items = self._homes, self.items
        for number in unpack(numbers):
            home = homes.pop(number, None)
            if home is not None:
                home.pop(number, None)
            elif items.pop(number, None) is not None:
                self.messages.pop(number, {}).clear()

    def _purge(self, queue: int, bound: int, numbers: bytes) -> None:
        messages = self.messages.get(queue)
        if messages is None:
            return
        kept = set(unpack(numbers))
        gone = [number for number in messages if number < bound and number not in kept]
        if len(gone) == len(messages):
            messages.clear()
        else:
            for number in gone:
                del messages[number]
        for number in gone:
            self._homes.pop(number, None)

    def finish(self) -> None:
        """Drop the messages of queues that do not exist: nothing follows."""
        for number in [number for number in self.messages if number not in self.items]:
            self.messages.pop(number).clear()

    def in_order(self, queue: int) -> list[Message]:
        """The messages of a queue in the order in which it received them."""
        messages = self.messages[queue]
        return [messages[number] for number in sorted(messages)]

    def has(self, number: int) -> bool:
        """Whether a message is live."""
        home = self._homes.get(number)
        return home is not None and number in home

    def live(self) -> list[int]:
        """The numbers of all live entries, ascending."""
        numbers = list(self.items)
        for messages in self.messages.values():
            numbers += messages
        numbers.sort()
        return numbers


def live_records(replay: Replay) -> Iterator[tuple[tuple[bytes, ...], int]]:
    """The records that put all live entries, each with the number of its only entry."""
    for number, item in replay.items.items():
        yield (item_record(number, item),), number
    for queue in replay.messages:
        for message in replay.in_order(queue):
            route, properties, body, expires, number = message
            head = message_head(route, properties, body, [(number, queue, expires or 0.0)])
            yield (head, route, properties, body), number
