"""The log hub: one bounded ring of lines per service, followers, and the bridge from `logging`.

Lines are attributed by name: a hosted service's records carry the name that was set in
`current_service` when its tasks began; everything else belongs to the stack itself ("msctl").
"""

from __future__ import annotations

import heapq
import logging
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextvars import ContextVar
from operator import attrgetter

from msctl.clock import Clock
from msctl.errors import UsageError
from msctl.model.snapshots import LogLine, LogQuery
from msctl.telemetry.logs.broadcast import Broadcast
from msctl.telemetry.trace_context import current_trace

STACK = "msctl"
MAX_LINE = 16 * 1024
"""Characters kept of one line; the rest is cut and said to be."""

MAX_FIELDS = 16
MAX_FIELD = 256
"""Characters kept of one field's text."""

Fields = Mapping[str, str | int | float | bool]
_NO_FIELDS: Fields = {}

current_service: ContextVar[str] = ContextVar("msctl_current_service", default=STACK)


class LogHub:
    """Keeps the last lines of each service and hands new ones to followers.

    A ring holds `capacity` lines, so a chatty service never evicts another's. A follower that
    does not keep up loses its oldest lines (and is told how many), never the stack's memory.
    """

    def __init__(self, clock: Clock, *, capacity: int = 2000, backlog: int = 10_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._rings: dict[str, deque[LogLine]] = {}
        self._followers: Broadcast[LogLine] = Broadcast(backlog=backlog)
        self._listeners: list[Callable[[LogLine], None]] = []
        self._seq = 0

    def append(
        self,
        service: str,
        text: str,
        level: str = "info",
        *,
        instance: str = "",
        fields: Fields = _NO_FIELDS,
    ) -> None:
        """Record `text` for `service`; each of its lines becomes one line of the log.

        The lines carry the trace that the caller works for.
        """
        context = current_trace.get()
        trace = None if context is None else context.trace_id
        for part in text.splitlines() or [""]:
            self._append_line(service, part, level, instance, trace, fields)

    def _append_line(
        self, service: str, text: str, level: str, instance: str, trace: str | None, fields: Fields
    ) -> None:
        if len(text) > MAX_LINE:
            text = f"{text[:MAX_LINE]}… ({len(text) - MAX_LINE} more characters cut)"
        self._seq += 1
        line = LogLine(self._seq, self._clock.time(), service, level, text, instance, trace, fields)
        ring = self._rings.get(service)
        if ring is None:
            ring = self._rings[service] = deque(maxlen=self._capacity)
        ring.append(line)
        for listener in self._listeners:
            listener(line)
        self._followers.publish(line)

    def listen(self, listener: Callable[[LogLine], None]) -> None:
        """Call `listener` with each line from now on, at once and in order; it must not block."""
        self._listeners.append(listener)

    def tail(self, services: Iterable[str] = ()) -> list[LogLine]:
        """What is kept of these services (none: of all) together, oldest first."""
        wanted = set(services)
        rings = [ring for name, ring in self._rings.items() if not wanted or name in wanted]
        return list(heapq.merge(*rings, key=attrgetter("seq")))

    def follow(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The lines that `query` asks for; with `follow`, those to come until the caller stops.

        Raises UsageError, at once, for an expression in `grep` that is none.
        """
        return self._follow(query, _filter(query))

    async def _follow(self, query: LogQuery, wanted: Callable[[LogLine], bool]) -> AsyncIterator[LogLine]:
        with self._followers.subscribe(wanted) as feed:
            lines = [line for line in self.tail(query.services) if wanted(line)]
            for line in lines if query.tail is None else lines[max(0, len(lines) - query.tail) :]:
                yield line
            while query.follow:
                lines, missed = await feed.take()
                if missed:
                    note = f"({missed} lines were skipped: this reader was too slow)"
                    yield LogLine(lines[0].seq, lines[0].time, STACK, "warning", note)
                for line in lines:
                    yield line


def _filter(query: LogQuery) -> Callable[[LogLine], bool]:
    """Whether a line is asked for; raises UsageError for an expression that is none."""
    services = frozenset(query.services)
    since = query.since
    try:
        pattern = None if query.grep is None else re.compile(query.grep)
    except re.error as error:
        raise UsageError(f"--grep: {query.grep!r} is not a regular expression: {error}") from error

    def wanted(line: LogLine) -> bool:
        if services and line.service not in services:
            return False
        if since is not None and line.time < since:
            return False
        return pattern is None or pattern.search(line.text) is not None

    return wanted


class HubHandler(logging.Handler):
    """Sends records of the standard `logging` to a hub, under the service they belong to."""

    def __init__(self, hub: LogHub) -> None:
        super().__init__()
        self._hub = hub

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._hub.append(
                current_service.get(),
                self.format(record),
                record.levelname.lower(),
                fields=_extra(record),
            )
        except Exception:  # noqa: BLE001 - a record that cannot be formatted must not end the service
            self.handleError(record)


_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> Fields:
    """What the writer of a record attached to it (`extra=`), as far as it is plain data."""
    fields: dict[str, str | int | float | bool] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or len(fields) == MAX_FIELDS:
            continue
        if isinstance(value, str):
            fields[name] = value[:MAX_FIELD]
        elif isinstance(value, bool | int | float):
            fields[name] = value
    return fields
