"""Definitions over HTTP: the whole broker, or one virtual host, as a JSON document."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
from aiohttp import web

from msctl.broker.core.definitions.document import read_document
from msctl.broker.core.definitions.exporter import definition_sections, export_vhost
from msctl.broker.management.answers import JSON_TYPE, bad_request, empty, json_answer, read_object
from msctl.broker.management.api import POLICYMAKER, Api
from msctl.broker.management.listing import SLICES


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
        return await _stream(request, definition_sections(self._api.broker))

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
        definitions, problems = await asyncio.to_thread(
            read_document, document, users=known, vhosts=tuple(broker.vhosts), vhost=vhost
        )
        if not problems.errors:
            await self._api.server.apply(definitions, problems)
            self._api.server.changed()
        if problems.errors:
            raise bad_request("; ".join(map(str, problems.errors)))
        return empty()


async def _stream(request: web.Request, sections: dict[str, Any]) -> web.StreamResponse:
    """A JSON object, its long members written slice by slice as the client reads them."""
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Cache-Control": "no-cache"})
    await response.prepare(request)
    start = b"{"
    for name, section in sections.items():
        await response.write(start + msgspec.json.encode(name) + b":")
        if isinstance(section, Iterator):
            separator = b"["
            async for batch in request.app[SLICES].batches(section, _same):
                await response.write(separator + msgspec.json.encode(batch)[1:-1])
                separator = b","
            await response.write(b"[]" if separator == b"[" else b"]")
        else:
            await response.write(msgspec.json.encode(section))
        start = b","
    await response.write(b"}")
    await response.write_eof()
    return response


def _same(entry: dict[str, Any]) -> dict[str, Any]:
    return entry
