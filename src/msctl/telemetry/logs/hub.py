"""The log hub: a bounded ring of lines per service, followers, and a handler for `logging`.

A record belongs to the service in `current_service`, which a hosted service's tasks inherit; records outside
any service belong to the stack ("msctl").
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextvars import ContextVar
from functools import partial
from operator import attrgetter

from msctl.clock import Clock
from msctl.model.events import LogLine, LogQuery
from msctl.telemetry.logs.broadcast import Broadcast
from msctl.telemetry.logs.parsing import MAX_FIELD, MAX_FIELDS, SEVERITY, parse_record
from msctl.telemetry.trace_context import current_trace, record_exception

STACK = "msctl"
MAX_LINE = 16 * 1024
"""Characters of one record; the rest is cut, with a note."""

Fields = Mapping[str, str | int | float | bool]
_NO_FIELDS: Fields = {}

current_service: ContextVar[str] = ContextVar("msctl_current_service", default=STACK)


class LogHub:
    """Keeps the last `capacity` records of each service and passes new ones to followers.

    A busy service never evicts another's lines. A follower that is too slow loses its oldest lines and gets
    a line with their number.
    """

    def __init__(self, clock: Clock, *, capacity: int = 2000, backlog: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._rings: dict[str, deque[LogLine]] = {}
        self._followers: Broadcast[LogLine] = Broadcast(backlog=backlog)
        self._listeners: list[Callable[[LogLine], None]] = []
        self.writers: set[Callable[[], None]] = set()
        """Called before the log is read: those who hold a record back for its next line give it out."""
        self._outlet: Callable[..., None] | None = None
        self._seq = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to `loop`, which runs in this thread: lines of other threads are passed to it."""
        self._loop = loop
        self._thread = threading.get_ident()

    def divert(self, outlet: Callable[..., None]) -> None:
        """Give the arguments of `append` to `outlet` from now on: this is a copy in a forked process."""
        self._outlet = outlet

    def append(
        self,
        service: str,
        text: str,
        level: str = "info",
        *,
        instance: str = "",
        fields: Fields = _NO_FIELDS,
        stream: str = "",
        trace: str | None = None,
    ) -> None:
        """Add one record, which may have several lines, with `trace` or else the caller's current one.

        May be called in any thread once the hub is bound to a loop.
        """
        if trace is None and (context := current_trace.get()) is not None:
            trace = context.trace_id
        if self._outlet is not None:
            self._outlet(service, text, level, instance=instance, fields=fields, stream=stream, trace=trace)
            return
        if self._loop is not None and threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody reads the log any more
                self._loop.call_soon_threadsafe(
                    partial(
                        self.append,
                        service,
                        text,
                        level,
                        instance=instance,
                        fields=fields,
                        stream=stream,
                        trace=trace,
                    )
                )
            return
        text = text.rstrip("\r\n")
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]}… ({len(text) - MAX_LINE} more characters cut)"
        self._seq += 1
        line = LogLine(self._seq, self._clock.time(), service, level, text, instance, trace, fields, stream)
        ring = self._rings.get(service)
        if ring is None:
            ring = self._rings[service] = deque(maxlen=self._capacity)
        ring.append(line)
        for listener in self._listeners:
            listener(line)
        self._followers.publish(line)

    def printed(self, service: str, text: str, *, instance: str = "", stream: str = "") -> None:
        """Add a record that a program printed: its level, trace and fields are read from it."""
        found = parse_record(text)
        self.append(
            service,
            found.text,
            found.level or "info",
            instance=instance,
            fields=found.fields,
            stream=stream,
            trace=found.trace,
        )

    def listen(self, listener: Callable[[LogLine], None]) -> None:
        """Call `listener` synchronously with each new line; it must not block."""
        self._listeners.append(listener)

    def tail(self, services: Iterable[str] = ()) -> list[LogLine]:
        """The kept lines of these services (all if empty), oldest first."""
        for give_out in self.writers:
            give_out()
        names = set(services)
        rings = [ring for name, ring in self._rings.items() if not names or name in names]
        return list(heapq.merge(*rings, key=attrgetter("seq")))

    def follow(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield the lines that match `query`; with `follow`, also future ones until the caller stops."""
        return self._follow(query, matching(query))

    async def _follow(self, query: LogQuery, matches: Callable[[LogLine], bool]) -> AsyncIterator[LogLine]:
        with self._followers.subscribe(matches) as feed:
            lines = [line for line in self.tail(query.services) if matches(line)]
            for line in lines if query.tail is None else lines[max(0, len(lines) - query.tail) :]:
                yield line
            while query.follow:
                lines, missed = await feed.take()
                if missed:
                    note = f"({missed} lines skipped: this reader is too slow)"
                    yield LogLine(lines[0].seq, lines[0].time, STACK, "warning", note)
                for line in lines:
                    yield line


def matching(query: LogQuery) -> Callable[[LogLine], bool]:
    """A predicate for the lines that match `query`."""
    services = frozenset(query.services)
    since, stream = query.since, query.stream
    lowest = SEVERITY.get(query.level, 0)

    def matches(line: LogLine) -> bool:
        if services and line.service not in services:
            return False
        if since is not None and line.time < since:
            return False
        if lowest and SEVERITY.get(line.level, 1) < lowest:
            return False
        return not stream or line.stream == stream

    return matches


class HubHandler(logging.Handler):
    """Adds records of the standard `logging` to a hub, under the current service."""

    def __init__(self, hub: LogHub) -> None:
        super().__init__()
        self._hub = hub
        self._printed = threading.local()
        """`record` is a weak reference to the last record that this thread printed."""

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(self._printed, "record", _nothing)() is record:
            return
        try:
            text = self.format(record)
            self._hub.append(current_service.get(), text, record.levelname.lower(), fields=_extra(record))
            _record_exception_of(record)
        except Exception:  # noqa: BLE001 - a record that cannot be formatted must not end the service
            self.handleError(record)

    def printed(self, service: str, stream: str, record: logging.LogRecord, text: str) -> None:
        """Add a record in the text that a handler of the service's own has printed.

        If it reaches this handler too, as records do that go up to the root logger, it is not added again.
        """
        self._printed.record = weakref.ref(record)
        found = parse_record(text.rstrip("\r\n"))
        self._hub.append(
            service,
            found.text,
            record.levelname.lower(),
            fields={**_extra(record), **found.fields},
            stream=stream,
            trace=found.trace,
        )
        _record_exception_of(record)


def _nothing() -> None:
    return None


def _record_exception_of(record: logging.LogRecord) -> None:
    if record.exc_info and record.exc_info[1] and record.levelno >= logging.ERROR:
        # Flask and Django log what a view raised, and answer 500 themselves.
        record_exception(record.exc_info[1], first=True)


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> Fields:
    """The plain values that were attached to a record with `extra=`."""
    fields: dict[str, str | int | float | bool] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or len(fields) == MAX_FIELDS:
            continue
        if isinstance(value, str):
            fields[name] = value[:MAX_FIELD]
        elif isinstance(value, bool | int | float):
            fields[name] = value
    return fields
