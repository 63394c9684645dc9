"""Sends spans to a collector: OTLP over HTTP in its JSON form, configured as OpenTelemetry's own SDKs are.

OTEL_EXPORTER_OTLP_ENDPOINT (to which /v1/traces is added) or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT says
where, OTEL_EXPORTER_OTLP_HEADERS or OTEL_EXPORTER_OTLP_TRACES_HEADERS what to send along. A collector
that is away costs spans, never memory or requests: not many more than `MAX_WAITING` wait for it, and of
what other programs sent, `MAX_FORWARDED` bytes.

In a child of a stack, the collector is the stack (see receiver.py).
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
from msctl.model.snapshots import Span, SpanKind
from msctl.telemetry.export.backlog import Backlog
from msctl.telemetry.tracing.tracer import Ended

log = logging.getLogger("msctl.otlp")

MAX_WAITING = 4096
MAX_FORWARDED = 16 * 1024 * 1024
BATCH = 512
EVERY_S = 2.0
TIMEOUT_S = 10.0
LAST_TIMEOUT_S = 2.0
"""For what is left when the stack ends."""
LATEST_HEADER = "x-msctl-latest"
"""Among the headers to send along: only so many of the latest spans are wanted each time, besides errors
and slow ones. To a stack that keeps no more than that, a busy child would send the others in vain."""

_KINDS = {
    SpanKind.INTERNAL: 1,
    SpanKind.SERVER: 2,
    SpanKind.CLIENT: 3,
    SpanKind.PRODUCER: 4,
    SpanKind.CONSUMER: 5,
}
_ERROR = 2
_LATER = frozenset({429, 502, 503, 504})


class Exporter:
    """Takes spans in and sends them in batches, from `start` to `stop`."""

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
        self._ailing = False
        self.settle: Callable[[], None] = lambda: None
        """Called before anything is sent: lets spans in that have been put off."""

    @classmethod
    def of(cls, env: Mapping[str, str], namespace: str) -> Exporter | None:
        """As the environment says; None where it names no collector. `namespace` is the project."""
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

    def take(self, span: Ended) -> None:
        """Have a span sent; never blocks, and the oldest that wait make room."""
        self._waiting.add(span)
        if self._eager and len(self._waiting) >= BATCH:
            self._full.set()

    def forward(self, body: bytes, content_type: str) -> None:
        """Have a request of another program sent as it came; never blocks, the oldest make room."""
        self._forwarded.append((body, content_type))
        self._forwarded_size += len(body)
        while self._forwarded_size > MAX_FORWARDED:
            self._forwarded_size -= len(self._forwarded.popleft()[0])

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="otlp-exporter")

    async def stop(self) -> None:
        """Send what is left, if the collector takes it at once."""
        task, self._task = self._task, None
        if task is None:
            return
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_TIMEOUT_S):
                    async with self._sending:  # what is under way would be sent again, were it cut off
                        task.cancel()
                    self.settle()
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
                self.settle()
                while self._pending:
                    async with self._sending:
                        dealt_with = await self._send(session)
                    if not dealt_with:
                        await asyncio.sleep(EVERY_S)
                        break

    async def _send(self, session: aiohttp.ClientSession) -> bool:
        """Send one batch; whether the collector dealt with it. What it can take later stays."""
        if len(self._waiting) == 0:
            return await self._send_on(session)
        batch = self._waiting.take(BATCH)
        dealt_with = False
        try:
            body = msgspec.json.encode(document(batch, self._namespace))
            dealt_with = await self._post(session, body, "application/json")
        finally:
            if not dealt_with:
                self._waiting.put_back(batch)
        return dealt_with

    async def _send_on(self, session: aiohttp.ClientSession) -> bool:
        """Send the oldest request of another program, as `_send` does."""
        first = self._forwarded[0]
        dealt_with = await self._post(session, *first)
        # While it was under way, it may have had to make room.
        if dealt_with and self._forwarded and self._forwarded[0] is first:
            self._forwarded.popleft()
            self._forwarded_size -= len(first[0])
        return dealt_with

    async def _post(self, session: aiohttp.ClientSession, body: bytes, content_type: str) -> bool:
        try:
            async with session.post(
                self._endpoint,
                data=BytesIO(body),  # as bytes, aiohttp warns of a large one
                headers={"Content-Type": content_type, **self._headers},
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as response:
                problem = f"it answered {response.status}" if response.status >= 400 else ""
                again = response.status in _LATER
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
            problem, again = str(error) or type(error).__name__, True
        self._tell(problem)
        return not again

    def _tell(self, problem: str) -> None:
        """Once when it begins, once when it is over."""
        if problem and not self._ailing:
            log.warning("traces do not reach the collector at %s: %s", self._endpoint, problem)
        elif self._ailing and not problem:
            log.info("traces reach the collector at %s again", self._endpoint)
        self._ailing = bool(problem)


def document(spans: Iterable[Ended], namespace: str) -> dict[str, object]:
    """An ExportTraceServiceRequest in OTLP's JSON form: ids in hex, 64-bit numbers as strings."""
    by_service: dict[str, list[dict[str, object]]] = {}
    for span in spans:
        by_service.setdefault(span.service, []).append(_span(span.shown()))
    return {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": _attributes({"service.name": service, "service.namespace": namespace})
                },
                "scopeSpans": [{"scope": {"name": "msctl", "version": __version__}, "spans": found}],
            }
            for service, found in by_service.items()
        ]
    }


def _span(span: Span) -> dict[str, object]:
    shown: dict[str, object] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": _nanoseconds(span.start),
        "endTimeUnixNano": _nanoseconds(span.start + span.duration_s),
        "attributes": _attributes(span.attributes),
        "status": {"code": _ERROR} if span.error else {},
    }
    if span.parent_id:
        shown["parentSpanId"] = span.parent_id
    return shown


def _nanoseconds(epoch: float) -> str:
    """A float holds today's time to a quarter of a microsecond; what would follow is noise."""
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
