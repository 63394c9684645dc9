"""The one interface behind which every instance is, whether in this process or across a socket.

An `Upstream` carries one `Outgoing` request out and its response to the `Downstream`. It says how an
attempt ended in terms that the proxy can decide on: before or after a byte went out or came back.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.deadline import Deadline
from msctl.gateway.request.client_response import Downstream
from msctl.gateway.request.plan import Plan


class Body:
    """A request's body: nothing, `length` bytes, or chunks; counted against `limit` while it is read.

    `kept` holds all of it where it was small and could be read beforehand, and can then be sent
    again; otherwise it can be read once.
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
        """The next piece, b"" at the end; raises ProblemError for a body that is too long or broken."""
        self.sent = True
        content = self.content
        try:
            data = await content.readany()
        except web.RequestPayloadError as error:
            raise ProblemError(
                Problem(
                    400, "The request's body is malformed: its framing is not that of HTTP/1.1.", close=True
                )
            ) from error
        if self.limit and content.total_bytes > self.limit:
            raise ProblemError(too_large(self.limit))
        return data

    async def keep(self) -> None:
        """Read all of it, to be able to send it again."""
        pieces: list[bytes] = []
        while piece := await self.read():
            pieces.append(piece)
        self.kept = b"".join(pieces)


NO_BODY = Body(EMPTY_PAYLOAD, length=None, chunked=False, limit=0)
"""The body of the many requests that have none."""


def too_large(limit: int) -> Problem:
    return Problem(
        413, f"The request's body is longer than the {limit} bytes that are allowed here.", close=True
    )


class Outgoing:
    """One request as it goes to an instance."""

    __slots__ = (
        "body",
        "deadline",
        "down",
        "expects_continue",
        "head",
        "limits",
        "request_id",
        "settings",
        "traceparent",
    )

    def __init__(
        self, plan: Plan, body: Body, down: Downstream, deadline: Deadline, request_id: str, traceparent: str
    ) -> None:
        self.settings = settings = plan.settings
        self.limits = settings.limits
        self.head = plan.head
        self.expects_continue = plan.expects_continue
        self.body = body
        self.down = down
        self.deadline = deadline
        self.request_id = request_id
        self.traceparent = traceparent

    def moved(self) -> int:
        """Bytes that have moved so far, as far as they can be seen."""
        received: int = getattr(self.down.request.protocol, "received", 0)
        return self.down.writer.output_size + self.body.content.total_bytes + received

    async def invite(self) -> None:
        """Tell a client that waits to be told that its body is wanted (RFC 9110 §10.1.1)."""
        self.expects_continue = False
        await self.down.interim(100, b"Continue", [])


class AttemptError(Exception):
    """An attempt ended without a response.

    `unsent` is true where the instance cannot have seen the request, `answered` where bytes of a
    response had come; `fresh` says that another attempt should use a new connection. `problem`
    describes it to the client.
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
    """A response ended badly after it had begun: the client's connection has been aborted."""

    def __init__(self, reason: str, response: web.StreamResponse) -> None:
        super().__init__(reason)
        self.response = response


class Upstream(Protocol):
    """One instance, however it is reached."""

    address: str

    @property
    def pool_open(self) -> int: ...

    @property
    def pool_waiting(self) -> int: ...

    async def send(self, out: Outgoing, *, fresh: bool = False) -> web.StreamResponse:
        """Carry `out` to the instance and its response to `out.down`.

        Raises AttemptError before a response began, BrokenResponseError after, ProblemError for a
        request that is at fault itself, ClientGoneError.
        """
        ...

    def limit(self, *, pool_size: int, pool_idle: float, retry_body: int) -> None:
        """Go by these from now on."""
        ...

    async def drain(self) -> None:
        """Ask long-lived exchanges (WebSockets) to end."""
        ...

    async def close(self) -> None:
        """Give up every connection."""
        ...
