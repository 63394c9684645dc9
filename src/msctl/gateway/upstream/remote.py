"""Upstreams over a socket: an instance that speaks HTTP/1.1 at an address. Bodies stream both ways."""

from __future__ import annotations

import asyncio
import errno
import ssl
from functools import partial
from urllib.parse import urlsplit

from msctl.gateway.message.headers import end_to_end
from msctl.gateway.message.http1 import (
    LAST_CHUNK,
    IncompleteResponseError,
    MalformedResponseError,
    ResponseHead,
    chunk,
    serialize_fields,
)
from msctl.gateway.message.problems import Problem
from msctl.gateway.policies.deadline import Deadline, DeadlineError
from msctl.gateway.request.gateway_exchange import EVENT_STREAM, GatewayExchange, is_event_stream
from msctl.gateway.upstream.connection import Connection, UpstreamClosedError
from msctl.gateway.upstream.errors import CLIENT_GONE, AttemptError, BrokenResponseError
from msctl.gateway.upstream.late_client import CLIENT_READING, REQUEST_BODY, late_client
from msctl.gateway.upstream.pool import Pool, PoolFullError
from msctl.gateway.upstream.tunnel import Tunnel
from msctl.http.date import http_date
from msctl.http.websocket_frames import GOING_AWAY
from msctl.model.exchange import ClientGoneError, RequestError

CONTINUE_S = 1.0
"""How long an instance is asked whether it wants a body."""

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 §9.2.2."""

_RESPONSE_BODY = "response body"
_CONNECT_ERRORS = {
    errno.ECONNREFUSED: ("connection_refused", "refused the connection"),
    errno.ECONNRESET: ("connection_terminated", "reset the connection"),
    errno.EHOSTUNREACH: ("destination_ip_unroutable", "cannot be reached"),
    errno.ENETUNREACH: ("destination_ip_unroutable", "cannot be reached"),
}


class RemoteUpstream:
    """An instance at `base_url` (scheme://host:port), with `tls` over https as `server_name` or its host.

    `host_header` replaces the client's Host.
    """

    def __init__(
        self,
        service: str,
        instance: str,
        base_url: str,
        *,
        pool_size: int,
        pool_idle: float,
        retry_body: int,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        host_header: str | None = None,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.hostname is None or parts.scheme != ("http" if tls is None else "https"):
            raise ValueError(f"{base_url!r} is not a URL with a host, of https with a TLS context")
        self.address = base_url
        self._service = service
        self._instance = instance
        self._authority = parts.netloc
        self._host_header = host_header
        self._pool = Pool(
            parts.hostname,
            parts.port or (80 if tls is None else 443),
            size=pool_size,
            idle=pool_idle,
            tls=tls,
            server_name=server_name,
        )
        self._retry_body = retry_body
        self._tunnels: set[Tunnel] = set()

    @property
    def pool_open(self) -> int:
        return self._pool.open

    @property
    def pool_waiting(self) -> int:
        return self._pool.waiting

    def reconfigure(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        self._pool.reconfigure(pool_size, pool_idle)
        self._retry_body = retry_body

    async def send(self, out: GatewayExchange, *, fresh: bool = False) -> None:
        if out.disconnected:
            raise ClientGoneError("the client closed the connection")
        loop = asyncio.get_running_loop()
        deadline = out.deadline
        connection: Connection | None = None
        # Nobody waits for the response of a client that has left.
        out.on_disconnect(partial(deadline.interrupt, CLIENT_GONE))
        try:
            with deadline:
                deadline.extend(0)  # the pool has a time limit of its own
                try:
                    connection = await self._pool.acquire(loop, out.limits.connect_timeout, fresh=fresh)
                except (OSError, PoolFullError) as error:
                    raise self._unreachable(error, out) from error
                await self._exchange(connection, out, deadline, loop)
        except DeadlineError as error:
            if error.stage == CLIENT_GONE:
                raise ClientGoneError("the client closed the connection") from error
            if error.stage == EVENT_STREAM:
                out.finish()
            else:
                raise self._late(out, error) from error
        except RequestError:
            raise
        except (MalformedResponseError, IncompleteResponseError, UpstreamClosedError, OSError) as error:
            raise self._broken(connection, out, error) from error
        finally:
            out.on_disconnect(None)
            if connection is not None:
                if connection.reusable and connection.done and out.body.finished:
                    self._pool.release(connection, loop.time())
                else:
                    self._pool.drop(connection)

    async def _exchange(
        self,
        connection: Connection,
        out: GatewayExchange,
        deadline: Deadline,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        body, limits = out.body, out.limits
        chunked = out.head.chunked
        connection.begin(out.head.method)
        uploader: asyncio.Task[None] | None = None
        expects = out.head.expects_continue and not body.complete
        if body.complete or (not expects and self._should_buffer(out)):
            deadline.extend(limits.idle_timeout, REQUEST_BODY)
            await body.keep()
        head = self._head(out)
        if body.kept is not None and not body.trailers:
            if not body.kept:
                connection.send(head + LAST_CHUNK if chunked else head)
            else:
                connection.send(head + (chunk(body.kept) + LAST_CHUNK if chunked else body.kept))
            deadline.extend(limits.response_timeout, "response")
        else:
            body.rewind()
            if body.failed:
                await body.read()  # raises, before the instance has seen anything of the request
            refused = False
            if expects:
                connection.send(head[:-2] + b"Expect: 100-continue\r\n\r\n")
                deadline.extend(limits.response_timeout, "response")
                refused = await self._refuses_body(connection, out)
            else:
                connection.send(head)
            if not refused:
                deadline.extend(limits.idle_timeout, REQUEST_BODY)
                uploader = loop.create_task(self._upload(connection, out, deadline))
        try:
            while (answer := await connection.head()).status < 200 and answer.status != 101:
                if answer.status != 100:
                    # A 100 is the server's to send: when the body is read.
                    out.interim(answer.status, answer.reason, answer.fields)
            if answer.status == 101:
                await self._switch(connection, out, answer, deadline)
            else:
                await self._relay(connection, out, answer, deadline)
        finally:
            if uploader is not None:
                if deadline.expired and deadline.stage == _RESPONSE_BODY and body.waiting:
                    deadline.stage = REQUEST_BODY  # the instance may be waiting for it, too
                uploader.cancel()
                await asyncio.gather(uploader, return_exceptions=True)

    @staticmethod
    async def _refuses_body(connection: Connection, out: GatewayExchange) -> bool:
        """Return whether the instance answers without the body that its client holds back.

        One that says nothing for CONTINUE_S is sent the body (RFC 9110 §10.1.1).
        """
        try:
            async with asyncio.timeout(CONTINUE_S):
                while (answer := await connection.head()).status < 200 and answer.status != 101:
                    if answer.status == 100:
                        return False
                    out.interim(answer.status, answer.reason, answer.fields)
        except TimeoutError:
            return False
        return True

    def _head(self, out: GatewayExchange) -> bytes:
        head = out.head
        line = f"{head.method} {head.target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
        added = f"X-Request-Id: {out.request_id}\r\ntraceparent: {out.traceparent}\r\n\r\n"
        fields = head.serialized_fields
        if not head.host:
            added = f"Host: {self._host_header or self._authority}\r\n{added}"
        elif self._host_header is not None:
            added = f"Host: {self._host_header}\r\n{added}"
            fields = fields.partition(b"\r\n")[2]  # Host is the first
        return b"%b%b%b" % (line, fields, added.encode("latin-1"))

    def _should_buffer(self, out: GatewayExchange) -> bool:
        """Return whether to buffer the body for a retry: small, and of an idempotent method."""
        length = out.body.length
        return length is not None and length <= self._retry_body and out.head.method in IDEMPOTENT

    async def _upload(self, connection: Connection, out: GatewayExchange, deadline: Deadline) -> None:
        """Stream the body. If it fails, the exchange is aborted, so that the upstream does not take a
        truncated body for a complete one.

        Once the response has started, its deadline holds for both directions: progress here extends it.
        """
        body, chunked = out.body, out.head.chunked

        def extend(seconds: float, stage: str) -> None:
            if out.started:
                deadline.extend(deadline.allowance)
            else:
                deadline.extend(seconds, stage)

        try:
            while data := await body.read():
                extend(out.limits.idle_timeout, "upstream reading")
                connection.send(chunk(data) if chunked else data)
                await connection.drain()
                extend(out.limits.idle_timeout, REQUEST_BODY)
            if chunked:
                connection.send(b"0\r\n%b\r\n" % serialize_fields(end_to_end(body.trailers)))
        except UpstreamClosedError:
            return  # its response, if any, says more
        except RequestError as error:
            connection.fail(error)
        except Exception as error:  # noqa: BLE001 - any failure of the client's body ends the exchange
            connection.fail(ClientGoneError(str(error)))
        else:
            extend(out.limits.response_timeout, "response")

    async def _relay(
        self, connection: Connection, out: GatewayExchange, answer: ResponseHead, deadline: Deadline
    ) -> None:
        fields = answer.fields if answer.dated else (*answer.fields, (b"Date", http_date()))
        idle, stage = out.limits.idle_timeout, _RESPONSE_BODY
        if is_event_stream(fields):
            idle, stage = out.limits.stream_idle_timeout, EVENT_STREAM
        out.start(answer.status, answer.reason, fields, length=answer.length)
        deadline.extend(idle, stage)
        if not connection.pending:
            out.flush()
        while True:
            data = await connection.read()
            if connection.done:
                out.finish(data, connection.trailers)
                break
            out.write(data)
            if out.writing_paused:
                deadline.extend(out.limits.idle_timeout, CLIENT_READING)
                await out.drain()
            deadline.extend(idle, stage)
        if out.writing_paused:
            deadline.extend(out.limits.idle_timeout, CLIENT_READING)
            await out.drain()

    async def _switch(
        self, connection: Connection, out: GatewayExchange, answer: ResponseHead, deadline: Deadline
    ) -> None:
        """Relay bytes both ways after a 101 response."""
        if out.head.upgrade is None:
            raise MalformedResponseError("it switched protocols without a request to")
        tunnel = Tunnel(connection, deadline, out.limits.stream_idle_timeout)
        stream = out.received.upgrade(out.edited(answer.fields), tunnel)
        out.begin_stream("tunnel")
        self._tunnels.add(tunnel)
        try:
            await tunnel.run(stream)
        finally:
            self._tunnels.discard(tunnel)

    # --- failures ---------------------------------------------------------------------------------------

    def _unreachable(self, error: Exception, out: GatewayExchange) -> AttemptError:
        if isinstance(error, PoolFullError):
            kind, what, status = "connection_limit_reached", str(error), 503
        elif isinstance(error, TimeoutError):
            kind, status = "connection_timeout", 504
            what = f"it did not accept the connection within {out.limits.connect_timeout:g} s"
        elif isinstance(error, ssl.SSLCertVerificationError):
            kind, status = "tls_certificate_error", 502
            what = f"its certificate was refused ({error.verify_message})"
        elif isinstance(error, ssl.SSLError):
            kind, status = "tls_protocol_error", 502
            what = f"the TLS handshake failed ({(error.reason or str(error)).lower().replace('_', ' ')})"
        else:
            number = error.errno if isinstance(error, OSError) and error.errno else 0
            kind, what = _CONNECT_ERRORS.get(
                number, ("destination_unavailable", f"cannot be reached: {error}")
            )
            what, status = f"it {what}", 502
        problem = Problem(
            status,
            f"{self._instance} at {self._authority} is not reachable: {what}.",
            error=kind,
            service=self._service,
            instance=self._instance,
            retry_after=1.0 if status == 503 else None,
        )
        return AttemptError(problem, unsent=True)

    def _late(self, out: GatewayExchange, error: DeadlineError) -> Exception:
        if (late := late_client(out, error.stage)) is not None:
            return late
        if out.started:
            out.abort()
            return BrokenResponseError(f"{self._instance} was silent for {out.limits.idle_timeout:g} s")
        seconds = out.limits.response_timeout if error.stage == "response" else out.limits.idle_timeout
        return AttemptError(
            Problem(
                504,
                f"{self._instance} at {self._authority} did not answer within {seconds:g} s.",
                error="http_response_timeout",
                service=self._service,
                instance=self._instance,
            )
        )

    def _broken(self, connection: Connection | None, out: GatewayExchange, error: Exception) -> Exception:
        if isinstance(error, ClientGoneError):
            return error
        if out.disconnected:
            return ClientGoneError("the client closed the connection")
        if out.started:
            out.abort()
            return BrokenResponseError(f"{self._instance} failed during its response: {error}")
        malformed = isinstance(error, MalformedResponseError)
        return AttemptError(
            Problem(
                502,
                f"{self._instance} at {self._authority} did not answer: {error}.",
                error="http_protocol_error" if malformed else "connection_terminated",
                service=self._service,
                instance=self._instance,
            ),
            answered=malformed or (connection is not None and connection.received),
            stale=connection is not None and connection.exchanges > 1 and not connection.received,
        )

    async def drain(self) -> None:
        for tunnel in list(self._tunnels):
            tunnel.close(GOING_AWAY)

    async def close(self) -> None:
        for tunnel in list(self._tunnels):
            tunnel.abort()
        await self._pool.close()
