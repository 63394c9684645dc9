"""Messages that wait in an exchange of type x-delayed-message until they are routed. Pure.

Source: the plugin rabbitmq_delayed_message_exchange. The exchange routes as its x-delayed-type says. A
message with a positive header x-delay (milliseconds) is confirmed, returned if it is mandatory, and
routed when the delay is over; the header is negative from then on. Other messages are routed at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple, Protocol

from msctl.broker.core.journal import Entries, StoredDelay
from msctl.broker.core.memory import MemoryAccount
from msctl.broker.core.messages import MESSAGE_COST
from msctl.broker.protocol.properties import headers_of, is_persistent, join, split, with_headers
from msctl.broker.protocol.tables import INTEGERS, Table
from msctl.clock import Clock

DELAYED_TYPE = b"x-delayed-type"
MAX_DELAY_MS = (1 << 32) - 1
_DELAY = b"x-delay"


def delay_of(headers: Table) -> int:
    """The milliseconds for which a message with these headers is delayed; 0 for not at all."""
    delay = _stated_delay(headers)
    return delay if 0 < delay <= MAX_DELAY_MS else 0


def _stated_delay(headers: Table) -> int:
    kind, value = headers.get(_DELAY, ("V", None))
    if kind in INTEGERS or kind in "df":
        return int(value) if value == value and abs(value) <= MAX_DELAY_MS else 0
    if kind == "S":
        digits = value.removeprefix(b"-").removeprefix(b"+")
        return int(value) if digits.isdigit() and len(digits) <= 10 else 0
    return 0


def _after_delay(headers: Table, delay: int) -> Table:
    """The headers of a message whose delay is over."""
    return {**headers, _DELAY: ("I", max(-delay, -(1 << 31)))}


class Target(Protocol):
    """Where a message goes: a queue, or an exchange that delays it."""

    @property
    def name(self) -> str: ...

    @property
    def deleted(self) -> bool: ...

    @property
    def entry(self) -> int:
        """Its number in the log; 0: it is in memory only."""
        ...

    @property
    def stores_transient(self) -> bool:
        """Whether messages that are not persistent are stored too."""
        ...

    def publish(
        self,
        route: bytes,
        properties: bytes,
        body: bytes,
        ttl_ms: int | None = None,
        priority: int = 0,
        entries: Entries | None = None,
    ) -> bool:
        """Take a message; False if it is rejected. See `Queue.publish` for `entries`."""
        ...


class DelayHost(Protocol):
    """The virtual host, as its delayed messages see it."""

    name: str
    clock: Clock
    memory: MemoryAccount

    def remind(self, timed: DelayedMessages, when: float) -> None:
        """Call `tick` at or soon after `when` (monotonic)."""
        ...


class DelayingExchange(Protocol):
    """An exchange of type x-delayed-message; `delayed` counts the messages that wait in it."""

    name: str
    delayed: int
    entry: int


Router = Callable[[DelayingExchange, Sequence[str], Table, bytes], Sequence[Target]]
"""The targets of a message at an exchange, by routing keys, headers and properties."""


class DelayedMessage(NamedTuple):
    due: float
    number: int
    exchange: DelayingExchange
    keys: tuple[str, ...]
    headers: Table
    delay: int
    route: bytes
    properties: bytes
    body: bytes
    ttl_ms: int | None
    priority: int
    entry: int = 0
    """Its number in the log; 0: it is in memory only."""


class DelayedMessages:
    """The delayed messages of a virtual host, by the time at which they are due."""

    deleted = False

    def __init__(self, host: DelayHost, router: Router) -> None:
        self._host = host
        self._router = router
        self._waiting: list[DelayedMessage] = []
        self._numbers = count()
        self._reminded: float | None = None

    def add(self, message: DelayedMessage) -> None:
        self._host.memory.used += _cost(message)
        message.exchange.delayed += 1
        heapq.heappush(self._waiting, message)
        self._remind()

    def store(self, message: DelayedMessage) -> int:
        """Record a message in the log; return its number."""
        host = self._host
        journal = host.memory.journal
        if journal is None:
            return 0
        return journal.put_delayed(
            StoredDelay(
                host.name,
                message.exchange.name,
                message.due + host.clock.time() - host.clock.monotonic(),
                message.delay,
                message.keys,
                message.route,
                message.properties,
                message.body,
                message.ttl_ms,
                message.priority,
            )
        )

    def recover(self, entry: int, exchange: DelayingExchange, stored: StoredDelay) -> None:
        """Add a message that the log has."""
        clock = self._host.clock
        self.add(
            DelayedMessage(
                stored.due - clock.time() + clock.monotonic(),
                self.number(),
                exchange,
                stored.keys,
                headers_of(split(stored.properties)) or {},
                stored.delay,
                stored.route,
                stored.properties,
                stored.body,
                stored.ttl_ms,
                stored.priority,
                entry,
            )
        )

    def hold(self, exchange: DelayingExchange, keys: tuple[str, ...], headers: Table) -> DelayTarget:
        """The target for messages with these routing keys and headers, which `exchange` delays."""
        return DelayTarget(self, exchange, keys, headers)

    def due_after(self, delay_ms: int) -> float:
        return self._host.clock.monotonic() + delay_ms / 1000

    def number(self) -> int:
        return next(self._numbers)

    def tick(self, now: float, limit: int) -> int:
        """Route up to `limit` messages that are due; return their number."""
        self._reminded = None
        handled = 0
        while self._waiting and self._waiting[0].due <= now and handled < limit:
            message = heapq.heappop(self._waiting)
            self._host.memory.used -= _cost(message)
            message.exchange.delayed -= 1
            self._route(message)
            handled += 1
        self._remind()
        return handled

    def _route(self, message: DelayedMessage) -> None:
        headers = _after_delay(message.headers, message.delay)
        properties = join(with_headers(split(message.properties), headers))
        route, body = message.route, message.body
        journal = self._host.memory.journal
        entries: Entries = []
        persistent = is_persistent(properties)
        for target in self._router(message.exchange, message.keys, headers, properties):
            stored = journal is not None and (persistent or target.stores_transient)
            target.publish(
                route, properties, body, message.ttl_ms, message.priority, entries if stored else None
            )
        if entries and journal is not None:
            journal.store(route, properties, body, entries)
        if message.entry and journal is not None:
            journal.drop(message.entry)

    def _remind(self) -> None:
        if self._waiting and (self._reminded is None or self._waiting[0].due < self._reminded):
            self._reminded = self._waiting[0].due
            self._host.remind(self, self._reminded)


class DelayTarget:
    """An exchange that delays a message, in the place of a queue."""

    __slots__ = ("_delay", "_delayed", "_exchange", "_headers", "_keys")

    deleted = False
    name = ""
    stores_transient = False

    def __init__(
        self, delayed: DelayedMessages, exchange: DelayingExchange, keys: tuple[str, ...], headers: Table
    ) -> None:
        self._delayed = delayed
        self._exchange = exchange
        self._keys = keys
        self._headers = headers
        self._delay = delay_of(headers)

    @property
    def entry(self) -> int:
        return self._exchange.entry

    def publish(
        self,
        route: bytes,
        properties: bytes,
        body: bytes,
        ttl_ms: int | None = None,
        priority: int = 0,
        entries: Entries | None = None,
    ) -> bool:
        delayed = self._delayed
        message = DelayedMessage(
            delayed.due_after(self._delay),
            delayed.number(),
            self._exchange,
            self._keys,
            self._headers,
            self._delay,
            route,
            properties,
            body,
            ttl_ms,
            priority,
        )
        if entries is not None and self._exchange.entry:
            message = message._replace(entry=delayed.store(message))
        delayed.add(message)
        return True


def _cost(message: DelayedMessage) -> int:
    return MESSAGE_COST + len(message.properties) + len(message.body)
