"""The course's consumer as a service: logs each message of queue `hello`."""

import logging
from collections.abc import AsyncIterator

from aiohttp import web

from msctl.amqp import Delivery, QueueEndpoint, ReconnectingConsumer, parse_url, running
from msctl.model.service_context import ServiceContext

QUEUE = "hello"

log = logging.getLogger(__name__)


async def log_message(delivery: Delivery) -> None:
    """Log one message. It is acknowledged when this returns and requeued if this raises."""
    log.info("Received a message: %s", delivery.body.decode(errors="backslashreplace"))


def create_app(context: ServiceContext) -> web.Application:
    async def consuming(_app: web.Application) -> AsyncIterator[None]:
        endpoint = QueueEndpoint(
            parse_url(context.amqp_url),
            QUEUE,
            name=f"msctl {context.instance}",
            notify=log.info,
            observer=context.messaging,
        )
        async with running(ReconnectingConsumer(endpoint, log_message)):
            yield

    app = web.Application()
    app.cleanup_ctx.append(consuming)
    return app
