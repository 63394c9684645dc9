"""The broker on the page: what it has, changes to it, messages published and watched."""

from __future__ import annotations

import binascii
import logging
from base64 import b64decode
from collections.abc import Mapping

import msgspec
from aiohttp import web

from msctl.dashboard.event_streams import EventStreams
from msctl.dashboard.feed import message_batches
from msctl.dashboard.responses import json_response, read_body, text_parameter
from msctl.errors import UsageError
from msctl.model.messaging import (
    Bind,
    BrokerChange,
    DeclareExchange,
    DeclareQueue,
    DeleteExchange,
    DeleteQueue,
    MoveMessages,
    OutgoingMessage,
    PurgeQueue,
    RequeueDead,
    Unbind,
)
from msctl.model.views import MessagingView

log = logging.getLogger("msctl.dashboard")

MAX_SEARCH = 200
_CHANGES: dict[str, type[BrokerChange]] = {
    "declare-queue": DeclareQueue,
    "delete-queue": DeleteQueue,
    "purge-queue": PurgeQueue,
    "declare-exchange": DeclareExchange,
    "delete-exchange": DeleteExchange,
    "bind": Bind,
    "unbind": Unbind,
    "move": MoveMessages,
    "requeue": RequeueDead,
}


class PublishBody(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request to publish a message; `encoding` is text or base64."""

    routing_key: str
    body: str
    exchange: str = ""
    encoding: str = "text"
    content_type: str = "text/plain"
    headers: Mapping[str, str | int | float | bool] = {}
    properties: Mapping[str, str | int] = {}


class MessagingPages:
    """The handlers of a stack's broker; each change is logged."""

    def __init__(self, broker: MessagingView | None, streams: EventStreams) -> None:
        self._view = broker
        self._streams = streams

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/messaging", self._show),
            web.get("/api/peek", self._peek),
            web.post("/api/publish", self._publish),
            web.post("/api/messaging/{verb}", self._change),
        ]

    @property
    def _broker(self) -> MessagingView:
        if self._view is None:
            raise web.HTTPNotFound(text="this stack has no broker\n")
        return self._view

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return json_response(await self._broker.messaging(request.query.get("find", "")[:MAX_SEARCH]))

    async def _peek(self, request: web.Request) -> web.StreamResponse:
        """The messages of a queue and new ones while the page watches it."""
        messages = self._broker.peek(text_parameter(request, "queue"))
        return await self._streams.serve(request, {"messages": message_batches(messages)})

    async def _change(self, request: web.Request) -> web.StreamResponse:
        verb = request.match_info["verb"]
        kind = _CHANGES.get(verb)
        if kind is None:
            raise web.HTTPNotFound(text=f"{verb} is not an action\n")
        change = await read_body(request, kind)
        log.info("%s, requested by the dashboard", change)
        return json_response(await self._broker.change(change))

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        given: PublishBody = await read_body(request, PublishBody)
        if not given.exchange and not given.routing_key:
            raise UsageError(
                "the message has neither an exchange nor a routing key",
                hint="to reach a queue directly, use its name as the routing key",
            )
        message = OutgoingMessage(
            given.exchange,
            given.routing_key,
            _body(given),
            given.content_type,
            given.headers,
            given.properties,
        )
        await self._broker.publish(message)
        return json_response({})


def _body(given: PublishBody) -> bytes:
    if given.encoding == "text":
        return given.body.encode()
    if given.encoding != "base64":
        raise UsageError(f"encoding {given.encoding!r} is neither text nor base64")
    try:
        return b64decode(given.body, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UsageError(f"the body is not base64: {error}") from error
