"""Chapter 5 of the course: a service that owns the users and answers in JSON."""

import json

from aiohttp import web

USERS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}]


async def users(_request: web.Request) -> web.Response:
    # Go's encoder, which the course uses, writes no spaces and ends with a newline.
    body = json.dumps(USERS, separators=(",", ":")) + "\n"
    return web.Response(body=body.encode(), content_type="application/json")


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/users", users)
    return app
