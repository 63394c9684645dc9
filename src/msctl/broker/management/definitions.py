"""Definitions over HTTP: the whole broker, or one virtual host, as a JSON document."""

from __future__ import annotations

import asyncio

from aiohttp import web

from msctl.broker.core.definitions.document import read_document
from msctl.broker.core.definitions.exporter import export_definitions, export_vhost
from msctl.broker.core.definitions.importer import import_definitions
from msctl.broker.management.answers import bad_request, empty, json_answer, read_object
from msctl.broker.management.api import POLICYMAKER, Api


class DefinitionsDocument:
    """The handlers of `/api/definitions`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/definitions", self._export),
            web.post("/api/definitions", self._import),
            web.get("/api/definitions/{vhost}", self._export_vhost),
            web.post("/api/definitions/{vhost}", self._import),
        ]

    async def _export(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request)
        return json_answer(export_definitions(self._api.broker))

    async def _export_vhost(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request, POLICYMAKER)
        return json_answer(export_vhost(self._api.broker, self._api.vhost(request)))

    async def _import(self, request: web.Request) -> web.StreamResponse:
        """Apply a document. One with errors changes nothing."""
        vhost = None
        if "vhost" in request.match_info:
            self._api.require(request, POLICYMAKER)
            vhost = self._api.vhost(request).name
        else:
            self._api.require(request)
        document = await read_object(request)
        broker = self._api.broker
        known = [user.name for user in broker.users.all()]
        definitions, problems = read_document(document, users=known, vhosts=tuple(broker.vhosts), vhost=vhost)
        if not problems.errors:
            for _ in import_definitions(broker, definitions, problems):
                self._api.server.changed()
                await asyncio.sleep(0)
        if problems.errors:
            raise bad_request("; ".join(map(str, problems.errors)))
        return empty()
