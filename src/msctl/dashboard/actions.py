"""The actions of the page on services: start, stop, restart and scale."""

from __future__ import annotations

import logging

import msgspec
from aiohttp import web

from msctl.dashboard.responses import json_response, read_body
from msctl.errors import UnknownServiceError
from msctl.model.views import SystemView

log = logging.getLogger("msctl.dashboard")


class ScaleBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to scale a service."""

    count: int


class Actions:
    """Handlers that act on a stack; each logs what the page asked for."""

    def __init__(self, view: SystemView) -> None:
        self._view = view

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/services/{name}/scale", self._scale),
            web.post("/api/services/{name}/{verb:start|stop|restart}", self._act),
        ]

    async def _act(self, request: web.Request) -> web.StreamResponse:
        name, verb = request.match_info["name"], request.match_info["verb"]
        await self._require(name)
        log.info("%s %s, requested by the dashboard", verb, name)
        if verb == "start":
            await self._view.start([name])
        elif verb == "stop":
            await self._view.stop([name])
        else:
            await self._view.restart([name])
        return json_response({})

    async def _scale(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        await self._require(name)
        count = (await read_body(request, ScaleBody)).count
        log.info("scale %s=%d, requested by the dashboard", name, count)
        await self._view.scale({name: count})
        return json_response({})

    async def _require(self, name: str) -> None:
        """Refuse names that are not a service, patterns in particular."""
        known = [service.name for service in (await self._view.snapshot()).services]
        if name not in known:
            raise UnknownServiceError(f"service {name!r} does not exist")
