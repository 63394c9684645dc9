"""The example shop: written into a folder, and its hosted services on ports of their own."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from msctl.model.service_context import ServiceContext


def only(program: str) -> Callable[[str], str | None]:
    """A machine that has this one program."""
    return lambda name: name if name == program else None


def write(files: Mapping[str, str], folder: Path) -> None:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")


async def post(http: aiohttp.ClientSession, url: str, body: str) -> tuple[int, Any]:
    async with http.post(url, data=body) as response:
        return response.status, await response.json(content_type=None)


@asynccontextmanager
async def hosted(file: Path, amqp_url: str, env: Mapping[str, str]) -> AsyncIterator[str]:
    """A hosted service of the shop on a port of its own."""
    spec = importlib.util.spec_from_file_location(f"shop_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    runner = web.AppRunner(
        module.create_app(ServiceContext(file.stem, f"{file.stem}-1", "127.0.0.1", None, amqp_url, env))
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
