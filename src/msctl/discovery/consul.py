"""Consul by its HTTP API: services with a TTL check at the agent, blocking queries for healthy instances.

A service keeps its name; its tag is the namespace, so that Consul's DNS finds it as
NAMESPACE.SERVICE.service.consul. What Consul has no field for is in its metadata.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.discovery.backend import SessionLostError, Watcher
from msctl.discovery.found import Read
from msctl.discovery.record import SCHEMA, Record, read_record
from msctl.discovery.registry_http import RegistryError, RegistryHttp
from msctl.model.registry_url import RegistryUrl
from msctl.secret import Secret

WAIT_S = 55
"""How long a blocking query waits for a change; Consul adds up to a sixteenth of it."""
PAUSE_S = 0.1
"""The shortest time between two queries for one service."""
MAX_META = 512
_FORGET = "1m"
"""How long a critical instance stays listed; no shorter time is accepted."""
_UNKNOWN = re.compile("unknown check|does not have associated TTL", re.IGNORECASE)
"""What older releases say with a 500 of a check that they do not know."""
_ODD = "answered with something else than Consul does"


class Consul:
    """The services of one namespace."""

    def __init__(
        self,
        http: RegistryHttp,
        url: RegistryUrl,
        namespace: str,
        ttl: float,
        *,
        token: Secret | None,
        clock: AsyncClock,
    ) -> None:
        self._http = http
        self._clock = clock
        self._url = url
        self._tag = quote(namespace, safe="")
        self._ttl = f"{math.ceil(ttl)}s"
        self._ids: dict[str, str] = {}
        """The identifiers of what is registered, by key."""
        if token is not None:
            http.headers["X-Consul-Token"] = token.reveal()

    async def open(self) -> str | None:
        self._ids.clear()
        await self._check_leader()
        if not self._url.is_local:
            return None
        answer = (await self._http.call("GET", "/v1/agent/self")).checked()
        member = answer.get("Member") if isinstance(answer, dict) else None
        address = member.get("Addr") if isinstance(member, dict) else None
        return address if isinstance(address, str) and address else None

    async def keep(self) -> None:
        await self._check_leader()
        for found in list(self._ids.values()):
            reply = await self._http.call("PUT", f"/v1/agent/check/pass/{quote(f'service:{found}', safe='')}")
            if reply.status == 404 or (reply.status >= 500 and _UNKNOWN.search(str(reply.document))):
                raise SessionLostError(f"it does not know {found} any more")
            reply.checked()

    async def register(self, record: Record) -> None:
        found = f"msctl-{self._tag}-{record.service}-{record.address}"
        meta = {
            "msctl_schema": str(SCHEMA),
            "msctl_instance": record.instance,
            "msctl_stack": record.stack,
            "msctl_routes": " ".join(record.routes),
            "msctl_health": record.health or "",
        }
        body = {
            "ID": found,
            "Name": record.service,
            "Address": record.host,
            "Port": record.port,
            "Tags": [self._tag],
            "Meta": {name: value for name, value in meta.items() if value and len(value) <= MAX_META},
            "Weights": {"Passing": record.weight, "Warning": 1},
            "Check": {"TTL": self._ttl, "Status": "passing", "DeregisterCriticalServiceAfter": _FORGET},
        }
        try:
            (await self._http.call("PUT", "/v1/agent/service/register", body)).checked()
        finally:
            self._ids[record.key] = found  # also where the answer is not awaited to its end: `leave` follows

    async def withdraw(self, record: Record) -> None:
        found = self._ids.pop(record.key, None)
        if found is not None:
            reply = await self._http.call("PUT", f"/v1/agent/service/deregister/{quote(found, safe='')}")
            if reply.status != 404:
                reply.checked()

    async def watch(self, services: Collection[str], watcher: Watcher) -> None:
        if not services:
            await asyncio.get_running_loop().create_future()
        watches = await first_of(*(self._watch(service, watcher) for service in services))
        for watch in watches:
            if not watch.cancelled():
                watch.result()

    async def leave(self) -> None:
        for found in [*self._ids.values()]:
            await self._http.call("PUT", f"/v1/agent/service/deregister/{quote(found, safe='')}")
        self._ids.clear()

    async def close(self) -> None:
        await self._http.close()

    async def _watch(self, service: str, watcher: Watcher) -> None:
        index, resumed = 0, True
        while True:
            query = {"passing": "1", "tag": self._tag}
            if index:
                query |= {"index": str(index), "wait": f"{WAIT_S}s"}
            path = f"/v1/health/service/{quote(service, safe='')}"
            reply = await self._http.call("GET", path, query=query, timeout=WAIT_S * 1.2 if index else None)
            entries = reply.checked()
            if not isinstance(entries, list):
                raise RegistryError(_ODD)
            watcher.listed(service, dict(_entry(service, item) for item in entries), resumed=resumed)
            resumed = False
            await self._clock.sleep(PAUSE_S)
            index = _next_index(reply.fields.get("X-Consul-Index"), index)

    async def _check_leader(self) -> None:
        leader = (await self._http.call("GET", "/v1/status/leader")).checked()
        if not isinstance(leader, str):
            raise RegistryError(_ODD)
        if not leader:
            raise RegistryError("has no leader")


def _next_index(text: str | None, before: int) -> int:
    """The index for the next query. By Consul's rules one that went back begins anew, and none is below 1."""
    if text is None or not text.isdecimal():
        raise RegistryError(_ODD)
    index = int(text)
    return 0 if index < before else max(1, index)


def _entry(service: str, item: object) -> tuple[str, Read]:
    found = item.get("Service") if isinstance(item, dict) else None
    node = item.get("Node") if isinstance(item, dict) else None
    if not isinstance(found, dict) or not isinstance(node, dict):
        raise RegistryError(_ODD)
    fields = _fields(service, found, node)
    host, port = fields["host"], fields["port"]
    key = f"{service}/[{host}]:{port}" if ":" in str(host) else f"{service}/{host}:{port}"
    return key, partial(read_record, fields)


def _fields(service: str, found: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, object]:
    """The fields of a record; for a service that msctl has not registered, from Consul's own."""
    meta, weights = found.get("Meta"), found.get("Weights")
    meta = meta if isinstance(meta, dict) else {}
    schema = meta.get("msctl_schema", str(SCHEMA))
    return {
        "schema": SCHEMA if schema == str(SCHEMA) else schema,
        "service": service,
        "instance": meta.get("msctl_instance") or service,
        "host": found.get("Address") or node.get("Address"),
        "port": found.get("Port"),
        "stack": meta.get("msctl_stack", ""),
        "weight": weights.get("Passing", 1) if isinstance(weights, dict) else 1,
        "routes": str(meta.get("msctl_routes", "")).split(),
        "health": meta.get("msctl_health"),
    }
