"""Orders: hosted in msctl's own process. Asks users over HTTP, and tells payments over AMQP."""

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncIterator, Iterator

import aio_pika
import aiohttp
from aio_pika.abc import AbstractRobustConnection
from aiohttp import web

from msctl import ServiceContext

QUEUE = "payments"
PATIENCE = 3.0  # seconds, for users and for the broker to answer
RETRY = 2.0

log = logging.getLogger(__name__)
USERS_URL = web.AppKey("users_url", str)
HTTP = web.AppKey("http", aiohttp.ClientSession)
BROKER: web.AppKey[asyncio.Task[AbstractRobustConnection]] = web.AppKey("broker")
ORDERS: web.AppKey[dict[int, dict[str, object]]] = web.AppKey("orders")
NUMBERS: web.AppKey[Iterator[int]] = web.AppKey("numbers")

routes = web.RouteTableDef()


@routes.get("/orders")
async def list_orders(request: web.Request) -> web.Response:
    return web.json_response(list(request.app[ORDERS].values()))


@routes.get(r"/orders/{number:\d+}")
async def get_order(request: web.Request) -> web.Response:
    order = request.app[ORDERS].get(int(request.match_info["number"]))
    if order is None:
        return problem(404, "there is no such order")
    return web.json_response(order)


@routes.post("/orders")
async def post_order(request: web.Request) -> web.Response:
    """Takes {"user": 1, "amount": 12.5}; answers 201 once the broker has confirmed the message."""
    try:
        wish = json.loads(await request.text())
        user_id, amount = int(wish["user"]), float(wish["amount"])
    except (ValueError, KeyError, TypeError):
        return problem(400, 'expected {"user": 1, "amount": 12.5}')
    try:
        user = await find_user(request.app, user_id)
        if user is None:
            return problem(422, f"there is no user {user_id}")
        numbers = request.app[NUMBERS]
        number = next(numbers)
        order = {"order": number, "user": user, "amount": amount}
        await tell_payments(request.app, order)
    except (TimeoutError, OSError, aiohttp.ClientError, aio_pika.exceptions.AMQPError) as error:
        log.warning("no order was taken: %s", str(error) or type(error).__name__)
        return problem(503, "users or the broker cannot be reached just now")
    request.app[ORDERS][number] = order
    log.info("order %d of %s: %.2f", number, user["name"], amount)
    return web.json_response(order, status=201, headers={"Location": f"/orders/{number}"})


async def find_user(app: web.Application, user_id: int) -> dict[str, object] | None:
    """msctl puts the address of each service in `depends_on` into $<NAME>_URL."""
    async with app[HTTP].get(f"{app[USERS_URL]}/users/{user_id}") as response:
        if response.status == 404:
            return None
        response.raise_for_status()
        user: dict[str, object] = await response.json()
        return user


async def tell_payments(app: web.Application, order: dict[str, object]) -> None:
    """Returns when the broker has the message; raises if it comes back or is not confirmed in time."""
    message = aio_pika.Message(
        json.dumps(order).encode(),
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )
    async with asyncio.timeout(PATIENCE):
        connection = await asyncio.shield(app[BROKER])
        async with connection.channel(on_return_raises=True) as channel:
            await channel.declare_queue(QUEUE, durable=True)
            await channel.default_exchange.publish(message, routing_key=QUEUE)


async def connect(url: str) -> AbstractRobustConnection:
    """Waits until there is a broker; from then on, a connection that breaks is made again."""
    while True:
        try:
            return await aio_pika.connect_robust(url)
        except (OSError, aio_pika.exceptions.AMQPError) as error:
            log.warning("no broker yet: %s", error)
            await asyncio.sleep(RETRY)


def problem(status: int, detail: str) -> web.Response:
    return web.json_response(
        {"status": status, "detail": detail}, status=status, content_type="application/problem+json"
    )


def create_app(context: ServiceContext) -> web.Application:
    async def connections(app: web.Application) -> AsyncIterator[None]:
        # In a task of its own, so that orders starts while there is no broker yet.
        app[BROKER] = asyncio.create_task(connect(context.amqp_url))
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as app[HTTP]:
            yield
        app[BROKER].cancel()
        (connection,) = await asyncio.gather(app[BROKER], return_exceptions=True)
        if not isinstance(connection, BaseException):
            await connection.close()

    app = web.Application()
    app[USERS_URL] = context.env["USERS_URL"]
    app[ORDERS] = {}
    app[NUMBERS] = itertools.count(1)
    app.cleanup_ctx.append(connections)
    app.add_routes(routes)
    return app
