"""Who called whom, from the spans of traces. Pure.

A call over HTTP is a server span below a span of another service. Where the callee reports nothing, the
caller's client span stands for it, with the address that it has. A producer's span is a message sent to a
queue (or to an exchange that has no default routing), a consumer's span one taken from a queue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msctl.model.traces import Call, CallKind, ObservedCalls, SpanKind
from msctl.telemetry.tracing.span import EndedSpan, SpanGroup

MOST_CALLS = 2000
_DESTINATION = ("messaging.destination.name", "messaging.destination")
_ROUTING_KEY = ("messaging.rabbitmq.destination.routing_key", "messaging.rabbitmq.routing_key")
"""The present name of an attribute, and the one that older instrumentation uses."""
_DEFAULT_EXCHANGE = ("", "amq.default", "default")
_MESSAGES = (SpanKind.PRODUCER, SpanKind.CONSUMER)
_Key = tuple[str, str, CallKind, bool]


@dataclass(slots=True)
class _Tally:
    durations: list[float] = field(default_factory=list)
    errors: int = 0
    newest: tuple[bool, float, str] = (False, 0.0, "")
    """Whether it failed, its start, and its trace."""


def observed_calls(traces: Iterable[Sequence[SpanGroup]]) -> ObservedCalls:
    """Count the calls in these traces."""
    tallies: dict[_Key, _Tally] = {}
    since: float | None = None
    number = failed = 0
    for groups in traces:
        spans = [span for group in groups for span in group.spans()]
        if not spans:
            continue
        number += 1
        failed += any(span.error for span in spans)
        begin = min(span.start for span in spans)
        since = begin if since is None else min(since, begin)
        for key, span in _calls_of(spans):
            if key not in tallies and len(tallies) >= MOST_CALLS:
                continue
            tally = tallies.setdefault(key, _Tally())
            tally.durations.append(span.duration_s)
            tally.errors += span.error
            tally.newest = max(tally.newest, (span.error, span.start, span.trace_id))
    return ObservedCalls(tuple(_call(key, tally) for key, tally in tallies.items()), number, failed, since)


def _calls_of(spans: Sequence[EndedSpan]) -> Iterable[tuple[_Key, EndedSpan]]:
    by_id = {span.span_id: span for span in spans}
    answered = {span.parent_id for span in spans if span.kind is SpanKind.SERVER}
    for span in spans:
        if span.kind is SpanKind.SERVER:
            parent = by_id.get(span.parent_id or "")
            if parent is not None and parent.service != span.service:
                yield (parent.service, span.service, CallKind.HTTP, False), span
        elif span.kind is SpanKind.CLIENT:
            callee = _address(span)
            if callee and span.span_id not in answered:
                yield (span.service, callee, CallKind.HTTP, True), span
        elif span.kind in _MESSAGES and (name := _destination(span)):
            parent = by_id.get(span.parent_id or "")
            if parent is not None and (parent.kind, parent.service) == (span.kind, span.service):
                continue  # some libraries report a message twice, one span within the other
            if span.kind is SpanKind.PRODUCER:
                yield (span.service, name, CallKind.SEND, False), span
            else:
                yield (name, span.service, CallKind.RECEIVE, False), span


def _destination(span: EndedSpan) -> str:
    """The queue or exchange of a message; the default exchange's messages go to the queue of their key.

    aio-pika's instrumentation writes both as one, "exchange,key".
    """
    name = _first(span, _DESTINATION)
    if "," in name:
        exchange, _, key = name.partition(",")
        name = exchange or key
    return _first(span, _ROUTING_KEY) if name in _DEFAULT_EXCHANGE else name


def _first(span: EndedSpan, names: Iterable[str]) -> str:
    return next((str(found) for name in names if (found := span.attributes.get(name))), "")


def _address(span: EndedSpan) -> str:
    """Where a client's request went: an instance of the stack, or a host with its port."""
    if span.instance:
        return span.instance
    host, port = (
        _first(span, ("server.address", "net.peer.name")),
        _first(span, ("server.port", "net.peer.port")),
    )
    return f"{host}:{port}" if host and port else host


def _call(key: _Key, tally: _Tally) -> Call:
    caller, callee, kind, outside = key
    ordered = sorted(tally.durations)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return Call(caller, callee, kind, len(ordered), tally.errors, p95, tally.newest[2], outside)
