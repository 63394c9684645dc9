"""Connections, channels and consumers over HTTP: list them, close a connection."""

from __future__ import annotations

from functools import partial
from typing import Any

from aiohttp import web

from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.management.answers import empty, missing
from msctl.broker.management.api import MONITORING, USER, Api
from msctl.broker.management.documents import (
    channel_document,
    connection_document,
    consumer_documents,
)
from msctl.broker.management.json_values import name_text
from msctl.broker.management.listing import SLICES, Listing, answer_list, answer_one
from msctl.broker.session.channel import Channel
from msctl.broker.session.session import Session

CLOSED = "Closed via management plugin"
MAX_REASON = 100


class Connections:
    """The handlers of `/api/connections`, `/api/channels` and `/api/consumers`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/connections", self._list),
            web.get("/api/vhosts/{vhost}/connections", self._list),
            web.get("/api/connections/username/{user}", self._list),
            web.delete("/api/connections/username/{user}", self._close_all),
            web.get("/api/connections/{connection}", self._show),
            web.delete("/api/connections/{connection}", self._close),
            web.get("/api/connections/{connection}/channels", self._list_channels),
            web.get("/api/channels", self._list_channels),
            web.get("/api/vhosts/{vhost}/channels", self._list_channels),
            web.get("/api/channels/{channel}", self._show_channel),
            web.get("/api/consumers", self._list_consumers),
            web.get("/api/consumers/{vhost}", self._list_consumers),
        ]

    def _sessions(self, request: web.Request) -> list[Session]:
        """The open connections that the user may see: his own, or all for a monitor."""
        user, path = request[USER], request.match_info
        vhost = self._api.vhost(request) if "vhost" in path else None
        sees_all = self._api.is_one_of(request, MONITORING)
        return [
            session
            for session in self._api.server.sessions
            if session.vhost is not None
            and (sees_all or session.user == user.name)
            and vhost in (None, session.vhost)
            and path.get("user", session.user) == session.user
        ]

    async def _list(self, request: web.Request) -> web.StreamResponse:
        moment = self._api.moment()
        return await answer_list(
            request,
            Listing(
                (sessions := self._sessions(request)),
                len(sessions),
                lambda each: each.name,
                lambda each: connection_document(each, moment),
            ),
        )

    def _named(self, request: web.Request) -> Session:
        name = request.match_info["connection"]
        for session in self._sessions(request):
            if session.name == name:
                return session
        raise missing()

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return answer_one(request, connection_document(self._named(request), self._api.moment()))

    async def _close(self, request: web.Request) -> web.StreamResponse:
        self._end([self._named(request)], request)
        return empty()

    async def _close_all(self, request: web.Request) -> web.StreamResponse:
        self._end(self._sessions(request), request)
        return empty()

    def _end(self, sessions: list[Session], request: web.Request) -> None:
        reason = request.headers.get("X-Reason", CLOSED)[:MAX_REASON]
        for session in sessions:
            session.force_close(reason)
        self._api.server.changed()

    # --- channels ---

    async def _list_channels(self, request: web.Request) -> web.StreamResponse:
        sessions = [self._named(request)] if "connection" in request.match_info else self._sessions(request)
        moment = self._api.moment()
        items = [(session, channel) for session in sessions for channel in session.channels]
        return await answer_list(
            request, Listing(items, len(items), _channel_name, lambda item: channel_document(*item, moment))
        )

    async def _show_channel(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["channel"]
        connection, _, number = name.rpartition(" ")
        for session in self._sessions(request):
            if session.name == connection:
                for channel in session.channels:
                    if f"({channel.number})" == number:
                        document = channel_document(session, channel, self._api.moment())
                        document["consumer_details"] = _consumers_of(session, channel)
                        return answer_one(request, document)
        raise missing()

    # --- consumers ---

    async def _list_consumers(self, request: web.Request) -> web.StreamResponse:
        slices = request.app[SLICES]
        items: list[dict[str, Any]] = []
        for vhost in self._api.chosen_vhosts(request):
            queues = list(vhost.queues.values())
            async for batch in slices.batches(queues, partial(consumer_documents, vhost)):
                items += [document for found in batch for document in found]
        return await answer_list(request, Listing(items, len(items), _consumer_order, lambda item: item))


def _channel_name(item: tuple[Session, Channel]) -> str:
    session, channel = item
    return f"{session.name} ({channel.number})"


def _consumer_order(document: dict[str, Any]) -> str:
    return f"{document['queue']['vhost']}\0{document['queue']['name']}\0{document['consumer_tag']}"


def _consumers_of(session: Session, channel: Channel) -> list[dict[str, Any]]:
    tags = {name_text(tag) for tag in channel.deliveries.consumers}
    queues: dict[Queue, None] = {}
    for consumer in channel.deliveries.consumers.values():
        if isinstance(consumer.queue, Queue):
            queues[consumer.queue] = None
    vhost: VirtualHost | None = session.vhost
    return [
        document
        for queue in queues
        if vhost is not None
        for document in consumer_documents(vhost, queue)
        if document["consumer_tag"] in tags and document["channel_details"]["number"] == channel.number
    ]
