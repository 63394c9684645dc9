"""The interface of an upstream: one instance, hosted in this process or reached over a socket.

An `Upstream` sends an `UpstreamRequest` and writes the response to its `ClientResponse`. Its errors
tell the proxy whether the request was sent and whether a response had begun.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.deadline import Deadline
from msctl.gateway.request.client_response import ClientResponse
from msctl.gateway.request.plan import Plan


class Body:
    """A request's body: none, `length` bytes, or chunks. Reading more than `limit` bytes fails.

    `kept` holds the whole body if it was small enough to buffer, so that it can be sent again; any
    other body can be read only once.
    """

    __slots__ = ("chunked", "content", "kept", "length", "limit", "sent")

    def __init__(self, content: StreamReader, *, length: int | None, chunked: bool, limit: int) -> None:
        self.content = content
        self.length = length
        self.chunked = chunked
        self.limit = limit
        self.kept: bytes | None = None if chunked or length else b""
        self.sent = False

    @property
    def replayable(self) -> bool:
        return self.kept is not None or not self.sent

    async def read(self) -> bytes:
        """Return the next piece, b"" at the end; raises ProblemError if the body is too long or malformed."""
        self.sent = True
        content = self.content
        try:
            data = await content.readany()
        except web.RequestPayloadError as error:
            raise ProblemError(
                Problem(400, "The framing of the request's body is malformed.", close=True)
            ) from error
        if self.limit and content.total_bytes > self.limit:
            raise ProblemError(too_large(self.limit))
        return data

    async def keep(self) -> None:
        """Buffer the whole body, so that it can be sent again."""
        pieces: list[bytes] = []
        while piece := await self.read():
            pieces.append(piece)
        self.kept = b"".join(pieces)


NO_BODY = Body(EMPTY_PAYLOAD, length=None, chunked=False, limit=0)
"""The body of requests without one."""


def too_large(limit: int) -> Problem:
    return Problem(413, f"The request's body is longer than the {limit} bytes allowed.", close=True)


class UpstreamRequest:
    """A request as it is sent to an instance."""

    __slots__ = (
        "body",
        "client",
        "deadline",
        "expects_continue",
        "head",
        "limits",
        "request_id",
        "settings",
        "traceparent",
    )

    def __init__(
        self,
        plan: Plan,
        body: Body,
        client: ClientResponse,
        deadline: Deadline,
        request_id: str,
        traceparent: str,
    ) -> None:
        self.settings = settings = plan.settings
        self.limits = settings.limits
        self.head = plan.head
        self.expects_continue = plan.expects_continue
        self.body = body
        self.client = client
        self.deadline = deadline
        self.request_id = request_id
        self.traceparent = traceparent

    def progress(self) -> int:
        """Return the bytes transferred so far, in both directions."""
        received: int = getattr(self.client.request.protocol, "received", 0)
        return self.client.writer.output_size + self.body.content.total_bytes + received

    async def send_continue(self) -> None:
        """Send 100 Continue to a client that waits for it (RFC 9110 §10.1.1)."""
        self.expects_continue = False
        await self.client.interim(100, b"Continue", [])


class AttemptError(Exception):
    """An attempt ended without a response to the client.

    `unsent` is true if the instance cannot have received the request, `answered` if bytes of a response
    arrived, `stale` if a reused connection was closed: the next attempt should use a new one.
    `problem` describes the failure to the client.
    """

    def __init__(
        self, problem: Problem, *, unsent: bool = False, answered: bool = False, stale: bool = False
    ) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.unsent = unsent
        self.answered = answered
        self.stale = stale


class BrokenResponseError(Exception):
    """A response failed after it had started: the client's connection was aborted."""

    def __init__(self, reason: str, response: web.StreamResponse) -> None:
        super().__init__(reason)
        self.response = response


class Upstream(Protocol):
    """One instance of a service."""

    address: str

    @property
    def pool_open(self) -> int: ...

    @property
    def pool_waiting(self) -> int: ...

    async def send(self, out: UpstreamRequest, *, fresh: bool = False) -> web.StreamResponse:
        """Send `out` to the instance and write the response to `out.client`.

        Raises AttemptError before the response started, BrokenResponseError after, ProblemError if the
        request itself is at fault, ClientGoneError. `fresh` asks for a new connection.
        """
        ...

    def reconfigure(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Apply new limits."""
        ...

    async def drain(self) -> None:
        """Close WebSockets with code 1001."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
