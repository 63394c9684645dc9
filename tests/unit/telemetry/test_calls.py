"""Who called whom, from the spans of traces."""

from __future__ import annotations

from collections.abc import Mapping

from msctl.model.traces import CallKind, SpanKind
from msctl.telemetry.tracing.calls import observed_calls
from msctl.telemetry.tracing.span import EndedSpan


def span(
    number: int,
    parent: int | None,
    service: str,
    kind: SpanKind,
    attributes: Mapping[str, str | int] | None = None,
    *,
    error: bool = False,
    trace: str = "t",
) -> EndedSpan:
    parent_id = None if parent is None else str(parent)
    return EndedSpan(
        trace,
        str(number),
        parent_id,
        "x",
        service,
        kind,
        float(number),
        0.1 * number,
        error,
        attributes=attributes or {},
    )


def edges(*spans: EndedSpan) -> set[tuple[str, str, CallKind, bool]]:
    found = observed_calls([list(spans)]).calls
    return {(call.caller, call.callee, call.kind, call.outside) for call in found}


def test_a_server_span_below_another_service_is_a_call_whatever_is_between() -> None:
    server, client, inner = SpanKind.SERVER, SpanKind.CLIENT, SpanKind.INTERNAL
    found = edges(
        span(1, None, "gateway", server),
        span(2, 1, "orders", server),
        span(3, 2, "orders", inner),
        span(4, 3, "orders", client, {"server.address": "localhost", "server.port": 8081}),
        span(5, 4, "users", server),
    )
    assert found == {("gateway", "orders", CallKind.HTTP, False), ("orders", "users", CallKind.HTTP, False)}


def test_a_client_span_that_nobody_answered_leads_outside() -> None:
    postgres: dict[str, str | int] = {"server.address": "db.local", "server.port": 5432}
    found = edges(
        span(1, None, "orders", SpanKind.SERVER),
        span(2, 1, "orders", SpanKind.CLIENT, postgres),
        span(3, 1, "orders", SpanKind.CLIENT, {"net.peer.name": "old.example"}),
        span(4, 1, "orders", SpanKind.CLIENT),
    )
    assert found == {
        ("orders", "db.local:5432", CallKind.HTTP, True),
        ("orders", "old.example", CallKind.HTTP, True),
    }


def test_messages_go_through_the_queue_that_old_and_new_instrumentation_names() -> None:
    by_key = {
        "messaging.destination.name": "amq.default",
        "messaging.rabbitmq.destination.routing_key": "jobs",
    }
    old = {"messaging.destination": "", "messaging.rabbitmq.routing_key": "jobs"}
    found = edges(
        span(1, None, "api", SpanKind.PRODUCER, by_key),
        span(2, 1, "worker", SpanKind.CONSUMER, old),
        span(3, 1, "audit", SpanKind.CONSUMER, {"messaging.destination.name": "events"}),
        span(4, 1, "mute", SpanKind.CONSUMER),
        span(5, 1, "pika", SpanKind.PRODUCER, {"messaging.destination": ",jobs"}),
        span(6, 1, "pika", SpanKind.PRODUCER, {"messaging.destination": "events,a.b"}),
    )
    assert found == {
        ("api", "jobs", CallKind.SEND, False),
        ("jobs", "worker", CallKind.RECEIVE, False),
        ("events", "audit", CallKind.RECEIVE, False),
        ("pika", "jobs", CallKind.SEND, False),
        ("pika", "events", CallKind.SEND, False),
    }


def test_a_message_that_is_reported_twice_is_one() -> None:
    to_jobs = {"messaging.destination.name": "jobs"}
    outer = span(1, None, "api", SpanKind.PRODUCER, to_jobs)
    (call,) = observed_calls([[outer, span(2, 1, "api", SpanKind.PRODUCER, to_jobs)]]).calls
    assert call.count == 1


def test_calls_are_counted_and_name_a_failed_trace_before_a_newer_one() -> None:
    def pair(trace: str, start: int, *, error: bool) -> list[EndedSpan]:
        caller = span(start, None, "a", SpanKind.SERVER, trace=trace)
        return [caller, span(start + 1, start, "b", SpanKind.SERVER, error=error, trace=trace)]

    found = observed_calls([pair("failed", 1, error=True), pair("newer", 5, error=False), []])
    (call,) = found.calls
    assert (call.count, call.errors, call.trace_id) == (2, 1, "failed")
    assert (found.traces, found.failed, found.since) == (2, 1, 1.0)
