"""A broker's queues at the hands of a person: publish one message, look at what waits.

Looking takes nothing: each message is got, and given back to its place at once (as RabbitMQ's own
management page does it). What it costs is that the message counts as redelivered from then on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import sha256

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from pamqp.commands import Basic

from msctl.amqp.link import Link, closing
from msctl.amqp.publisher import Publisher
from msctl.amqp.queues import count
from msctl.amqp.url import parse_url
from msctl.model import PeekedMessage

CONNECT_TIMEOUT = 5.0
LOOK_EVERY = 0.5
MOST_LOOKED_AT = 200
"""Messages at the head of a queue that are looked at, and are away from it for a moment."""
MOST_SHOWN = 16 * 1024
"""Bytes of a body that are shown."""


class Desk:
    """Implements model.QueueView over AMQP. `url` is asked for each time: the broker may move."""

    def __init__(self, url: Callable[[], str]) -> None:
        self._url = url

    async def publish(self, queue: str, body: bytes, content_type: str) -> None:
        """Return when the broker has confirmed it; raises BrokerError, also where no queue takes it."""
        async with closing(await self._open()) as link:
            await count(link, queue)
            publisher = await Publisher.open(link)
            try:
                properties = Basic.Properties(content_type=content_type)
                template = publisher.template(properties, exchange="", routing_key=queue)
                await publisher.publish(template, body)
            finally:
                await publisher.close()

    async def peek(self, queue: str) -> AsyncIterator[PeekedMessage]:
        """What waits in the queue and what stays in it long enough to be seen, each once."""
        seen: dict[bytes, int] = {}
        counted = 0
        async with closing(await self._open()) as link:
            while True:
                before, counted = counted, (await count(link, queue)).ready
                if counted == before:
                    pass  # most likely nothing has changed, and what is not touched stays as it is
                elif counted:
                    found = await _look(link, queue)
                    now: dict[bytes, int] = {}
                    for message in found:
                        mark = _mark(message)
                        now[mark] = now.get(mark, 0) + 1
                        if now[mark] > seen.get(mark, 0):
                            yield _shown(message)
                    seen = now
                else:
                    seen = {}
                await asyncio.sleep(LOOK_EVERY)

    async def _open(self) -> Link:
        return await Link.open(parse_url(self._url()), name="msctl desk", timeout=CONNECT_TIMEOUT)


async def _look(link: Link, queue: str) -> list[DeliveredMessage]:
    """The messages at the head of the queue, which has them all again when this returns."""
    channel = await link.channel()
    found: list[DeliveredMessage] = []
    try:
        while len(found) < MOST_LOOKED_AT and (message := await _get(link, channel, queue)):
            found.append(message)
        if found:
            await link.ask(channel.basic_nack(len(found), multiple=True, requeue=True))
    finally:
        # Closing gives back what is left, whatever went wrong.
        await link.ask(channel.close())
    return found


async def _get(link: Link, channel: Channel, queue: str) -> DeliveredMessage | None:
    answer = await link.ask(channel.basic_get(queue))
    return None if isinstance(answer.delivery, Basic.GetEmpty) else answer


def _mark(message: DeliveredMessage) -> bytes:
    """What tells one message from another, as far as AMQP lets us."""
    properties = message.header.properties
    told = (message.exchange, message.routing_key, properties.message_id, properties.timestamp)
    return sha256(repr(told).encode() + message.body).digest()


def _shown(message: DeliveredMessage) -> PeekedMessage:
    properties = message.header.properties
    headers = {str(name): str(value)[:256] for name, value in list((properties.headers or {}).items())[:32]}
    return PeekedMessage(
        body=message.body[:MOST_SHOWN].decode(errors="backslashreplace"),
        size=len(message.body),
        exchange=message.exchange or "",
        routing_key=message.routing_key or "",
        content_type=properties.content_type or "",
        headers=headers,
        redelivered=bool(message.redelivered),
    )
