"""The latest traces are kept within limits; errors and slow traces are kept longest."""

from __future__ import annotations

import pytest

from msctl.errors import UsageError
from msctl.model.traces import SpanEvent, SpanKind, TraceQuery
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import MAX_SPANS, Tracer


def span(
    trace: int,
    *,
    span_id: str = "a",
    parent: str | None = None,
    service: str = "users",
    start: float = 0.0,
    seconds: float = 0.001,
    error: bool = False,
    name: str = "GET /users",
) -> EndedSpan:
    return EndedSpan(
        f"{trace:032x}",
        span_id,
        parent,
        name,
        service,
        SpanKind.SERVER,
        start,
        seconds,
        error,
        500 if error else 200,
    )


async def ids(tracer: Tracer, query: TraceQuery | None = None) -> list[int]:
    return [int(t.trace_id, 16) for t in await tracer.traces(query or TraceQuery(limit=10_000))]


async def test_traces_are_listed_newest_first_and_the_oldest_are_dropped() -> None:
    tracer = Tracer(capacity=5, notable=2)
    for number in range(10):
        tracer.record(span(number, start=number))
    assert await ids(tracer) == [9, 8, 7]
    assert await ids(tracer, TraceQuery(limit=2)) == [9, 8]


async def test_errors_and_slow_traces_outlive_others() -> None:
    tracer = Tracer(capacity=5, notable=2, slow_s=0.5)
    tracer.record(span(100, start=0, error=True))
    tracer.record(span(101, start=1, seconds=0.7))
    for number in range(1_000):
        tracer.record(span(number, start=10 + number))
        if number == 50:
            assert await ids(tracer) == [50, 49, 48, 101, 100]
    assert await ids(tracer, TraceQuery(errors=True)) == [100]


async def test_notable_traces_are_bounded() -> None:
    tracer = Tracer(capacity=5, notable=2)
    for number in range(1_000):
        tracer.record(span(number, start=number, error=True))
    assert await ids(tracer) == [999, 998, 997, 996, 995]


async def test_spans_of_one_trace_are_bounded_and_counted() -> None:
    tracer = Tracer()
    for number in range(MAX_SPANS + 7):
        tracer.record(span(1, span_id=str(number), start=number))
    trace = await tracer.trace(f"{1:032x}")
    assert (len(trace.spans), trace.dropped) == (MAX_SPANS, 7)
    assert (await tracer.traces(TraceQuery()))[0].spans == MAX_SPANS + 7


async def test_of_a_long_trace_the_root_errors_names_and_the_slowest_are_kept() -> None:
    tracer = Tracer()
    for number in range(10 * MAX_SPANS):
        tracer.record(span(1, span_id=f"c{number}", parent="a", name="SELECT", start=number))
    tracer.record(span(1, span_id="slow", parent="a", name="SELECT", start=1, seconds=9.0))
    tracer.record(span(1, span_id="failed", parent="a", name="SELECT", start=1, error=True))
    tracer.record(span(1, span_id="other", parent="a", name="render", start=1))
    for number in range(10 * MAX_SPANS):
        tracer.record(span(1, span_id=f"d{number}", parent="a", name="SELECT", start=number))
    tracer.record(span(1, span_id="a", name="GET /report", start=0))
    trace = await tracer.trace(f"{1:032x}")
    assert {"a", "c0", "slow", "failed", "other"} <= {kept.span_id for kept in trace.spans}
    assert len(trace.spans) + trace.dropped == 20 * MAX_SPANS + 4
    assert (await tracer.traces(TraceQuery()))[0].name == "GET /report"


async def test_a_trace_has_the_name_of_its_root_and_ends_with_its_last_span() -> None:
    tracer = Tracer()
    tracer.record(span(1, span_id="c", parent="b", service="users", start=10.2, seconds=1.0, error=True))
    tracer.record(span(1, span_id="a", service="gateway", name="GET /u", start=10.0, seconds=0.5))
    tracer.record(span(1, span_id="b", parent="a", service="gateway", start=10.1, seconds=0.2))
    (found,) = await tracer.traces(TraceQuery())
    assert (found.name, found.services, found.spans) == ("GET /u", ("gateway", "users"), 3)
    assert (found.start, found.error, found.status) == (10.0, True, 200)
    assert found.duration_s == pytest.approx(1.2)
    assert [s.span_id for s in (await tracer.trace(found.trace_id)).spans] == ["a", "b", "c"]


async def test_traces_are_found_by_service_error_and_duration() -> None:
    tracer = Tracer()
    tracer.record(span(1, service="users", start=1))
    tracer.record(span(2, service="orders", start=2, seconds=0.2))
    tracer.record(span(3, service="orders", start=3, error=True))
    assert await ids(tracer, TraceQuery(services=("orders",))) == [3, 2]
    assert await ids(tracer, TraceQuery(errors=True)) == [3]
    assert await ids(tracer, TraceQuery(min_duration_s=0.1)) == [2]


async def test_a_unique_prefix_of_an_id_is_enough() -> None:
    tracer = Tracer()
    for trace_id in ("aa" * 16, "ab" * 16):
        tracer.record(span(0)._replace(trace_id=trace_id))
    assert (await tracer.trace("ab")).trace_id == "ab" * 16
    with pytest.raises(UsageError, match=r"2 traces .* 'a'"):
        await tracer.trace("a")
    for unknown in ("ff", ""):
        with pytest.raises(UsageError, match="not found"):
            await tracer.trace(unknown)


async def test_every_span_is_exported() -> None:
    seen: list[EndedSpan] = []
    tracer = Tracer(capacity=2, notable=1, export=seen.append)
    for number in range(5):
        tracer.record(span(number))
    assert len(seen) == 5


async def test_adopted_spans_join_their_trace_and_are_not_exported() -> None:
    seen: list[EndedSpan] = []
    tracer = Tracer(export=seen.append)
    tracer.flush = lambda: tracer.record(span(1, span_id="a", start=1))
    child = span(1, span_id="b", parent="a", start=2, service="apart")
    tracer.adopt([child, child])
    tracer.flush = lambda: None
    tracer.adopt([child])
    assert [s.span_id for s in (await tracer.trace(f"{1:032x}")).spans] == ["a", "b"]
    assert [s.span_id for s in seen] == ["a"]


async def test_late_spans_evict_nothing_unless_notable() -> None:
    tracer = Tracer(capacity=5, notable=2, slow_s=0.5)
    for number in range(10, 20):
        tracer.record(span(number, start=number))
    tracer.adopt([span(1, start=11), span(2, start=18, span_id="new")])
    assert await ids(tracer) == [19, 18, 2]
    tracer.adopt([span(3, start=11, seconds=0.6)])
    assert await ids(tracer) == [19, 2, 3]


async def test_adopted_spans_are_bounded() -> None:
    tracer = Tracer(capacity=5, notable=2)
    tracer.adopt(span(1, span_id=str(number)) for number in range(MAX_SPANS + 7))
    assert len((await tracer.trace(f"{1:032x}")).spans) == MAX_SPANS
    tracer.adopt(span(number, start=number, error=True) for number in range(1_000))
    assert len(await ids(tracer)) == 5


async def test_traces_are_found_by_text_attribute_and_status() -> None:
    tracer = Tracer()
    raised = SpanEvent("exception", 1.0, {"exception.message": "No Money"})
    failed = span(2, name="POST /pay", start=2, error=True)._replace(
        attributes={"user.id": 7}, events=(raised,), status=502
    )
    tracer.record(span(1, name="GET /users", start=1)._replace(status=200))
    tracer.record(failed)

    async def found(**query: str) -> list[int]:
        return [int(one.trace_id, 16) for one in await tracer.traces(TraceQuery(**query))]  # type: ignore[arg-type]

    assert await found(text="no money") == [2]
    assert await found(text="/USERS") == [1]
    assert await found(text="user.id=7") == [2]
    assert await found(text="user.id=77") == []
    assert await found(text="a=b=c") == []
    assert await found(status="5xx") == await found(status="502") == [2]
    assert await found(status="2XX") == [1]
    with pytest.raises(UsageError, match="status"):
        await found(status="6xx")
