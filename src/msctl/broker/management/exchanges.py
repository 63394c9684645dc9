"""Exchanges and bindings over HTTP: list, declare, delete, bind, unbind, and publish."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from msctl.broker.core.exchanges import Binding, Exchange, binding_identity
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.management.answers import (
    CREATED,
    bad_request,
    boolean,
    empty,
    error,
    json_answer,
    mapping,
    missing,
    read_object,
    refused_by_broker,
    require,
)
from msctl.broker.management.api import USER, Api
from msctl.broker.management.documents import (
    binding_document,
    bindings_of,
    default_binding,
    exchange_document,
    properties_key,
)
from msctl.broker.management.json_values import properties_from_json
from msctl.broker.management.listing import SLICES, Listing, answer_list, answer_one
from msctl.broker.protocol.json_tables import table_from_json
from msctl.broker.protocol.replies import AmqpError
from msctl.broker.session.buffers import Outbox
from msctl.broker.session.publish_handler import PublishHandler

STORED_TIMEOUT_S = 10.0
_STORED = b"\0"
"""Stands for a confirm: it is sent once the message is as safe as a confirm says."""
DEFAULT = "amq.default"
"""The default exchange's name in paths, where an empty one is impossible."""


def _exchange_name(request: web.Request, part: str = "exchange") -> str:
    name = request.match_info[part]
    return "" if name == DEFAULT else name


class Exchanges:
    """The handlers of `/api/exchanges`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        one = "/api/exchanges/{vhost}/{exchange}"
        return [
            web.get("/api/exchanges", self._list),
            web.get("/api/exchanges/{vhost}", self._list),
            web.get(one, self._show),
            web.put(one, self._declare),
            web.delete(one, self._delete),
            web.post(f"{one}/publish", self._publish),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        items = [
            (vhost, exchange)
            for vhost in self._api.chosen_vhosts(request)
            for exchange in vhost.routing.exchanges.values()
        ]
        return await answer_list(
            request,
            Listing(items, len(items), lambda item: item[1].name, lambda item: exchange_document(*item)),
        )

    def _exchange(self, request: web.Request) -> tuple[VirtualHost, Exchange]:
        vhost = self._api.vhost(request)
        exchange = vhost.routing.exchanges.get(_exchange_name(request))
        if exchange is None:
            raise missing()
        return vhost, exchange

    async def _show(self, request: web.Request) -> web.StreamResponse:
        document = exchange_document(*self._exchange(request)) | {"incoming": [], "outgoing": []}
        return answer_one(request, document)

    async def _declare(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        body = await read_object(request)
        name = _exchange_name(request)
        arguments = mapping(body.get("arguments"), "arguments")
        existed = name in vhost.routing.exchanges
        vhost.routing.declare(
            name,
            str(body.get("type", "direct")),
            passive=False,
            durable=boolean(body.get("durable"), "durable"),
            auto_delete=boolean(body.get("auto_delete"), "auto_delete"),
            internal=boolean(body.get("internal"), "internal"),
            arguments=table_from_json(arguments),
            access=self._api.access(request, vhost),
        )
        return empty() if existed else empty(CREATED)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        vhost, exchange = self._exchange(request)
        unused = boolean(request.query.get("if-unused"), "if-unused")
        vhost.routing.delete(exchange.name, if_unused=unused, access=self._api.access(request, vhost))
        self._api.server.changed()
        return empty()

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        body = await read_object(request)
        require(body, "routing_key", "properties", "payload", "payload_encoding")
        key, payload, properties = body["routing_key"], body["payload"], body["properties"]
        if not isinstance(key, str) or not isinstance(payload, str):
            raise bad_request("routing_key and payload must be strings")
        if len(key.encode(errors="surrogatepass")) > 255:
            raise bad_request("the routing key takes more than 255 bytes")
        raw = properties_from_json(properties if isinstance(properties, dict) else {})
        stored = asyncio.Event()
        handler = PublishHandler(
            0,
            self._api.broker,
            vhost,
            request[USER].name,
            self._api.access(request, vhost),
            Outbox(stored.set),
        )
        try:
            routed = handler.publish(
                _exchange_name(request), key, raw, _payload(payload, body["payload_encoding"])
            )
        except AmqpError as found:
            raise refused_by_broker(found, with_code=True) from found
        self._api.server.changed()
        handler.confirms.send_when_stored(_STORED)
        try:
            async with asyncio.timeout(STORED_TIMEOUT_S):
                await stored.wait()
        except TimeoutError:
            raise error(503, "not_stored", "the message is not on disk yet") from None
        return json_answer({"routed": routed})


def _payload(payload: str, encoding: object) -> bytes:
    if encoding == "string":
        return payload.encode(errors="surrogatepass")
    if encoding == "base64":
        try:
            return b64decode(payload, validate=True)
        except (Base64Error, ValueError):
            raise bad_request("the payload is no base64") from None
    raise bad_request(f"{{unsupported_encoding,{encoding}}}")


class Bindings:
    """The handlers of `/api/bindings` and of the bindings of a queue or exchange."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        pair = "/api/bindings/{vhost}/e/{source}/{kind:[eq]}/{destination}"
        return [
            web.get("/api/bindings", self._list),
            web.get("/api/bindings/{vhost}", self._list),
            web.get("/api/queues/{vhost}/{destination}/bindings", self._list),
            web.get("/api/exchanges/{vhost}/{source}/bindings/source", self._list),
            web.get("/api/exchanges/{vhost}/{exchange}/bindings/destination", self._list),
            web.get(pair, self._list),
            web.post(pair, self._bind),
            web.get(pair + "/{key}", self._show),
            web.delete(pair + "/{key}", self._unbind),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """The bindings that the path selects; a queue's implicit one to the default exchange is first."""
        selects = _Selection.of(request)
        found: list[tuple[VirtualHost, Binding | Queue]] = []
        for vhost in self._api.chosen_vhosts(request):
            implicit = selects.kind != "e" and selects.source in (None, "")
            queues = list(vhost.queues.values()) if implicit else []
            every: Iterator[Binding | Queue] = chain(queues, bindings_of(vhost))
            async for batch in request.app[SLICES].batches(every, _same):
                found += [(vhost, each) for each in batch if selects.takes(each)]
        if "vhost" in request.match_info and not found and selects.destination is not None:
            self._check_exists(request, selects)
        return await answer_list(request, Listing(found, len(found), _order, _document))

    def _check_exists(self, request: web.Request, selects: _Selection) -> None:
        """Raises RefusedError for the bindings of what is not there."""
        vhost = self._api.vhost(request)
        known = vhost.routing.exchanges if selects.kind == "e" else vhost.queues
        if selects.destination not in known:
            raise missing()

    def _named(self, request: web.Request) -> tuple[VirtualHost, Binding]:
        vhost = self._api.vhost(request)
        selects, key = _Selection.of(request), request.match_info["key"]
        exchange = vhost.routing.exchanges.get(selects.source or "")
        target = _destination(vhost, selects.kind, selects.destination or "")
        if exchange is not None and target is not None:
            plain = exchange.bindings.get(binding_identity(target, "" if key == "~" else unquote(key), {}))
            for binding in [plain] if plain else vhost.routing.bindings.between(exchange, target):
                known = properties_key(binding)
                if key in (known, unquote(known)):
                    return vhost, binding
        raise missing()

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return json_answer(binding_document(*self._named(request)))

    async def _bind(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        body = await read_object(request)
        selects = _Selection.of(request)
        key, arguments = body.get("routing_key") or "", body.get("arguments") or {}
        if not isinstance(key, str) or not isinstance(arguments, dict):
            raise bad_request("routing_key must be a string, arguments an object")
        table = table_from_json(arguments)
        kind = "exchange" if selects.kind == "e" else "queue"
        source, destination = selects.source or "", selects.destination or ""
        target = _destination(vhost, selects.kind, destination)
        owner = target.owner if isinstance(target, Queue) else None
        vhost.routing.bind(source, destination, kind, key, table, owner, self._api.access(request, vhost))
        target = _destination(vhost, selects.kind, destination)
        if target is None:  # its name has line breaks, which are taken out of it
            return empty(CREATED)
        binding = vhost.routing.exchange(source).bindings[binding_identity(target, key, table)]
        known = quote(properties_key(binding), safe="~")
        location = f"{quote(request.match_info['destination'], safe='')}/{known}"
        return empty(CREATED, Location=location)

    async def _unbind(self, request: web.Request) -> web.StreamResponse:
        vhost, binding = self._named(request)
        target = binding.destination
        vhost.routing.unbind(
            binding.source.name,
            target.name,
            "exchange" if isinstance(target, Exchange) else "queue",
            binding.key,
            binding.arguments,
            None if isinstance(target, Exchange) else target.owner,
            self._api.access(request, vhost),
        )
        self._api.server.changed()
        return empty()


def _destination(vhost: VirtualHost, kind: str | None, name: str) -> Exchange | Queue | None:
    return vhost.routing.exchanges.get(name) if kind == "e" else vhost.queues.get(name)


def _same(each: Binding | Queue) -> Binding | Queue:
    return each


def _order(item: tuple[VirtualHost, Binding | Queue]) -> str:
    vhost, each = item
    if isinstance(each, Binding):
        return f"{each.source.name}\0{each.destination.name}\0{each.key}\0{vhost.name}"
    return f"\0{each.name}\0{each.name}\0{vhost.name}"


def _document(item: tuple[VirtualHost, Binding | Queue]) -> dict[str, Any]:
    vhost, each = item
    return binding_document(vhost, each) if isinstance(each, Binding) else default_binding(vhost, each)


class _Selection:
    """Which bindings a path names; None is any. `kind` is e or q, the kind of the destination."""

    def __init__(self, source: str | None, kind: str | None, destination: str | None) -> None:
        self.source = source
        self.kind = kind
        self.destination = destination

    @classmethod
    def of(cls, request: web.Request) -> _Selection:
        parts = request.match_info
        if "exchange" in parts:
            return cls(None, "e", _exchange_name(request))
        kind = parts.get("kind", "q" if "destination" in parts else None)
        destination = parts.get("destination")
        if kind == "e" and destination == DEFAULT:
            destination = ""
        return cls(_exchange_name(request, "source") if "source" in parts else None, kind, destination)

    def takes(self, binding: Binding | Queue) -> bool:
        """Whether it is selected; a queue stands for its binding to the default exchange."""
        if isinstance(binding, Queue):
            return self.destination in (None, binding.name)
        if self.source not in (None, binding.source.name):
            return False
        if self.destination not in (None, binding.destination.name):
            return False
        return self.kind is None or (self.kind == "e") is isinstance(binding.destination, Exchange)
