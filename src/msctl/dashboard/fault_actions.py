"""The page's way to end faults."""

from __future__ import annotations

import msgspec
from aiohttp import web

from msctl.dashboard.responses import json_response, read_body
from msctl.faults.view import FaultView


class ClearBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to end faults."""

    ids: tuple[str, ...]


class FaultActions:
    """Ends faults of a stack that has some."""

    def __init__(self, faults: FaultView | None) -> None:
        self._faults = faults

    def routes(self) -> list[web.RouteDef]:
        return [] if self._faults is None else [web.post("/api/faults/clear", self._clear)]

    async def _clear(self, request: web.Request) -> web.StreamResponse:
        ids = (await read_body(request, ClearBody)).ids
        if self._faults is not None and ids:
            await self._faults.clear(ids)
        return json_response({})
