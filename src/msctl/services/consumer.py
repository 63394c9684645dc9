"""The course's consumer as a service: it takes each message of queue `hello` and logs it."""

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from msctl.amqp.consumer import Delivery
from msctl.amqp.reconnecting import QueueEndpoint, ReconnectingConsumer, running
from msctl.amqp.url import parse_url
from msctl.model.project import ServiceContext

QUEUE = "hello"

log = logging.getLogger(__name__)


async def log_message(delivery: Delivery) -> None:
    """Acknowledged when this returns; where it raises, the message goes back to the queue."""
    log.info("Received a message: %s", delivery.body.decode(errors="backslashreplace"))


def create_app(context: ServiceContext) -> web.Application:
    async def consuming(_app: web.Application) -> AsyncIterator[None]:
        place = QueueEndpoint(
            parse_url(context.amqp_url),
            QUEUE,
            name=f"msctl {context.instance}",
            notify=log.info,
            observer=context.messaging,
        )
        async with running(ReconnectingConsumer(place, log_message)):
            yield

    app = web.Application()
    app.cleanup_ctx.append(consuming)
    return app
