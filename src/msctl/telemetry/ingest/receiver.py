"""Takes the spans of the stack's children in: OTLP over HTTP, on a loopback port of its own.

A child finds the address and a token in its environment, under OpenTelemetry's own names. Without the
token nobody posts spans here, neither a web page nor another user of the machine; and with it a child
speaks for itself only.
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
from msctl.telemetry.ingest.otlp import MAX_SPANS, Incoming, MalformedSpansError, Origin, ended, from_json
from msctl.telemetry.ingest.protobuf import from_protobuf
from msctl.telemetry.tracing.tracer import Ended

log = logging.getLogger("msctl.otlp")

HOST = "127.0.0.1"
PATH = "/v1/traces"
HEADER = "x-msctl-token"
MAX_BODY = 4 * 1024 * 1024
MAX_AT_ONCE = 8
"""Requests whose bodies are read or taken apart at a time."""
BODY_TIMEOUT_S = 10.0
LATEST = 512
"""Spans that a child of ours under load sends every two seconds, where no collector wants them all."""
STEP = 32
"""Spans that are taken apart before the loop is given to others: about a millisecond's work."""

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
_FORMS: Mapping[str, Callable[[bytes], Iterator[Incoming]]] = {JSON: from_json, PROTOBUF: from_protobuf}
_TAKEN = {JSON: b"{}", PROTOBUF: b""}
"""An ExportTraceServiceResponse with nothing to complain of."""
_GZIP = 31
"""zlib's window bits for gzip's format."""

Forward = Callable[[bytes, str], None]
"""Sends a body of this content type on to the user's collector."""


class Receiver:
    """Listens from `start` to `stop`; before that, children are told nothing."""

    def __init__(
        self, namespace: str, keep: Callable[[Sequence[Ended]], None], forward: Forward | None
    ) -> None:
        """`namespace` is the project. Both callables are called in the loop, and must not block."""
        self._namespace = namespace
        self._keep = keep
        self._forward = forward
        self._url: str | None = None
        self._tokens: dict[Origin, str] = {}
        self._origins: dict[str, Origin] = {}
        self._busy = 0
        self._refused: set[str] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port; does nothing where it does so already. Raises OSError."""
        if self._runner is not None:
            return
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post(PATH, self._take)
        # aiohttp logs a traceback for each body that does not decompress, so that is done here.
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
        """What tells a child of this service where its spans go; nothing where that is not for us to say."""
        if self._url is None or _own_way(spec.env) or _by_grpc(inherited):
            return {}
        headers = f"{HEADER}={self._token(Origin(spec.name, instance))}"
        if self._forward is None:
            headers += f",{LATEST_HEADER}={LATEST}"
        found = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": self._url,
            # Programs that speak JSON only do so whatever this says, and many SDKs refuse to be told to.
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": headers,
            "OTEL_SERVICE_NAME": spec.name,
        }
        if "OTEL_RESOURCE_ATTRIBUTES" not in inherited:
            found["OTEL_RESOURCE_ATTRIBUTES"] = (
                f"service.namespace={quote(self._namespace)},service.instance.id={quote(instance)}"
            )
        return found

    def _token(self, origin: Origin) -> str:
        if origin not in self._tokens:
            token = self._tokens[origin] = secrets.token_urlsafe(24)
            self._origins[token] = origin
        return self._tokens[origin]

    async def _take(self, request: web.Request) -> web.Response:
        origin = self._origins.get(request.headers.get(HEADER, ""))
        if origin is None:
            return _refusal(401, f"only the stack's own services send spans here, with their {HEADER}")
        form = request.content_type
        if form not in _FORMS:
            return self._refuse(origin, 415, f"spans are taken as {JSON} or {PROTOBUF}, not as {form}")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            return self._refuse(origin, 415, f"spans are taken as they are or with gzip, not with {encoding}")
        if self._busy >= MAX_AT_ONCE:
            return _refusal(503, f"{MAX_AT_ONCE} requests are being taken already; try again")
        self._busy += 1
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
            if encoding == "gzip":
                body = _decompressed(body)
            spans = await _read(body, form, origin)
        except MalformedSpansError as error:
            return self._refuse(origin, 400, str(error))
        except web.RequestPayloadError:
            return self._refuse(origin, 400, "the body's framing is broken")
        except (web.HTTPRequestEntityTooLarge, _TooLargeError):
            return self._refuse(origin, 413, f"a request of more than {MAX_BODY} bytes; send smaller batches")
        except TimeoutError:
            return self._refuse(origin, 408, f"the body did not come within {BODY_TIMEOUT_S:g} s")
        finally:
            self._busy -= 1
        self._keep(spans)
        if self._forward is not None:
            self._forward(body, form)
        return web.Response(body=_TAKEN[form], content_type=form)

    def _refuse(self, origin: Origin, status: int, why: str) -> web.Response:
        """Its sender may not say so to anybody; so it is said here, once for each service."""
        if origin.service not in self._refused:
            self._refused.add(origin.service)
            log.warning("spans of %s were refused (%d): %s", origin.instance, status, why)
        return _refusal(status, why)


def _own_way(env: Mapping[str, str]) -> bool:
    """Whether a service's own `env` says what becomes of its spans."""
    others = ("OTEL_EXPORTER_OTLP_METRICS_", "OTEL_EXPORTER_OTLP_LOGS_")
    return any(
        name in ("OTEL_TRACES_EXPORTER", "OTEL_SDK_DISABLED")
        or (name.startswith("OTEL_EXPORTER_OTLP_") and not name.startswith(others))
        for name in env
    )


def _by_grpc(env: Mapping[str, str]) -> bool:
    """Whether a collector is named that speaks gRPC: nothing could be sent on to it from here."""
    named = any(env.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_"))
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return named and protocol == "grpc"


async def _read(body: bytes, form: str, origin: Origin) -> list[Ended]:
    """All of its spans, or MalformedSpansError; others get their turn meanwhile."""
    found: list[Ended] = []
    for span in _FORMS[form](body):
        found.append(ended(span, origin))
        if len(found) > MAX_SPANS:
            raise MalformedSpansError(f"a request of more than {MAX_SPANS} spans; send smaller batches")
        if len(found) % STEP == 0:
            await asyncio.sleep(0)
    return found


class _TooLargeError(Exception):
    """A body that decompresses to more than is taken."""


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
        raise MalformedSpansError("the body is not gzip: it is cut off")
    return found


def _refusal(status: int, why: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"message": why}), content_type=JSON)
