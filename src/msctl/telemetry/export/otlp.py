"""Exports spans to a collector as OTLP/HTTP in JSON, configured by OpenTelemetry's standard variables.

OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, or OTEL_EXPORTER_OTLP_ENDPOINT with /v1/traces appended, is the URL;
OTEL_EXPORTER_OTLP_TRACES_HEADERS or OTEL_EXPORTER_OTLP_HEADERS are the headers. While the collector is
unreachable, spans are dropped and requests go on: about `MAX_WAITING` spans wait for it, and `MAX_FORWARDED`
bytes of requests from other programs.

In a child of a stack, the collector is the stack (see ingest/receiver.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from io import BytesIO
from urllib.parse import unquote

import aiohttp
import msgspec

from msctl import __version__
from msctl.model.traces import Span, SpanKind
from msctl.telemetry.export.backlog import Backlog
from msctl.telemetry.tracing.span import EndedSpan

log = logging.getLogger("msctl.otlp")

MAX_WAITING = 4096
MAX_FORWARDED = 16 * 1024 * 1024
BATCH = 512
EVERY_S = 2.0
TIMEOUT_S = 10.0
LAST_TIMEOUT_S = 2.0
"""For the spans that are left when the stack stops."""
LATEST_HEADER = "x-msctl-latest"
"""A header among those configured: the number of latest spans to send each time, besides errors and slow
ones. The stack sets it for its children: it keeps no more, so that a busy child need not send all."""

_KINDS = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_ERROR = 2
_RETRYABLE = frozenset({429, 502, 503, 504})


class Exporter:
    """Collects spans and sends them in batches, from `start` to `stop`."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], namespace: str) -> None:
        latest = headers.get(LATEST_HEADER, "")
        self._eager = not (latest.isascii() and latest.isdigit())
        self._endpoint = endpoint
        self._headers = headers
        self._namespace = namespace
        self._waiting = Backlog(MAX_WAITING if self._eager else min(MAX_WAITING, int(latest)))
        self._forwarded: deque[tuple[bytes, str]] = deque()
        self._forwarded_size = 0
        self._full = asyncio.Event()
        self._sending = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self.flush: Callable[[], None] = lambda: None
        """Called before spans are sent: records what is still batched."""

    @classmethod
    def from_env(cls, env: Mapping[str, str], namespace: str) -> Exporter | None:
        """The exporter that the environment configures; None without a collector.

        `namespace` is the project's name.
        """
        endpoint = env.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        if not endpoint and (base := env.get("OTEL_EXPORTER_OTLP_ENDPOINT")):
            endpoint = base.rstrip("/") + "/v1/traces"
        switched_off = env.get("OTEL_SDK_DISABLED", "").lower() == "true"
        if not endpoint or switched_off or env.get("OTEL_TRACES_EXPORTER") == "none":
            return None
        headers = env.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or env.get("OTEL_EXPORTER_OTLP_HEADERS", "")
        pairs = (pair.partition("=") for pair in headers.split(","))
        return cls(
            endpoint,
            {name.strip(): unquote(value.strip()) for name, found, value in pairs if found},
            namespace,
        )

    def add(self, span: EndedSpan) -> None:
        """Queue a span; never blocks. The oldest are dropped when the queue is full."""
        self._waiting.add(span)
        if self._eager and len(self._waiting) >= BATCH:
            self._full.set()

    def forward(self, body: bytes, content_type: str) -> None:
        """Queue another program's request unchanged; never blocks, and drops the oldest when full."""
        self._forwarded.append((body, content_type))
        self._forwarded_size += len(body)
        while self._forwarded_size > MAX_FORWARDED:
            self._forwarded_size -= len(self._forwarded.popleft()[0])

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="otlp-exporter")

    async def stop(self) -> None:
        """Send what is left, if the collector answers within `LAST_TIMEOUT_S`."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_TIMEOUT_S):
                    async with self._sending:  # a cancelled request would be sent twice
                        task.cancel()
                    self.flush()
                    async with aiohttp.ClientSession() as session:
                        while self._pending and await self._send(session):
                            pass
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def _pending(self) -> bool:
        return len(self._waiting) > 0 or bool(self._forwarded)

    async def _run(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY_S):
                        await self._full.wait()
                self._full.clear()
                self.flush()
                while self._pending:
                    async with self._sending:
                        accepted = await self._send(session)
                    if not accepted:
                        await asyncio.sleep(EVERY_S)
                        break

    async def _send(self, session: aiohttp.ClientSession) -> bool:
        """Send one batch. Returns False if the collector may accept it later: the batch stays queued."""
        if len(self._waiting) == 0:
            return await self._send_forwarded(session)
        batch = self._waiting.take(BATCH)
        accepted = False
        try:
            body = msgspec.json.encode(document(batch, self._namespace))
            accepted = await self._post(session, body, "application/json")
        finally:
            if not accepted:
                self._waiting.put_back(batch)
        return accepted

    async def _send_forwarded(self, session: aiohttp.ClientSession) -> bool:
        """Send the oldest request of another program; returns as `_send` does."""
        first = self._forwarded[0]
        accepted = await self._post(session, *first)
        # `forward` may have dropped it while it was being sent.
        if accepted and self._forwarded and self._forwarded[0] is first:
            self._forwarded.popleft()
            self._forwarded_size -= len(first[0])
        return accepted

    async def _post(self, session: aiohttp.ClientSession, body: bytes, content_type: str) -> bool:
        try:
            async with session.post(
                self._endpoint,
                data=BytesIO(body),  # aiohttp warns about large bodies passed as bytes
                headers={"Content-Type": content_type, **self._headers},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as response:
                problem = f"status {response.status}" if response.status >= 400 else ""
                retry = response.status in _RETRYABLE
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            problem, retry = str(error) or type(error).__name__, True
        self._log_change(problem)
        return not retry

    def _log_change(self, problem: str) -> None:
        """Log once when exporting starts to fail and once when it works again."""
        if problem and not self._failing:
            log.warning("cannot export traces to the collector at %s: %s", self._endpoint, problem)
        elif self._failing and not problem:
            log.info("exporting traces to the collector at %s again", self._endpoint)
        self._failing = bool(problem)


def document(spans: Iterable[EndedSpan], namespace: str) -> dict[str, object]:
    """An OTLP ExportTraceServiceRequest in JSON: ids in hex, 64-bit numbers as strings."""
    by_instance: dict[tuple[str, str], list[dict[str, object]]] = {}
    for ended in spans:
        span = ended.to_span()
        attributes = dict(span.attributes)
        instance = str(attributes.pop("service.instance.id", ""))
        by_instance.setdefault((span.service, instance), []).append(_span(span, attributes))
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(_resource(service, namespace, instance))},
                "scopeSpans": [{"scope": {"name": "msctl", "version": __version__}, "spans": found}],
            }
            for (service, instance), found in by_instance.items()
        ]
    }


def _resource(service: str, namespace: str, instance: str) -> dict[str, str]:
    found = {"service.name": service, "service.namespace": namespace}
    return found | {"service.instance.id": instance} if instance else found


def _span(span: Span, attributes: Mapping[str, str | int | float | bool]) -> dict[str, object]:
    document: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(span.start + span.duration_s),
        "attributes": _attributes(attributes),
        "status": {"code": _ERROR, "message": span.message} if span.error else {},
    }
    if span.events:
        document["events"] = [
            {
                "timeUnixNano": _nanoseconds(event.time),
                "name": event.name,
                "attributes": _attributes(event.attributes),
            }
            for event in span.events
        ]
    if span.parent_id:
        document["parentSpanId"] = span.parent_id
    return document


def _nanoseconds(epoch: float) -> str:
    """Rounded to microseconds: a float has no more precision for today's time."""
    return str(round(epoch * 1e6) * 1000)


def _attributes(values: Mapping[str, str | int | float | bool]) -> list[dict[str, object]]:
    return [{"key": name, "value": _value(value)} for name, value in values.items()]


def _value(value: str | int | float | bool) -> dict[str, object]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case str():
            return {"stringValue": value}
