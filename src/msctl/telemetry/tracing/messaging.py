"""Observes the messages that this process publishes and consumes: metrics and spans.

The `traceparent` header carries the trace (W3C Trace Context for AMQP). Independent of AMQP: headers are
a mapping, a queue is a name.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msctl.model.traces import SpanKind
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import TraceContext, begin, current_trace
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import Tracer

HEADER = "traceparent"


class MessageObserver:
    """Observes the messages of one service. Implements model.MessagingObserver."""

    def __init__(self, service: str, metrics: Metrics, tracer: Tracer) -> None:
        self._service = service
        self._metrics = metrics
        self._tracer = tracer

    @contextmanager
    def publishing(self, destination: str) -> Iterator[Mapping[str, str]]:
        """Wrap one publish; yields the headers that carry the trace to the consumer."""
        caller = current_trace.get()
        context = begin([]) if caller is None else caller.callee()
        began = time.perf_counter()
        error = ""
        try:
            yield {HEADER: context.traceparent}
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.message_sent(self._service, destination, error)
            self._record(context, f"send {destination}", SpanKind.PRODUCER, destination, error, seconds)

    @contextmanager
    def processing(self, destination: str, headers: Mapping[str, object] | None) -> Iterator[None]:
        """Wrap the processing of one message; log lines inside carry its trace."""
        given = (headers or {}).get(HEADER)
        if isinstance(given, bytes):
            given = given.decode("ascii", "replace")
        context = begin([given] if isinstance(given, str) else [])
        token = current_trace.set(context)
        began = time.perf_counter()
        error = ""
        try:
            yield
        except BaseException as raised:
            error = type(raised).__name__
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.message_processed(self._service, destination, error, seconds)
            self._record(context, f"process {destination}", SpanKind.CONSUMER, destination, error, seconds)
            current_trace.reset(token)

    def _record(
        self,
        context: TraceContext,
        name: str,
        kind: SpanKind,
        destination: str,
        error: str,
        seconds: float,
    ) -> None:
        attributes: dict[str, str | int | float | bool] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "publish" if kind is SpanKind.PRODUCER else "process",
            "messaging.operation.type": "send" if kind is SpanKind.PRODUCER else "process",
            "messaging.destination.name": destination,
        }
        if error:
            attributes["error.type"] = error
        self._tracer.record(
            EndedSpan(
                context.trace_id,
                context.span_id,
                context.parent_id,
                name,
                self._service,
                kind,
                time.time() - seconds,
                seconds,
                bool(error),
                attributes=attributes,
            )
        )
