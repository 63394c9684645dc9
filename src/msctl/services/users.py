"""The users service of chapter 5 of the course."""

import json

from aiohttp import web

USERS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}]
# Byte for byte what Go's encoder writes in the course: no spaces, and a final newline.
ENCODER = json.JSONEncoder(separators=(",", ":"))


async def users(_request: web.Request) -> web.Response:
    body = ENCODER.encode(USERS) + "\n"
    return web.Response(body=body.encode(), content_type="application/json")


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/users", users)
    return app
