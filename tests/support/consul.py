"""A server of the tests' own that answers as Consul's documentation of its HTTP API says; no Consul is asked.

Consul is not in Debian, and its own releases are not free software. What is here are the endpoints that msctl
uses: agent/self, agent/service/register and deregister, agent/check/pass, health/service with blocking
queries, and status/leader.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

FIELDS = {"ID", "Name", "Tags", "Address", "Port", "Meta", "Check", "Weights"}
CHECK = {"TTL", "Status", "DeregisterCriticalServiceAfter"}


@dataclass
class Consul:
    """An agent; `services` are those that it knows, by their id."""

    token: str | None = None
    address: str = "10.0.0.5"
    leader: str = "10.0.0.5:8300"
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    index: int = 10
    url: str = ""
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether a registration is answered, which is done either way."""
    _passed: dict[str, float] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def __post_init__(self) -> None:
        self.answers.set()

    async def forget(self) -> None:
        """Lose everything, as an agent whose data are gone; its index begins anew."""
        async with self._changed:
            self.services.clear()
            self._passed.clear()
            self.index = 1
            self._changed.notify_all()

    async def add(self, name: str, address: str, port: int, **more: Any) -> None:
        """Register a service that somebody else runs."""
        found = {"ID": f"{name}-{address}-{port}", "Name": name, "Address": address, "Port": port, **more}
        await self._put(found, ttl=None)

    async def _put(self, found: dict[str, Any], ttl: float | None) -> None:
        async with self._changed:
            self.services[found["ID"]] = {**found, "ttl": ttl}
            self._passed[found["ID"]] = time.monotonic()
            self.index += 1
            self._changed.notify_all()

    def _passing(self, found: dict[str, Any]) -> bool:
        return found["ttl"] is None or time.monotonic() - self._passed[found["ID"]] < found["ttl"]

    @web.middleware
    async def _authorized(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.token is not None and request.headers.get("X-Consul-Token") != self.token:
            return web.Response(status=403, text="ACL not found")
        return await handler(request)  # type: ignore[no-any-return]

    async def _leader(self, _request: web.Request) -> web.Response:
        return web.json_response(self.leader)

    async def _self(self, _request: web.Request) -> web.Response:
        return web.json_response({"Member": {"Addr": self.address}})

    async def _register(self, request: web.Request) -> web.Response:
        found = await request.json()
        check = found.get("Check", {})
        unknown = (set(found) - FIELDS) | (set(check) - CHECK)
        meta = found.get("Meta", {})
        if unknown or not found.get("Name") or not all(isinstance(value, str) for value in meta.values()):
            return web.Response(status=400, text=f"Request decode failed: {unknown or found}")
        await self._put(found, float(check["TTL"].removesuffix("s")))
        await self.answers.wait()
        return web.Response()

    async def _deregister(self, request: web.Request) -> web.Response:
        async with self._changed:
            if self.services.pop(request.match_info["id"], None) is None:
                return web.Response(
                    status=404, text="Unknown service ID. Ensure that the service ID is passed"
                )
            self.index += 1
            self._changed.notify_all()
        return web.Response()

    async def _pass(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        found = name.removeprefix("service:")
        if found not in self.services:
            return web.Response(
                status=404, text=f'Unknown check ID "{name}". Ensure that the check ID is passed'
            )
        self._passed[found] = time.monotonic()
        return web.Response()

    async def _health(self, request: web.Request) -> web.Response:
        before = int(request.query.get("index", "0"))
        if before:
            seconds = float(request.query["wait"].removesuffix("s"))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), self._changed:
                    await self._changed.wait_for(lambda: self.index != before)
        found = [
            {
                "Node": {"Node": "n1", "Address": self.address},
                "Service": {
                    **{name: value for name, value in one.items() if name in FIELDS - {"Check", "Name"}},
                    "Service": one["Name"],
                },
            }
            for one in self.services.values()
            if one["Name"] == request.match_info["name"]
            and request.query["tag"] in one.get("Tags", [])
            and self._passing(one)
        ]
        return web.json_response(found, headers={"X-Consul-Index": str(self.index)})

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._authorized])
        app.add_routes(
            [
                web.get("/v1/status/leader", self._leader),
                web.get("/v1/agent/self", self._self),
                web.put("/v1/agent/service/register", self._register),
                web.put("/v1/agent/service/deregister/{id}", self._deregister),
                web.put("/v1/agent/check/pass/{id}", self._pass),
                web.get("/v1/health/service/{name}", self._health),
            ]
        )
        return app


@asynccontextmanager
async def consul(token: str | None = None) -> AsyncIterator[Consul]:
    """An agent on loopback while the block runs."""
    made = Consul(token)
    runner = web.AppRunner(made.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"consul://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        await runner.cleanup()
