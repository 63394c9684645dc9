"""The course's producer as a service: `POST /messages` publishes the body to queue `hello`.

It answers 202 after the broker's confirm, and 503 while the broker is not connected. It is ready before
the broker is.
"""

import logging
from collections.abc import AsyncIterator

from aiohttp import web
from pamqp.commands import Basic

from msctl.amqp import QueueEndpoint, ReconnectingPublisher, parse_url, running
from msctl.errors import MsctlError, UsageError
from msctl.model.service_context import ServiceContext

QUEUE = "hello"
MAX_BODY = 16 * 1024 * 1024
RETRY_AFTER = "2"

log = logging.getLogger(__name__)
PUBLISHER: web.AppKey[ReconnectingPublisher] = web.AppKey("publisher", ReconnectingPublisher)


async def post_message(request: web.Request) -> web.Response:
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return problem(413, "Content Too Large", f"a message may have at most {MAX_BODY} bytes")
    properties = Basic.Properties(content_type=request.headers.get("Content-Type", "text/plain"))
    try:
        await request.app[PUBLISHER].publish(body, properties)
    except UsageError as error:
        return problem(400, "Bad Request", error.message)
    except MsctlError as error:
        log.warning("a message was not published: %s", error.message)
        return problem(503, "Service Unavailable", error.message)
    return web.json_response({"status": "confirmed", "queue": QUEUE}, status=202)


def problem(status: int, title: str, detail: str) -> web.Response:
    """An error response as problem details (RFC 9457)."""
    return web.json_response(
        {"type": "about:blank", "title": title, "status": status, "detail": detail},
        status=status,
        content_type="application/problem+json",
        headers={"Retry-After": RETRY_AFTER} if status == 503 else None,
    )


def create_app(context: ServiceContext) -> web.Application:
    async def publisher(app: web.Application) -> AsyncIterator[None]:
        endpoint = QueueEndpoint(
            parse_url(context.amqp_url),
            QUEUE,
            name=f"msctl {context.instance}",
            notify=log.info,
            observer=context.messaging,
        )
        app[PUBLISHER] = ReconnectingPublisher(endpoint)
        async with running(app[PUBLISHER]):
            yield

    app = web.Application(client_max_size=MAX_BODY)
    app.cleanup_ctx.append(publisher)
    app.router.add_post("/messages", post_message)
    return app
