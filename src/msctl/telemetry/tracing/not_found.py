"""An exchange that keeps a 404 back, so that something else can be answered in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.model.exchange import Exchange, Field, Fields, RawReceiver, RawStream, RequestBody, RequestHead

NOT_FOUND = 404


class NotFoundFilter:
    """Passes everything on to `inner`, apart from a 404 response: that is dropped, and `not_found` set."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner
        self.not_found = False
        self._finished = False

    @property
    def head(self) -> RequestHead:
        return self._inner.head

    @property
    def extra(self) -> Sequence[Field]:
        return self._inner.extra

    @property
    def body(self) -> RequestBody:
        return self._inner.body

    @property
    def client(self) -> tuple[str, int]:
        return self._inner.client

    @property
    def server(self) -> tuple[str, int]:
        return self._inner.server

    @property
    def scheme(self) -> str:
        return self._inner.scheme

    @property
    def trusted(self) -> bool:
        return self._inner.trusted

    @property
    def keep_alive(self) -> bool:
        return self._inner.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._inner.keep_alive = value

    @property
    def route(self) -> str:
        return self._inner.route

    @route.setter
    def route(self, value: str) -> None:
        self._inner.route = value

    @property
    def status(self) -> int:
        return NOT_FOUND if self.not_found else self._inner.status

    @property
    def finished(self) -> bool:
        return self._finished or self._inner.finished

    @property
    def disconnected(self) -> bool:
        return self._inner.disconnected

    @property
    def head_seconds(self) -> float:
        return self._inner.head_seconds

    @property
    def writing_paused(self) -> bool:
        return self._inner.writing_paused

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        self._inner.on_disconnect(callback)

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        self._inner.interim(status, reason, fields)

    def start(self, status: int, reason: bytes, fields: Sequence[Field], *, length: int | None) -> None:
        if status == NOT_FOUND:
            self.not_found = True
        else:
            self._inner.start(status, reason, fields, length=length)

    def flush(self) -> None:
        if not self.not_found:
            self._inner.flush()

    def write(self, data: bytes) -> None:
        if not self.not_found:
            self._inner.write(data)

    def finish(self, data: bytes = b"", trailers: Sequence[Field] = ()) -> None:
        self._finished = True
        if not self.not_found:
            self._inner.finish(data, trailers)

    def respond(self, status: int, reason: bytes, fields: Sequence[Field], body: bytes) -> None:
        self._finished = True
        if status == NOT_FOUND:
            self.not_found = True
        else:
            self._inner.respond(status, reason, fields, body)

    async def drain(self) -> None:
        await self._inner.drain()

    def abort(self) -> None:
        self._inner.abort()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        return self._inner.upgrade(fields, receiver)
