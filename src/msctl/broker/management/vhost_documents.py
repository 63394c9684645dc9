"""All documents of one virtual host, for the stack's page: made without HTTP and without a user's rights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from msctl.amqp.management_documents import Document, DocumentList, Documents
from msctl.broker.management.documents import (
    Moment,
    binding_document,
    bindings_of,
    channel_document,
    connection_document,
    consumer_documents,
    exchange_document,
    queue_document,
)
from msctl.broker.management.json_values import name_text
from msctl.broker.management.rates import Rates
from msctl.broker.management.slices import Slices
from msctl.broker.server import BrokerServer
from msctl.clock import Clock
from msctl.model.messaging import MOST

T = TypeVar("T")


async def vhost_documents(server: BrokerServer, vhost_name: str, find: str, clock: Clock) -> Documents:
    """The documents of what has `find` in its name, MOST of each kind, in slices of the loop's time."""
    slices, needle = Slices(clock), find.lower()
    moment = Moment(Rates(), clock.monotonic(), clock.time())
    vhost = server.broker.vhosts.get(vhost_name)
    if vhost is None:
        return Documents(*([DocumentList(())] * 6))

    async def listed(
        items: Iterable[T], name: Callable[[T], str], make: Callable[[T], Iterable[Document]]
    ) -> DocumentList:
        kept = [one for one in items if needle in name_text(name(one)).lower()]
        kept.sort(key=name)
        made = await slices.collect(kept[:MOST], make)
        return DocumentList([document for documents in made for document in documents], len(kept))

    sessions = [session for session in server.sessions if session.vhost is vhost]
    queues = list(vhost.queues.values())
    consumed = [queue for queue in queues if queue.consumers]
    return Documents(
        exchanges=await listed(
            list(vhost.routing.exchanges.values()),
            lambda one: one.name,
            lambda one: [exchange_document(vhost, one)],
        ),
        bindings=await listed(
            bindings_of(vhost),
            lambda one: f"{one.source.name} {one.destination.name} {one.key}",
            lambda one: [binding_document(vhost, one)],
        ),
        queues=await listed(queues, lambda one: one.name, lambda one: [queue_document(vhost, one, moment)]),
        connections=await listed(
            sessions, lambda one: one.name, lambda one: [connection_document(one, moment)]
        ),
        channels=await listed(
            [(session, channel) for session in sessions for channel in session.channels],
            lambda item: f"{item[0].name} ({item[1].number})",
            lambda item: [channel_document(*item, moment)],
        ),
        consumers=await listed(consumed, lambda one: one.name, lambda one: consumer_documents(vhost, one)),
    )
