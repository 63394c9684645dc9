"""The one interface behind which every instance is, whether in this process or across a socket.

An `Upstream` carries one `Outgoing` request out and its response to the `Downstream`. It says how an
attempt ended in terms that the proxy can decide on: before or after a byte went out or came back.
"""

from __future__ import annotations

from typing import Protocol

from aiohttp import web
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

from msctl.gateway.deadline import Deadline
from msctl.gateway.downstream import Downstream
from msctl.gateway.headers import Fields, text
from msctl.gateway.http1 import serialize_head
from msctl.gateway.problems import Problem, ProblemError
from msctl.gateway.respond import Edits
from msctl.gateway.settings import Limits


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


def too_large(limit: int) -> Problem:
    return Problem(
        413, f"The request's body is longer than the {limit} bytes that are allowed here.", close=True
    )


class RequestHead:
    """A request's head as it is forwarded, but for what is new with every request.

    Made once for all requests that begin with the same head. `target` is in origin form; `fields` are
    without Host and framing; `host` is the client's Host, empty where it sent none (HTTP/1.0).
    """

    __slots__ = (
        "_headers",
        "chunked",
        "fields",
        "host",
        "length",
        "method",
        "prefix",
        "target",
        "upgrade",
        "url",
    )

    def __init__(
        self,
        method: str,
        target: str,
        host: str,
        fields: Fields,
        *,
        length: int | None,
        chunked: bool,
        upgrade: str | None,
    ) -> None:
        self.method = method
        self.target = target
        self.host = host
        self.length = length
        self.chunked = chunked
        self.upgrade = upgrade
        path, mark, query = target.partition("?")
        self.url = URL.build(path=path, query_string=query if mark else "", encoded=True)
        whole: Fields = [(b"Host", host.encode("latin-1")), *fields] if host else list(fields)
        if chunked:
            whole.append((b"Transfer-Encoding", b"chunked"))
        elif length is not None:
            whole.append((b"Content-Length", b"%d" % length))
        if upgrade is not None:
            whole += [(b"Connection", b"Upgrade"), (b"Upgrade", upgrade.encode())]
        self.fields = whole
        line = f"{method} {target} HTTP/1.1".encode("utf-8", "surrogateescape")
        self.prefix = serialize_head(line, whole)[:-2]
        self._headers: CIMultiDict[str] | None = None

    def headers(self, request_id: str, traceparent: str) -> CIMultiDict[str]:
        """The whole head as aiohttp would have parsed it."""
        template = self._headers
        if template is None:
            template = self._headers = CIMultiDict([(text(name), text(value)) for name, value in self.fields])
        headers = template.copy()
        headers["X-Request-Id"] = request_id
        headers["traceparent"] = traceparent
        return headers


class Outgoing:
    """One request as it goes to an instance."""

    __slots__ = (
        "body",
        "deadline",
        "down",
        "edits",
        "expects_continue",
        "head",
        "limits",
        "request_id",
        "service",
        "traceparent",
    )

    def __init__(
        self,
        service: str,
        head: RequestHead,
        body: Body,
        limits: Limits,
        down: Downstream,
        deadline: Deadline,
        edits: Edits,
        traceparent: str,
        *,
        expects_continue: bool = False,
    ) -> None:
        self.service = service
        self.head = head
        self.body = body
        self.limits = limits
        self.down = down
        self.deadline = deadline
        self.edits = edits
        self.request_id = edits.request_id
        self.traceparent = traceparent
        self.expects_continue = expects_continue

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

    async def drain(self) -> None:
        """Ask long-lived exchanges (WebSockets) to end."""
        ...

    async def close(self) -> None:
        """Give up every connection."""
        ...
