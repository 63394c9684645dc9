"""An exchange that keeps a 404 back, so that something else can be answered in its place."""

from __future__ import annotations

from collections.abc import Sequence

from msctl.model.exchange import Exchange, Field
from msctl.model.wrapped_exchange import WrappedExchange

NOT_FOUND = 404


class NotFoundFilter(WrappedExchange):
    """Passes everything on to `inner`, apart from a 404 response: that is dropped, and `not_found` set."""

    def __init__(self, inner: Exchange) -> None:
        super().__init__(inner)
        self.not_found = False
        self._finished = False

    @property
    def status(self) -> int:
        return NOT_FOUND if self.not_found else self._inner.status

    @property
    def finished(self) -> bool:
        return self._finished or self._inner.finished

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
