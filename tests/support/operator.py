"""An operator of either broker: imports definitions, and deletes what they made."""

from __future__ import annotations

import json
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

from msctl.broker.core.definitions.document import read_document
from msctl.broker.server import BrokerServer

Json = dict[str, Any]


class Operator(Protocol):
    async def load(self, document: Json) -> str:
        """Import definitions; return the reason where they are refused, else nothing."""
        ...

    async def export(self) -> Json: ...

    async def delete(self, kind: str, *names: str) -> None:
        """Delete a user or a virtual host (`kind` is users or vhosts), or a policy of one."""
        ...


class ManagementOperator:
    """Operates RabbitMQ over the HTTP API of its management plugin."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/api"

    async def load(self, document: Json) -> str:
        status, found = await self._ask("POST", "definitions", document)
        return "" if status < 400 else str(found["reason"])

    async def export(self) -> Json:
        return (await self._ask("GET", "definitions"))[1]

    async def delete(self, kind: str, *names: str) -> None:
        path = "/".join(quote(name, safe="") for name in (kind, *names))
        status, found = await self._ask("DELETE", path)
        assert status < 400, found

    async def _ask(self, method: str, path: str, document: Json | None = None) -> tuple[int, Json]:
        url, login = URL(f"{self._url}/{path}", encoded=True), aiohttp.encode_basic_auth("guest", "guest")
        async with (
            aiohttp.ClientSession(headers={"Authorization": login}) as client,
            client.request(method, url, json=document) as response,
        ):
            body = await response.read()
            return response.status, json.loads(body) if body else {}


class EmbeddedOperator:
    """Operates the embedded broker through the same calls as a stack."""

    def __init__(self, server: BrokerServer) -> None:
        self._server = server
        self._broker = server._broker

    async def load(self, document: Json) -> str:
        known = {user.name for user in self._broker.users.all()}
        definitions, problems = read_document(document, users=known, vhosts=set(self._broker.vhosts))
        if problems.errors:
            return str(problems.errors[0])
        self._server._definitions = None  # as over HTTP: adds, and removes nothing
        await self._server.import_definitions(definitions)
        return ""

    async def export(self) -> Json:
        return self._server.export_definitions()

    async def delete(self, kind: str, *names: str) -> None:
        match kind:
            case "users":
                self._broker.delete_user(*names)
            case "vhosts":
                self._broker.delete_vhost(*names)
            case "policies":
                self._broker.vhosts[names[0]].clear_policy(names[1])
            case "permissions":
                self._broker.users.revoke(names[1], names[0])
        self._server.changed()
