"""An exchange that keeps the response in memory, or drops it: a request of the gateway's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.gateway.message.headers import Field, Fields
from msctl.gateway.request.body import NO_BODY
from msctl.model.exchange import Exchange, RawReceiver, RawStream, RequestHead


class BufferedExchange:
    """A request of the gateway's own, in the name of the client of `outer`."""

    def __init__(self, outer: Exchange, head: RequestHead, limit: int | None) -> None:
        """A body of more than `limit` bytes is dropped, and `too_long` tells it; None drops every body."""
        self.head = head
        self.extra: Sequence[Field] = ()
        self.body = NO_BODY
        self.client = outer.client
        self.server = outer.server
        self.scheme = outer.scheme
        self.trusted = True
        self.keep_alive = True
        self.route = ""
        self.status = 0
        self.fields: Fields = []
        self.finished = False
        self.disconnected = False
        self.head_seconds = 0.0
        self.writing_paused = False
        self.too_long = False
        self._limit = limit
        self._data = bytearray()

    @property
    def received_target(self) -> str:
        return self.head.target

    @property
    def data(self) -> bytes:
        """The body of the response."""
        return bytes(self._data)

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        """Do nothing: the composed document's client is watched once."""

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        """Do nothing: interim responses are not part of a document."""

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:  # noqa: ARG002
        self.status = status
        self.fields = list(fields)

    def flush(self) -> None:
        """Do nothing."""

    def write(self, data: bytes) -> None:
        if self._limit is None or self.too_long:
            return
        if len(self._data) + len(data) > self._limit:
            # No error: the service could not tell it from one of its own.
            self.too_long = True
            self._data.clear()
        else:
            self._data += data

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:  # noqa: ARG002
        self.write(data)
        self.finished = True

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self.start(status, reason, fields, length=len(body))
        self.finish(body)

    async def drain(self) -> None:
        return None

    def abort(self) -> None:
        self.disconnected = True

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:  # noqa: ARG002
        raise ConnectionError("a branch of a composed document cannot switch protocols")
