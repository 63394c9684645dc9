"""Starlette with a mount, a middleware and static files."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles


async def home(_: Request) -> PlainTextResponse:
    return PlainTextResponse("stars " * 200)


async def star(request: Request) -> JSONResponse:
    return JSONResponse(
        {"name": request.path_params["name"], "url": str(request.url_for("star", name="sun"))}
    )


app = Starlette(
    routes=[
        Route("/", home),
        Route("/stars/{name}", star, name="star"),
        Mount("/files", StaticFiles(directory=Path(__file__).parent)),
    ],
    middleware=[Middleware(GZipMiddleware, minimum_size=500)],
)
