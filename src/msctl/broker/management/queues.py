"""Queues over HTTP: list, declare, delete, purge, and take messages."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from aiohttp import web

from msctl.broker.core.access import Operation
from msctl.broker.core.messages import Taken
from msctl.broker.core.queues import ExpiringError, Queue
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
    require,
    whole,
)
from msctl.broker.management.api import Api
from msctl.broker.management.documents import consumer_documents, queue_document
from msctl.broker.management.json_values import name_text, properties_to_json
from msctl.broker.management.listing import Listing, answer_list, answer_one
from msctl.broker.protocol.json_tables import table_from_json
from msctl.broker.protocol.wire import split_route

MAX_MESSAGES = 5_000
MAX_BYTES = 16 * 1024 * 1024
"""Bytes of bodies that one request takes out of a queue; at least one message is."""
ACK_MODES = ("ack_requeue_true", "ack_requeue_false", "reject_requeue_true", "reject_requeue_false")


class Queues:
    """The handlers of `/api/queues`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        one = "/api/queues/{vhost}/{queue}"
        return [
            web.get("/api/queues", self._list),
            web.get("/api/queues/{vhost}", self._list),
            web.get(one, self._show),
            web.put(one, self._declare),
            web.delete(one, self._delete),
            web.delete(f"{one}/contents", self._purge),
            web.post(f"{one}/get", self._get),
            web.post(f"{one}/actions", self._act),
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        vhosts = self._api.chosen_vhosts(request)
        queues = [(vhost, list(vhost.queues.values())) for vhost in vhosts]
        items = ((vhost, queue) for vhost, found in queues for queue in found)
        total = sum(len(found) for _, found in queues)
        moment = self._api.moment()
        return await answer_list(
            request,
            Listing(items, total, lambda item: item[1].name, lambda item: queue_document(*item, moment)),
        )

    def _queue(self, request: web.Request) -> tuple[VirtualHost, Queue]:
        vhost = self._api.vhost(request)
        queue = vhost.queues.get(request.match_info["queue"])
        if queue is None:
            raise missing()
        return vhost, queue

    async def _show(self, request: web.Request) -> web.StreamResponse:
        vhost, queue = self._queue(request)
        document = queue_document(vhost, queue, self._api.moment())
        document |= {
            "consumer_details": consumer_documents(vhost, queue),
            "deliveries": [],
            "incoming": [],
        }
        return answer_one(request, document)

    async def _declare(self, request: web.Request) -> web.StreamResponse:
        vhost = self._api.vhost(request)
        body = await read_object(request)
        name = request.match_info["queue"]
        arguments = mapping(body.get("arguments"), "arguments")
        existed = name in vhost.queues
        vhost.declare_queue(
            name,
            self,
            durable=boolean(body.get("durable"), "durable"),
            exclusive=False,
            auto_delete=boolean(body.get("auto_delete"), "auto_delete"),
            arguments=table_from_json(arguments),
            access=self._api.access(request, vhost),
        )
        self._api.server.changed()
        return empty() if existed else empty(CREATED)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        vhost, queue = self._queue(request)
        vhost.delete_queue_named(
            queue.name,
            self,
            if_unused=boolean(request.query.get("if-unused"), "if-unused"),
            if_empty=boolean(request.query.get("if-empty"), "if-empty"),
            access=self._api.access(request, vhost),
        )
        self._api.server.changed()
        return empty()

    async def _purge(self, request: web.Request) -> web.StreamResponse:
        self._queue(request)
        _, queue = self._readable(request)
        queue.purge()
        self._api.server.changed()
        return empty()

    def _readable(self, request: web.Request) -> tuple[VirtualHost, Queue]:
        vhost = self._api.vhost(request)
        queue = vhost.queue(request.match_info["queue"])
        queue.check_access(self)
        self._api.access(request, vhost).check(Operation.READ, "queue", queue.name)
        return vhost, queue

    async def _get(self, request: web.Request) -> web.StreamResponse:
        """Take messages as basic.get does; `ackmode` decides where they go then."""
        body = await read_object(request)
        require(body, "ackmode", "count", "encoding")
        count, mode, encoding = whole(body["count"], "count"), body["ackmode"], body["encoding"]
        limit = None if body.get("truncate") is None else whole(body["truncate"], "truncate")
        if mode not in ACK_MODES or encoding not in ("auto", "base64"):
            raise bad_request(f"ackmode is one of {', '.join(ACK_MODES)}, encoding auto or base64")
        vhost = self._api.vhost(request)
        if request.match_info["queue"] not in vhost.queues:
            why = f"NOT_FOUND - no queue '{request.match_info['queue']}' in vhost '{vhost.name}'"
            raise error(404, "not_found", why)
        _, queue = self._readable(request)
        found = _take(queue, min(count, MAX_MESSAGES), mode, encoding, limit)
        self._api.server.changed()
        return json_answer(found)

    async def _act(self, request: web.Request) -> web.StreamResponse:
        """`sync` and `cancel_sync` of mirrored queues: nothing is mirrored, so nothing is to do."""
        self._queue(request)
        body = await read_object(request)
        if body.get("action") not in ("sync", "cancel_sync"):
            raise bad_request(f"unknown action {body.get('action')!r}")
        return empty()


def _take(queue: Queue, count: int, mode: str, encoding: str, limit: int | None) -> list[dict[str, Any]]:
    """Take messages in one step, so that none is lost if the client leaves."""
    found: list[dict[str, Any]] = []
    taken: list[Taken] = []
    room = MAX_BYTES
    try:
        while len(taken) < count and room > 0 and (got := queue.get(no_ack=False)) is not None:
            number, message, redelivered = got
            taken.append((number, message))
            shown = queue.as_delivered(number, message)
            room -= len(shown[2])
            exchange, key = split_route(shown[0])
            payload, written = _payload(shown[2], encoding, limit)
            found.append(
                {
                    "payload_bytes": len(shown[2]),
                    "redelivered": redelivered,
                    "exchange": name_text(exchange),
                    "routing_key": name_text(key),
                    "message_count": queue.ready.count,
                    "properties": properties_to_json(shown[1]) or [],
                    "payload": payload,
                    "payload_encoding": written,
                }
            )
    except ExpiringError:
        pass  # expired messages are at the head: those that were taken are the answer
    if mode.endswith("requeue_true"):
        queue.requeue(taken)
    else:
        for _, message in taken:
            if mode.startswith("ack"):
                queue.ack(message)
            else:
                queue.reject(message)
    return found


def _payload(body: bytes, encoding: str, limit: int | None) -> tuple[str, str]:
    shown = body if limit is None else body[:limit]
    if encoding == "auto":
        try:
            return shown.decode(), "string"
        except UnicodeDecodeError:
            pass
    return b64encode(shown).decode(), "base64"
