"""The hello service of chapter 3 of the course."""

from aiohttp import web


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="Hello, World!")


def create_app() -> web.Application:
    app = web.Application()
    app.router.add_get("/hello", hello)
    return app
