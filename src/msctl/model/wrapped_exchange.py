"""An exchange that stands before another: what both wrappers of requests do not change."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msctl.model.exchange import Exchange, Field, Fields, RawReceiver, RawStream, RequestBody, RequestHead


class WrappedExchange:
    """Passes on to `inner` what a subclass does not take over: all but `finished` and the response's body."""

    def __init__(self, inner: Exchange) -> None:
        self._inner = inner

    @property
    def head(self) -> RequestHead:
        return self._inner.head

    @property
    def received_target(self) -> str:
        return self._inner.received_target

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
    def status(self) -> int:
        return self._inner.status

    @property
    def disconnected(self) -> bool:
        return self._inner.disconnected

    @property
    def head_seconds(self) -> float:
        return self._inner.head_seconds

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

    def on_disconnect(self, callback: Callable[[], object] | None) -> None:
        self._inner.on_disconnect(callback)

    def interim(self, status: int, reason: bytes, fields: Sequence[Field]) -> None:
        self._inner.interim(status, reason, fields)

    def flush(self) -> None:
        self._inner.flush()

    def abort(self) -> None:
        self._inner.abort()

    @property
    def writing_paused(self) -> bool:
        return self._inner.writing_paused

    async def drain(self) -> None:
        await self._inner.drain()

    def upgrade(self, fields: Fields, receiver: RawReceiver) -> RawStream:
        return self._inner.upgrade(fields, receiver)
