"""Receives the spans of the stack's children: OTLP/HTTP on a loopback port.

Children get the URL and a token per instance in OpenTelemetry's standard variables. Requests without a token
are refused: a web page or another user of the machine cannot post spans. Spans belong to the instance of the
token, whatever they say.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import quote

import msgspec
from aiohttp import web

from msctl.model.project import ServiceSpec
from msctl.telemetry.export.otlp import LATEST_HEADER
from msctl.telemetry.ingest.otlp import (
    MAX_SPANS,
    IncomingSpan,
    MalformedSpansError,
    Sender,
    ended_span,
    from_json,
)
from msctl.telemetry.ingest.protobuf import from_protobuf
from msctl.telemetry.tracing.tracer import EndedSpan

log = logging.getLogger("msctl.otlp")

HOST = "127.0.0.1"
PATH = "/v1/traces"
HEADER = "x-msctl-token"
MAX_BODY = 4 * 1024 * 1024
MAX_AT_ONCE = 8
"""Requests that are read or decoded at a time."""
BODY_TIMEOUT_S = 10.0
LATEST = 512
"""Spans that a busy child sends every two seconds when no collector is configured."""
SPANS_PER_STEP = 32
"""Spans decoded before other tasks run: about a millisecond of work."""

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
_DECODERS: Mapping[str, Callable[[bytes], Iterator[IncomingSpan]]] = {
    JSON: from_json,
    PROTOBUF: from_protobuf,
}
_ACCEPTED = {JSON: b"{}", PROTOBUF: b""}
"""The empty ExportTraceServiceResponse: all spans accepted."""
_GZIP = 31
"""zlib's window bits for the gzip format."""

Forward = Callable[[bytes, str], None]
"""Sends a body and its content type to the user's collector."""


class Receiver:
    """Listens from `start` to `stop`; children started before get no endpoint."""

    def __init__(
        self, namespace: str, keep: Callable[[Sequence[EndedSpan]], None], forward: Forward | None
    ) -> None:
        """`namespace` is the project's name. `keep` and `forward` run in the loop and must not block."""
        self._namespace = namespace
        self._keep = keep
        self._forward = forward
        self._url: str | None = None
        self._tokens: dict[Sender, str] = {}
        self._senders: dict[str, Sender] = {}
        self._busy = 0
        self._refused: set[str] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port; does nothing if it already listens. Raises OSError."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post(PATH, self._receive)
        # aiohttp logs a traceback for each body that does not decompress; `_decompressed` does not.
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, auto_decompress=False)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner
        self._url = f"http://{HOST}:{runner.addresses[0][1]}{PATH}"

    async def stop(self) -> None:
        runner, self._runner, self._url = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    def environment(
        self, spec: ServiceSpec, instance: str, inherited: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The variables that direct a child's spans here; empty if its configuration directs them."""
        if self._url is None or _configures_export(spec.env) or _exports_by_grpc(inherited):
            return {}
        headers = f"{HEADER}={self._token(Sender(spec.name, instance))}"
        if self._forward is None:
            headers += f",{LATEST_HEADER}={LATEST}"
        found = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": self._url,
            # Many SDKs reject http/json; those that only support JSON ignore this variable.
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": headers,
            "OTEL_SERVICE_NAME": spec.name,
        }
        if "OTEL_RESOURCE_ATTRIBUTES" not in inherited:
            found["OTEL_RESOURCE_ATTRIBUTES"] = (
                f"service.namespace={quote(self._namespace)},service.instance.id={quote(instance)}"
            )
        return found

    def _token(self, sender: Sender) -> str:
        if sender not in self._tokens:
            token = self._tokens[sender] = secrets.token_urlsafe(24)
            self._senders[token] = sender
        return self._tokens[sender]

    async def _receive(self, request: web.Request) -> web.Response:
        sender = self._senders.get(request.headers.get(HEADER, ""))
        if sender is None:
            return _error(401, f"the header {HEADER} has no valid token")
        content_type = request.content_type
        if content_type not in _DECODERS:
            return self._refuse(sender, 415, f"expected {JSON} or {PROTOBUF}, not {content_type}")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            return self._refuse(sender, 415, f"expected no content encoding or gzip, not {encoding}")
        if self._busy >= MAX_AT_ONCE:
            return _error(503, f"{MAX_AT_ONCE} requests are being processed; try again")
        self._busy += 1
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
            if encoding == "gzip":
                body = _decompressed(body)
            spans = await _decode(body, content_type, sender)
        except MalformedSpansError as error:
            return self._refuse(sender, 400, str(error))
        except web.RequestPayloadError:
            return self._refuse(sender, 400, "the framing of the body is invalid")
        except (web.HTTPRequestEntityTooLarge, _TooLargeError):
            return self._refuse(sender, 413, f"the body has more than {MAX_BODY} bytes; send smaller batches")
        except TimeoutError:
            return self._refuse(sender, 408, f"the body was not complete within {BODY_TIMEOUT_S:g} s")
        finally:
            self._busy -= 1
        self._keep(spans)
        if self._forward is not None:
            self._forward(body, content_type)
        return web.Response(body=_ACCEPTED[content_type], content_type=content_type)

    def _refuse(self, sender: Sender, status: int, reason: str) -> web.Response:
        """Refuse a request, and log it once per service: many SDKs do not show the response."""
        if sender.service not in self._refused:
            self._refused.add(sender.service)
            log.warning("refused spans of %s (%d): %s", sender.instance, status, reason)
        return _error(status, reason)


def _configures_export(env: Mapping[str, str]) -> bool:
    """Whether a service's own `env` configures the export of traces."""
    others = ("OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_LOGS_")
    return any(
        name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED")
        or (name.startswith("OTEL_EXPORTER_OTLP_") and not name.startswith(others))
        for name in env
    )


def _exports_by_grpc(env: Mapping[str, str]) -> bool:
    """Whether the configured collector speaks gRPC: spans cannot be forwarded to it."""
    named = any(env.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_"))
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return named and protocol == "grpc"


async def _decode(body: bytes, content_type: str, sender: Sender) -> list[EndedSpan]:
    """Decode all spans, yielding to other tasks. Raises MalformedSpansError."""
    found: list[EndedSpan] = []
    for span in _DECODERS[content_type](body):
        found.append(ended_span(span, sender))
        if len(found) > MAX_SPANS:
            raise MalformedSpansError(f"the request has more than {MAX_SPANS} spans; send smaller batches")
        if len(found) % SPANS_PER_STEP == 0:
            await asyncio.sleep(0)
    return found


class _TooLargeError(Exception):
    """The body decompresses to more than `MAX_BODY` bytes."""


def _decompressed(body: bytes) -> bytes:
    """Raises MalformedSpansError and _TooLargeError."""
    inflate = zlib.decompressobj(wbits=_GZIP)
    try:
        found = inflate.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise MalformedSpansError(f"the body is not gzip: {error}") from error
    if len(found) > MAX_BODY:
        raise _TooLargeError
    if not inflate.eof:
        raise MalformedSpansError("the body is not gzip: it is truncated")
    return found


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"message": message}), content_type=JSON)
