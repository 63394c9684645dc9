"""etcd by the JSON gateway of its version 3 API: a lease, keys that live as long as it, and a watch.

A key is /msctl/v1/NAMESPACE/SERVICE/HOST:PORT. Keys and values are Base64, 64-bit numbers are strings, and
fields that are zero are left out (etcd's api_grpc_gateway documentation).
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.discovery.backend import SessionLostError, Watcher
from msctl.discovery.found import Read
from msctl.discovery.record import Record, parse_record
from msctl.discovery.registry_http import RegistryError, RegistryHttp
from msctl.model.registry_url import RegistryUrl

PREFIX = "/msctl/v1"
MAX_LISTED = 10_000
RELIST_S = 60.0
"""Seconds after which everything is listed anew: a connection that only waits may be dead unnoticed."""
LOGIN_S = 5.0
"""A password is made slow to check on purpose."""
_ODD = "answered with something else than etcd does"


class Etcd:
    """The keys of one namespace."""

    def __init__(
        self, http: RegistryHttp, url: RegistryUrl, namespace: str, ttl: float, clock: AsyncClock
    ) -> None:
        self._http = http
        self._clock = clock
        self._url = url
        self._prefix = f"{PREFIX}/{quote(namespace, safe='')}/"
        self._ttl = math.ceil(ttl)
        self._lease: str | None = None

    async def open(self) -> str | None:
        self._http.headers.pop("Authorization", None)
        if self._url.user is not None:
            login = {"name": self._url.user, "password": self._url.password.reveal()}
            answer = await self._post("/v3/auth/authenticate", login, LOGIN_S)
            self._http.headers["Authorization"] = _string(answer, "token")
        self._lease = _string(await self._post("/v3/lease/grant", {"TTL": self._ttl}), "ID")
        return None

    async def keep(self) -> None:
        answer = await self._post("/v3/lease/keepalive", {"ID": self._lease})
        result = answer.get("result")
        if not isinstance(result, dict):
            raise RegistryError(_ODD)
        if _number(result, "TTL") <= 0:
            raise SessionLostError("its lease has expired")

    async def register(self, record: Record) -> None:
        value = json.dumps(record.fields()).encode()
        body = {"key": _encoded(self._prefix + record.key), "value": _encoded(value), "lease": self._lease}
        reply = await self._http.call("POST", "/v3/kv/put", body)
        if reply.status == 404:  # etcdserver: requested lease not found
            raise SessionLostError("its lease has expired")
        reply.checked()

    async def withdraw(self, record: Record) -> None:
        await self._post("/v3/kv/deleterange", {"key": _encoded(self._prefix + record.key)})

    async def watch(self, services: Collection[str], watcher: Watcher) -> None:  # noqa: ARG002 - one watch for all
        resumed = True
        while True:
            followed, _ = await first_of(self._follow(watcher, resumed=resumed), self._clock.sleep(RELIST_S))
            if not followed.cancelled():
                followed.result()
            resumed = False

    async def _follow(self, watcher: Watcher, *, resumed: bool) -> None:
        """List once, then watch from there; ends with an error."""
        scope = {"key": _encoded(self._prefix), "range_end": _encoded(_after(self._prefix))}
        answer = await self._post("/v3/kv/range", {**scope, "limit": MAX_LISTED})
        entries = dict(self._entry(item) for item in _list(answer, "kvs"))
        watcher.listed(None, entries, resumed=resumed)
        revision = _number(_dict(answer, "header"), "revision") + 1
        body = {"create_request": {**scope, "start_revision": str(revision)}}
        async with self._http.stream("/v3/watch", body) as documents:
            async for document in documents:
                if not isinstance(document, dict) or "error" in document:
                    raise RegistryError("ended the watch")
                self._changed(_dict(document, "result"), watcher)
        raise RegistryError("ended the watch")

    async def leave(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._post("/v3/lease/revoke", {"ID": lease})

    async def close(self) -> None:
        await self._http.close()

    def _changed(self, result: Mapping[str, Any], watcher: Watcher) -> None:
        if result.get("canceled"):
            raise RegistryError("cancelled the watch")
        for event in _list(result, "events"):
            key, read = self._entry(_dict(event, "kv"))
            if event.get("type") == "DELETE":
                watcher.removed(key)
            else:
                watcher.put(key, read)

    def _entry(self, item: object) -> tuple[str, Read]:
        if not isinstance(item, dict):
            raise RegistryError(_ODD)
        key = _decoded(item, "key").decode("utf-8", "replace").removeprefix(self._prefix)
        return key, partial(parse_record, _decoded(item, "value"), key)

    async def _post(self, path: str, body: object, timeout: float | None = None) -> dict[str, Any]:
        reply = await self._http.call("POST", path, body, timeout=timeout)
        if reply.status == 401 and "Authorization" in self._http.headers:
            raise SessionLostError("its login has expired")
        answer = reply.checked()
        if not isinstance(answer, dict):
            raise RegistryError(_ODD)
        return answer


def _after(prefix: str) -> bytes:
    """The first key behind all those that begin with `prefix`."""
    data = prefix.encode()
    return data[:-1] + bytes((data[-1] + 1,))


def _encoded(data: bytes | str) -> str:
    return base64.b64encode(data.encode() if isinstance(data, str) else data).decode()


def _decoded(found: Mapping[str, Any], name: str) -> bytes:
    value = found.get(name, "")
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise RegistryError(_ODD) from None


def _string(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise RegistryError(_ODD)
    return value


def _number(found: Mapping[str, Any], name: str) -> int:
    value = found.get(name, 0)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise RegistryError(_ODD) from None


def _dict(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = found.get(name)
    if not isinstance(value, dict):
        raise RegistryError(_ODD)
    return value


def _list(found: Mapping[str, Any], name: str) -> list[Any]:
    value = found.get(name) or []
    if not isinstance(value, list):
        raise RegistryError(_ODD)
    return value
