"""Payments: in a process of its own. Takes each order from the queue, and shows what was paid."""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator

import aio_pika
from aio_pika.abc import AbstractIncomingMessage, AbstractRobustConnection
from aiohttp import web

from msctl import ServiceContext

QUEUE = "payments"
RETRY = 2.0  # seconds

log = logging.getLogger(__name__)
PAID: web.AppKey[list[dict[str, object]]] = web.AppKey("paid")

routes = web.RouteTableDef()


@routes.get("/payments")
async def list_payments(request: web.Request) -> web.Response:
    return web.json_response({"by": os.getpid(), "payments": request.app[PAID]})


async def connect(url: str) -> AbstractRobustConnection:
    """Waits until there is a broker; from then on, a connection that breaks is made again."""
    while True:
        try:
            return await aio_pika.connect_robust(url)
        except (OSError, aio_pika.exceptions.AMQPError) as error:
            log.warning("no broker yet: %s", error)
            await asyncio.sleep(RETRY)


def create_app(context: ServiceContext) -> web.Application:
    async def pay(message: AbstractIncomingMessage) -> None:
        # Acknowledged at the end of the block; what is not JSON is put aside, not tried for ever.
        async with message.process(requeue=False):
            order = json.loads(message.body)
            app[PAID].append({"order": order["order"], "amount": order["amount"]})
            log.info("paid order %s: %.2f", order["order"], order["amount"])

    async def consume() -> None:
        async with await connect(context.amqp_url) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=10)
            queue = await channel.declare_queue(QUEUE, durable=True)
            await queue.consume(pay)
            await asyncio.Event().wait()

    async def consuming(_app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(consume())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = web.Application()
    app[PAID] = []
    app.cleanup_ctx.append(consuming)
    app.add_routes(routes)
    return app
