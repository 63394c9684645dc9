"""Receives what the stack's children report: OTLP/HTTP on a loopback port, traces, logs and metrics.

Children get the URL and a token per instance in OpenTelemetry's standard variables. Requests without a token
are refused: a web page or another user of the machine cannot post. What is sent belongs to the instance of
the token, whatever it says.

A second listener, on OpenTelemetry's own port, takes what other programs of this machine send: no token, but
nothing from web pages either. They say themselves who they are.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from msctl.forks import close_socket_in_forks
from msctl.model.address import host_name
from msctl.model.service_spec import ServiceSpec
from msctl.telemetry.export.otlp import LATEST_HEADER
from msctl.telemetry.ingest import logs as log_signal
from msctl.telemetry.ingest import metrics as metric_signal
from msctl.telemetry.ingest import otlp, protobuf
from msctl.telemetry.ingest.logs import LogRecord, log_record
from msctl.telemetry.ingest.metrics import points_of
from msctl.telemetry.ingest.otlp import MalformedError, Sender, ended_span
from msctl.telemetry.metrics.point import Point
from msctl.telemetry.tracing.span import OTHER, EndedSpan

log = logging.getLogger("msctl.otlp")

HOST = "127.0.0.1"
_LOCAL_HOSTS = frozenset({HOST, "localhost"})
HEADER = "x-msctl-token"
MAX_BODY = 4 * 1024 * 1024
MAX_EXTERNAL = 100
"""Services that the stack did not start; what others send is kept under the name `_OTHER`."""
MAX_AT_ONCE = 8
"""Requests that are read or decoded at a time."""
MAX_WAITING = 256
"""Requests that wait for their turn, unread: programs that export at the same moment are not refused."""
BODY_TIMEOUT_S = 10.0
LATEST = 512
"""Spans that a busy child sends every two seconds when no collector is configured."""
STEP_S = 0.001
"""How long spans, records or points are decoded before other tasks run."""

JSON = "application/json"
PROTOBUF = "application/x-protobuf"
_ACCEPTED = {JSON: b"{}", PROTOBUF: b""}
"""The empty response of each signal: everything was accepted."""
_GZIP = 31
"""zlib's window bits for the gzip format."""

Forward = Callable[[bytes, str], None]
"""Sends a body and its content type to the user's collector."""


@dataclass(frozen=True, slots=True)
class Sinks:
    """What becomes of what was received. All of it runs in the loop and must not block."""

    spans: Callable[[Sequence[EndedSpan]], None]
    records: Callable[[Sequence[LogRecord], Sender], None]
    points: Callable[[Sequence[Point], Sender], None]
    forward: Forward | None = None
    """Sends traces on to the user's collector."""


@dataclass(frozen=True, slots=True)
class _Signal:
    """How the requests of one signal are decoded: to items, of which each gives results."""

    name: str
    limit: int
    decoders: Mapping[str, Callable[[bytes], Iterator[tuple[Sender, Any]]]]
    convert: Callable[[Any, Sender], Iterable[Any]]

    @property
    def path(self) -> str:
        return f"/v1/{self.name}"


TRACES = _Signal(
    "traces",
    otlp.MAX_SPANS,
    {JSON: otlp.from_json, PROTOBUF: protobuf.from_protobuf},
    lambda item, sender: (ended_span(item, sender),),
)
LOGS = _Signal(
    "logs",
    log_signal.MAX_RECORDS,
    {JSON: log_signal.from_json, PROTOBUF: log_signal.from_protobuf},
    lambda item, _: (log_record(item),),
)
METRICS = _Signal(
    "metrics",
    metric_signal.MAX_POINTS,
    {JSON: metric_signal.from_json, PROTOBUF: metric_signal.from_protobuf},
    lambda item, _: points_of(item),
)


class Receiver:
    """Listens from `start` to `stop`; children started before get no endpoint."""

    def __init__(self, namespace: str, sinks: Sinks) -> None:
        """`namespace` is the project's name."""
        self._namespace = namespace
        self._sinks = sinks
        self._url: str | None = None
        self._tokens: dict[Sender, str] = {}
        self._senders: dict[str, Sender] = {}
        self._external: set[str] = set()
        self._busy = 0
        self._turns = asyncio.Semaphore(MAX_AT_ONCE)
        self._refused: set[tuple[str, str]] = set()
        self._runner: web.AppRunner | None = None
        self._public: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a free port; does nothing if it already listens. Raises OSError."""
        if self._runner is not None:
            return
        self._runner = runner = await _listen(self._receive, 0)
        self._url = f"http://{HOST}:{runner.addresses[0][1]}"

    async def open(self, port: int) -> None:
        """Take what programs of this machine send that the stack did not start. Raises OSError.

        On `port`, which for such programs is 4318. Does nothing if it is open.
        """
        if self._public is None:
            self._public = await _listen(self._receive_openly, port)

    async def stop(self) -> None:
        for runner in (self._runner, self._public):
            if runner is not None:
                await runner.cleanup()
        self._runner = self._public = self._url = None

    def environment(
        self, spec: ServiceSpec, instance: str, inherited: Mapping[str, str]
    ) -> Mapping[str, str]:
        """The variables that direct what a child reports here; none for what its configuration directs."""
        if self._url is None or inherited.get("OTEL_SDK_DISABLED") == "true":
            return {}
        found: dict[str, str] = {}
        header = f"{HEADER}={self._token(Sender(spec.name, instance))}"
        for signal in (TRACES, LOGS, METRICS):
            name = signal.name.upper()
            if _configures_export(spec.env, name) or self._goes_elsewhere(signal, inherited):
                continue
            latest = f",{LATEST_HEADER}={LATEST}" if signal is TRACES and self._sinks.forward is None else ""
            found |= {
                f"OTEL_EXPORTER_OTLP_{name}_ENDPOINT": f"{self._url}{signal.path}",
                # Many SDKs reject http/json; those that only support JSON ignore this variable.
                f"OTEL_EXPORTER_OTLP_{name}_PROTOCOL": "http/protobuf",
                f"OTEL_EXPORTER_OTLP_{name}_HEADERS": header + latest,
            }
        if found:
            found["OTEL_SERVICE_NAME"] = spec.name
            if "OTEL_RESOURCE_ATTRIBUTES" not in inherited:
                found["OTEL_RESOURCE_ATTRIBUTES"] = (
                    f"service.namespace={quote(self._namespace)},service.instance.id={quote(instance)}"
                )
        return found

    def _goes_elsewhere(self, signal: _Signal, inherited: Mapping[str, str]) -> bool:
        """Whether a signal is left to the user's collector. Traces are forwarded, unless it speaks gRPC."""
        if signal is TRACES:
            return _exports_by_grpc(inherited)
        name = f"OTEL_EXPORTER_OTLP_{signal.name.upper()}_ENDPOINT"
        return bool(inherited.get(name) or inherited.get("OTEL_EXPORTER_OTLP_ENDPOINT"))

    def _token(self, sender: Sender) -> str:
        if sender not in self._tokens:
            token = self._tokens[sender] = secrets.token_urlsafe(24)
            self._senders[token] = sender
        return self._tokens[sender]

    async def _receive(self, signal: _Signal, request: web.Request) -> web.Response:
        sender = self._senders.get(request.headers.get(HEADER, ""))
        if sender is None:
            return _error(401, f"the header {HEADER} has no valid token")
        return await self._take(signal, sender, request)

    async def _receive_openly(self, signal: _Signal, request: web.Request) -> web.Response:
        """Take what a program sends that the stack did not start; it names itself."""
        if "Origin" in request.headers or host_name(request.host) not in _LOCAL_HOSTS:
            return _error(403, "this port is for programs of this machine, not for web pages")
        return await self._take(signal, None, request)

    def _identify(self, sender: Sender | None, named: Sender) -> Sender:
        """Who sent an item: what comes with a token belongs to `sender`, whatever its resource says."""
        if sender is not None:
            return sender
        if named.service not in self._external:
            if len(self._external) >= MAX_EXTERNAL:
                return Sender(OTHER, OTHER)
            self._external.add(named.service)
        return named

    async def _take(self, signal: _Signal, sender: Sender | None, request: web.Request) -> web.Response:
        content_type = request.content_type
        if content_type not in signal.decoders:
            return self._refuse(signal, sender, 415, f"expected {JSON} or {PROTOBUF}, not {content_type}")
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if encoding not in ("identity", "gzip"):
            reason = f"expected no content encoding or gzip, not {encoding}"
            return self._refuse(signal, sender, 415, reason)
        if self._busy >= MAX_AT_ONCE + MAX_WAITING:
            return _error(503, f"{self._busy} requests are being processed; try again")
        self._busy += 1
        try:
            async with self._turns:
                return await self._process(signal, sender, request, content_type, encoding)
        finally:
            self._busy -= 1

    async def _process(
        self, signal: _Signal, sender: Sender | None, request: web.Request, content_type: str, encoding: str
    ) -> web.Response:
        try:
            async with asyncio.timeout(BODY_TIMEOUT_S):
                body = await request.read()
            if encoding == "gzip":
                body = _decompressed(body)
            by_sender = await _decode(signal, body, content_type, partial(self._identify, sender))
        except MalformedError as error:
            return self._refuse(signal, sender, 400, str(error))
        except web.RequestPayloadError:
            return self._refuse(signal, sender, 400, "the framing of the body is invalid")
        except (web.HTTPRequestEntityTooLarge, _TooLargeError):
            reason = f"the body has more than {MAX_BODY} bytes; send smaller batches"
            return self._refuse(signal, sender, 413, reason)
        except TimeoutError:
            reason = f"the body was not complete within {BODY_TIMEOUT_S:g} s"
            return self._refuse(signal, sender, 408, reason)
        for who, found in by_sender.items():
            self._keep(signal, found, who)
        if signal is TRACES and self._sinks.forward is not None:
            self._sinks.forward(body, content_type)
        return web.Response(body=_ACCEPTED[content_type], content_type=content_type)

    def _keep(self, signal: _Signal, found: list[Any], sender: Sender) -> None:
        if signal is TRACES:
            self._sinks.spans(found)
        elif signal is LOGS:
            self._sinks.records(found, sender)
        else:
            self._sinks.points(found, sender)

    def _refuse(self, signal: _Signal, sender: Sender | None, status: int, reason: str) -> web.Response:
        """Refuse a request, and log it once a service and signal: many SDKs do not show the response."""
        service, who = ("", "a program") if sender is None else sender
        if (service, signal.name) not in self._refused:
            self._refused.add((service, signal.name))
            log.warning("refused %s of %s (%d): %s", signal.name, who, status, reason)
        return _error(status, reason)


async def _listen(
    receive: Callable[[_Signal, web.Request], Awaitable[web.Response]], port: int
) -> web.AppRunner:
    app = web.Application(client_max_size=MAX_BODY)
    for signal in (TRACES, LOGS, METRICS):
        app.router.add_post(signal.path, partial(receive, signal))
    # aiohttp logs a traceback for each body that does not decompress; `_decompressed` does not.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, auto_decompress=False)
    await runner.setup()
    try:
        listening = socket.create_server((HOST, port))
        close_socket_in_forks(listening)
        await web.SockSite(runner, listening).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner


def _configures_export(env: Mapping[str, str], signal: str) -> bool:
    """Whether a service's own `env` configures the export of a signal."""
    names = (f"OTEL_{signal}_EXPORTER", "OTEL_SDK_DISABLED", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return any(
        name in names
        or name.startswith(f"OTEL_EXPORTER_OTLP_{signal}_")
        or (name.startswith("OTEL_EXPORTER_OTLP_") and not name.startswith(_ANY_SIGNAL))
        for name in env
    )


_ANY_SIGNAL = tuple(f"OTEL_EXPORTER_OTLP_{signal}_" for signal in ("TRACES", "METRICS", "LOGS"))


def _exports_by_grpc(env: Mapping[str, str]) -> bool:
    """Whether the configured collector speaks gRPC: spans cannot be forwarded to it."""
    named = any(env.get(f"OTEL_EXPORTER_OTLP_{which}ENDPOINT") for which in ("", "TRACES_"))
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    return named and protocol == "grpc"


async def _decode(
    signal: _Signal, body: bytes, content_type: str, identify: Callable[[Sender], Sender]
) -> dict[Sender, list[Any]]:
    """Decode everything, by sender, yielding to other tasks. Raises MalformedError.

    `identify` says who sent what names a sender.
    """
    found: dict[Sender, list[Any]] = {}
    count = 0
    began = perf_counter()
    for items, (named, item) in enumerate(signal.decoders[content_type](body)):
        who = identify(named)
        kept = found.setdefault(who, [])
        for result in signal.convert(item, who):
            kept.append(result)
            count += 1
            if count > signal.limit:
                break
            if perf_counter() - began > STEP_S:
                await asyncio.sleep(0)
                began = perf_counter()
        if count > signal.limit or items > 3 * signal.limit:
            what = "spans" if signal is TRACES else signal.name
            raise MalformedError(f"the request has more than {signal.limit} {what}; send smaller batches")
        if perf_counter() - began > STEP_S:  # where an item has no results
            await asyncio.sleep(0)
            began = perf_counter()
    return found


class _TooLargeError(Exception):
    """The body decompresses to more than `MAX_BODY` bytes."""


def _decompressed(body: bytes) -> bytes:
    """Raises MalformedError and _TooLargeError."""
    inflate = zlib.decompressobj(wbits=_GZIP)
    try:
        found = inflate.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise MalformedError(f"the body is not gzip: {error}") from error
    if len(found) > MAX_BODY:
        raise _TooLargeError
    if not inflate.eof:
        raise MalformedError("the body is not gzip: it is truncated")
    return found


def _error(status: int, message: str) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode({"message": message}), content_type=JSON)
