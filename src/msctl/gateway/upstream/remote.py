"""Upstreams over a socket: an instance that speaks HTTP/1.1 at an address. Bodies stream both ways."""

from __future__ import annotations

import asyncio
import errno
import ssl
from urllib.parse import urlsplit

from aiohttp import web

from msctl.gateway.message.headers import end_to_end
from msctl.gateway.message.http1 import (
    LAST_CHUNK,
    IncompleteResponseError,
    MalformedResponseError,
    ResponseHead,
    chunk,
)
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.deadline import Deadline, DeadlineError
from msctl.gateway.request.client_response import BufferedResponse, ClientGoneError, edited, http_date
from msctl.gateway.upstream.base import AttemptError, BrokenResponseError, UpstreamRequest
from msctl.gateway.upstream.connection import Connection, UpstreamClosedError
from msctl.gateway.upstream.pool import Pool, PoolFullError
from msctl.gateway.upstream.tunnel import GOING_AWAY, Tunnel

IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 §9.2.2."""

_CONNECT_ERRORS = {
    errno.ECONNREFUSED: ("connection_refused", "refused the connection"),
    errno.ECONNRESET: ("connection_terminated", "reset the connection"),
    errno.EHOSTUNREACH: ("destination_ip_unroutable", "cannot be reached"),
    errno.ENETUNREACH: ("destination_ip_unroutable", "cannot be reached"),
}


class RemoteUpstream:
    """An instance at `base_url` (scheme://host:port), with `tls` over https as `server_name` or its host."""

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
    ) -> None:
        parts = urlsplit(base_url)
        if parts.hostname is None or parts.scheme != ("http" if tls is None else "https"):
            raise ValueError(f"{base_url!r} is not a URL with a host, of https with a TLS context")
        self.address = base_url
        self._service = service
        self._instance = instance
        self._authority = parts.netloc
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

    async def send(self, out: UpstreamRequest, *, fresh: bool = False) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        body = out.body
        try:
            connection = await self._pool.acquire(loop, out.limits.connect_timeout, fresh=fresh)
        except (OSError, PoolFullError) as error:
            raise self._unreachable(error, out) from error
        try:
            with out.deadline as deadline:
                return await self._exchange(connection, out, deadline, loop)
        except DeadlineError as error:
            raise self._late(out, error) from error
        except (MalformedResponseError, IncompleteResponseError, UpstreamClosedError, OSError) as error:
            raise self._broken(connection, out, error) from error
        finally:
            if connection.reusable and connection.done and (body.kept is not None or body.content.at_eof()):
                self._pool.release(connection, loop.time())
            else:
                self._pool.drop(connection)

    async def _exchange(
        self,
        connection: Connection,
        out: UpstreamRequest,
        deadline: Deadline,
        loop: asyncio.AbstractEventLoop,
    ) -> web.StreamResponse:
        body, limits = out.body, out.limits
        connection.begin(out.head.method)
        uploader: asyncio.Task[None] | None = None
        if out.expects_continue:
            await out.send_continue()
        if body.kept is None and (body.content.is_eof() or self._should_buffer(out)):
            deadline.extend(limits.idle_timeout, "request body")
            await body.keep()
        head = self._head(out)
        if body.kept is not None:
            if not body.kept:
                connection.send(head + LAST_CHUNK if body.chunked else head)
            else:
                connection.send(head + (chunk(body.kept) + LAST_CHUNK if body.chunked else body.kept))
            deadline.extend(limits.response_timeout, "response")
        else:
            connection.send(head)
            deadline.extend(limits.idle_timeout, "request body")
            uploader = loop.create_task(self._upload(connection, out, deadline))
        try:
            while (answer := await connection.head()).status < 200 and answer.status != 101:
                if answer.status != 100:
                    # A 100 is dropped: the gateway never sends Expect.
                    await out.client.interim(answer.status, answer.reason, end_to_end(answer.fields))
            if answer.status == 101:
                return await self._switch(connection, out, answer, deadline)
            return await self._relay(connection, out, answer, deadline)
        finally:
            if uploader is not None:
                uploader.cancel()
                await asyncio.gather(uploader, return_exceptions=True)

    def _head(self, out: UpstreamRequest) -> bytes:
        head = out.head
        added = f"X-Request-Id: {out.request_id}\r\ntraceparent: {out.traceparent}\r\n\r\n"
        if not head.host:
            added = f"Host: {self._authority}\r\n{added}"
        return head.prefix + added.encode("latin-1")

    def _should_buffer(self, out: UpstreamRequest) -> bool:
        """Return whether to buffer the body for a retry: small, and of an idempotent method."""
        length = out.body.length
        return length is not None and length <= self._retry_body and out.head.method in IDEMPOTENT

    async def _upload(self, connection: Connection, out: UpstreamRequest, deadline: Deadline) -> None:
        """Stream the body. If it fails, the exchange is aborted, so that the upstream does not take a
        truncated body for a complete one."""
        body = out.body
        try:
            while data := await body.read():
                deadline.extend(out.limits.idle_timeout, "upstream reading")
                connection.send(chunk(data) if body.chunked else data)
                await connection.drain()
                deadline.extend(out.limits.idle_timeout, "request body")
            if body.chunked:
                connection.send(LAST_CHUNK)
        except UpstreamClosedError:
            return  # its response, if any, says more
        except ProblemError as error:
            connection.fail(error)
        except Exception as error:  # noqa: BLE001 - any failure of the client's body ends the exchange
            connection.fail(ClientGoneError(str(error)))
        else:
            deadline.extend(out.limits.response_timeout, "response")

    async def _relay(
        self, connection: Connection, out: UpstreamRequest, answer: ResponseHead, deadline: Deadline
    ) -> web.StreamResponse:
        client, idle = out.client, out.limits.idle_timeout
        deadline.extend(idle, "response body")
        fields = edited(client, answer.fields)
        if answer.status == 204:
            fields = [field for field in fields if field[0].lower() != b"content-length"]
        if not any(name.lower() == b"date" for name, _ in fields):
            fields.append((b"Date", http_date()))
        await client.start(
            answer.status, answer.reason, fields, length=answer.length, bodiless=answer.bodiless
        )
        if not connection.pending:
            await client.flush()
        while True:
            data = await connection.read()
            if connection.done:
                return await client.finish(data)
            deadline.extend(idle, "client reading")
            await client.write(data)
            deadline.extend(idle, "response body")

    async def _switch(
        self, connection: Connection, out: UpstreamRequest, answer: ResponseHead, deadline: Deadline
    ) -> web.StreamResponse:
        """Relay bytes both ways after a 101 response."""
        client = out.client
        if out.head.upgrade is None or isinstance(client, BufferedResponse):
            raise MalformedResponseError("it switched protocols without a request to")
        fields = edited(client, answer.fields)
        fields += [(b"Connection", b"Upgrade"), (b"Upgrade", out.head.upgrade.encode())]
        await client.start(101, answer.reason, fields, length=0, bodiless=True)
        await client.flush()
        tunnel = Tunnel(connection, client.request, deadline, out.limits.idle_timeout)
        self._tunnels.add(tunnel)
        try:
            await tunnel.run()
        finally:
            self._tunnels.discard(tunnel)
        client.keep_alive = False
        return await client.finish()

    # --- failures ---------------------------------------------------------------------------------------

    def _unreachable(self, error: Exception, out: UpstreamRequest) -> AttemptError:
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

    def _late(self, out: UpstreamRequest, error: DeadlineError) -> Exception:
        if out.client.started:
            who = "the client" if error.stage == "client reading" else self._instance
            reason = f"{who} was silent for {out.limits.idle_timeout:g} s"
            return BrokenResponseError(reason, out.client.abort())
        if error.stage == "request body":
            return ProblemError(
                Problem(
                    408,
                    f"No data of the request's body arrived for {out.limits.idle_timeout:g} s.",
                    close=True,
                )
            )
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

    def _broken(self, connection: Connection, out: UpstreamRequest, error: Exception) -> Exception:
        if isinstance(error, ClientGoneError):
            return error
        transport = out.client.request.transport
        if transport is None or transport.is_closing():
            return ClientGoneError("the client closed the connection")
        if out.client.started:
            return BrokenResponseError(
                f"{self._instance} failed during its response: {error}", out.client.abort()
            )
        malformed = isinstance(error, MalformedResponseError)
        return AttemptError(
            Problem(
                502,
                f"{self._instance} at {self._authority} did not answer: {error}.",
                error="http_protocol_error" if malformed else "connection_terminated",
                service=self._service,
                instance=self._instance,
            ),
            answered=malformed or connection.received,
            stale=connection.exchanges > 1 and not connection.received,
        )

    async def drain(self) -> None:
        for tunnel in list(self._tunnels):
            await tunnel.close(GOING_AWAY)

    async def close(self) -> None:
        for tunnel in list(self._tunnels):
            tunnel.abort()
        await self._pool.close()
