"""The traces of a run, as `msctl traces` shows them: of requests and messages on the simulated network.

A request is a span of the service that is asked, from its head to that of the answer. A published message
is a span until its confirm, and each delivery one until it is acknowledged or comes back. Which span caused
which is known by the context variable of the code that sends, and by a message's content.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import aiormq.channel

from msctl.model.exchange import Exchange, Handler
from msctl.model.traces import Span, SpanKind, Trace

MAX_SPANS = 20_000
_STATUS = "http.response.status_code"
_FAILURE = 500


@dataclass
class _Open:
    """A span that has not ended."""

    trace: int
    number: int
    parent: int | None
    name: str
    service: str
    kind: SpanKind
    start: float
    attributes: dict[str, str | int | float | bool] = field(default_factory=dict)


_current: ContextVar[_Open | None] = ContextVar("msctl_simulated_span", default=None)


class Spans:
    """Collects the spans of one run. `now` is virtual time."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._ended: list[tuple[int, Span]] = []
        self._last = 0
        self._asked: dict[tuple[str, int], _Open] = {}
        """The request in progress on a connection, by the address of its client."""
        self._sent: dict[tuple[str, bytes], _Open] = {}
        """The span that published a message, by routing key and body."""
        self._taken: dict[tuple[str, bytes, bytes], _Open] = {}
        """Deliveries that are not acknowledged, by queue, properties and body."""

    # --- requests --------------------------------------------------------------------------------------

    def requested(self, client: tuple[str, int], service: str, line: str) -> None:
        """A request's first line leaves for a service."""
        method, _, rest = line.partition(" ")
        path = rest.partition(" ")[0]
        self._asked[client] = self._begin(f"{method} {path}", service, SpanKind.SERVER, _current.get())

    def answered(self, client: tuple[str, int], line: str) -> None:
        """A response's first line leaves."""
        span = self._asked.pop(client, None)
        status = line.split(" ")[1:2]
        if span is not None and status and status[0].isdigit():
            span.attributes[_STATUS] = int(status[0])
            self._end(span, error=int(status[0]) >= _FAILURE)

    def broken(self, client: tuple[str, int], why: str) -> None:
        """A connection was lost."""
        span = self._asked.pop(client, None)
        if span is not None:
            self._end(span, error=True, message=why)

    def handling(self, handle: Handler) -> Handler:
        """A handler whose requests and messages belong to the request that it handles."""

        async def traced(exchange: Exchange) -> None:
            _current.set(self._asked.get(exchange.client))
            await handle(exchange)

        return traced

    # --- messages --------------------------------------------------------------------------------------

    @contextmanager
    def publishing(self, party: Callable[[], str]) -> Iterator[None]:
        """Observe what aio-pika publishes: its connection writes in a context that knows of no request."""
        publish = aiormq.channel.Channel.basic_publish

        def traced(channel: Any, body: bytes, **options: Any) -> Awaitable[Any]:
            key = str(options.get("routing_key", ""))
            queue = key or str(options.get("exchange", ""))
            span = self._begin(f"send {queue}", party(), SpanKind.PRODUCER, _current.get())
            self._sent[key, bytes(body)] = span

            async def confirmed() -> Any:
                try:
                    answer = await publish(channel, body, **options)
                except BaseException as error:
                    self._end(span, error=True, message=f"no confirm: {type(error).__name__}")
                    raise
                self._end(span)
                return answer

            return confirmed()

        aiormq.channel.Channel.basic_publish = traced  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            aiormq.channel.Channel.basic_publish = publish  # type: ignore[method-assign]

    def delivered(self, queue: str, consumer: str, properties: bytes, body: bytes) -> None:
        """A message leaves for a consumer."""
        parent = self._sent.get((queue, body))
        self._taken[queue, properties, body] = self._begin(
            f"receive {queue}", consumer, SpanKind.CONSUMER, parent
        )

    def settled(self, queue: str, properties: bytes, body: bytes, problem: str = "") -> None:
        """A delivered message was acknowledged, or not: then `problem` says why."""
        span = self._taken.pop((queue, properties, body), None)
        if span is not None:
            self._end(span, error=bool(problem), message=problem)

    def finish(self) -> None:
        """End what is still open when the run ends."""
        for span in (*self._asked.values(), *self._taken.values()):
            self._end(span, error=True, message="it did not end")
        self._asked.clear()
        self._taken.clear()

    # --- the traces ------------------------------------------------------------------------------------

    def telling(self) -> Trace | None:
        """The trace that says most: the one with most errors, then with most spans, the latest of these."""
        traces: dict[int, list[Span]] = {}
        for number, span in self._ended:
            traces.setdefault(number, []).append(span)
        if not traces:
            return None

        def weight(number: int) -> tuple[int, int, int]:
            found = traces[number]
            messages = sum(span.kind is SpanKind.CONSUMER for span in found)
            return max(0, messages - 1), sum(span.error for span in found), len(found)

        best = max(reversed(list(traces)), key=weight)
        spans = sorted(traces[best], key=lambda span: (span.start, span.span_id))
        return Trace(spans[0].trace_id, tuple(spans))

    def _begin(self, name: str, service: str, kind: SpanKind, parent: _Open | None) -> _Open:
        self._last += 1
        trace = self._last if parent is None else parent.trace
        number = None if parent is None else parent.number
        return _Open(trace, self._last, number, name, service, kind, self._now())

    def _end(self, span: _Open, *, error: bool = False, message: str = "") -> None:
        if len(self._ended) >= MAX_SPANS:
            return
        parent = None if span.parent is None else f"{span.parent:016x}"
        ended = Span(
            f"{span.trace:032x}",
            f"{span.number:016x}",
            parent,
            span.name,
            span.service,
            span.kind,
            span.start,
            self._now() - span.start,
            error,
            span.attributes,
            (),
            message,
        )
        self._ended.append((span.trace, ended))
