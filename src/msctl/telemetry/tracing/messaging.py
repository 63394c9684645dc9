"""Observes the messages that this process publishes and consumes: metrics and spans.

The `traceparent` header carries the trace (W3C Trace Context for AMQP). Independent of AMQP: headers are
a mapping, a queue is a name. Spans are named and described by OpenTelemetry's conventions for RabbitMQ.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msctl.model.traces import SpanKind
from msctl.model.views import NO_FACTS, MessageFacts
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.trace_context import (
    TraceContext,
    begin,
    current_trace,
    exception_event,
    exception_type,
)
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import Tracer

HEADER = "traceparent"
PUBLISH, PROCESS = "publish", "process"


class MessageObserver:
    """Observes the messages of one service. Implements model.MessagingObserver."""

    def __init__(self, service: str, metrics: Metrics, tracer: Tracer) -> None:
        self._service = service
        self._metrics = metrics
        self._tracer = tracer

    @contextmanager
    def publishing(self, destination: str, message: MessageFacts = NO_FACTS) -> Iterator[Mapping[str, str]]:
        """Wrap one publish; yields the headers that carry the trace to the consumer."""
        caller = current_trace.get()
        context = begin([]) if caller is None else caller.callee()
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            yield {HEADER: context.traceparent}
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.perf_counter() - began
            self._metrics.message_sent(
                self._service, destination, "" if error is None else exception_type(error)
            )
            self._record(context, PUBLISH, destination, message, error, seconds)

    @contextmanager
    def processing(
        self,
        destination: str,
        headers: Mapping[str, object] | None,
        message: MessageFacts = NO_FACTS,
    ) -> Iterator[None]:
        """Wrap the processing of one message; log lines inside carry its trace."""
        given = (headers or {}).get(HEADER)
        if isinstance(given, bytes):
            given = given.decode("ascii", "replace")
        context = begin([given] if isinstance(given, str) else [])
        token = current_trace.set(context)
        began = time.perf_counter()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = time.perf_counter() - began
            kind = "" if error is None else exception_type(error)
            self._metrics.message_processed(self._service, destination, kind, seconds)
            self._record(context, PROCESS, destination, message, error, seconds)
            current_trace.reset(token)

    def _record(
        self,
        context: TraceContext,
        operation: str,
        destination: str,
        message: MessageFacts,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        publishes = operation is PUBLISH
        attributes: dict[str, str | int | float | bool] = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": operation,
            "messaging.operation.type": "send" if publishes else "process",
            "messaging.destination.name": destination,
            **message.attributes(),
        }
        if error is not None:
            attributes["error.type"] = exception_type(error)
        self._tracer.record(
            EndedSpan(
                context.trace_id,
                context.span_id,
                context.parent_id,
                f"{operation} {destination}",
                self._service,
                SpanKind.PRODUCER if publishes else SpanKind.CONSUMER,
                time.time() - seconds,
                seconds,
                error is not None,
                attributes=attributes,
                events=() if error is None else (exception_event(error),),
            )
        )
