"""Code of a hosted service knows its context, at import, in its lifespan and in requests."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import msctl
from msctl.clock import SystemClock
from msctl.hosting.hosted_worker import HostedWorker
from msctl.hosting.imported_app import import_app
from msctl.hosting.modules import Loader
from msctl.http.server import HttpServer
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import ServiceSpec
from msctl.telemetry.logs.hub import LogHub

SOURCE = """
import msctl
AT_IMPORT = msctl.service_context().name
seen = []
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        seen.append(msctl.service_context().name)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        seen.append(msctl.service_context().name)
        await send({"type": "lifespan.shutdown.complete"})
    else:
        text = f"{AT_IMPORT} {seen} {msctl.service_context().name} {scope['state']['msctl'].name}"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": text.encode()})
"""


async def test_context_is_known_wherever_the_services_code_runs(tmp_path: Path) -> None:
    (tmp_path / "context_app.py").write_text(SOURCE)
    loop, clock = asyncio.get_running_loop(), SystemClock(asyncio.sleep)
    logs, loader = LogHub(clock), Loader(tmp_path)
    context = ServiceContext(
        name="api", instance="api-1", host="127.0.0.1", port=None, amqp_url="amqp://x/", env={}
    )

    async def make(context: ServiceContext) -> Any:
        spec = ServiceSpec("api", app="context_app:app")
        return await import_app("context_app:app", spec, context, loader=loader, logs=logs, clock=clock)

    worker = HostedWorker(make, context, listener=None, prefixes=lambda: (), logs=logs, clock=clock)
    await asyncio.create_task(worker.start())
    assert worker.endpoint is not None
    assert worker.endpoint.handler is not None
    server = HttpServer(worker.endpoint.handler)
    listening = await loop.create_server(server, "127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b"api ['api'] api api")
        writer.close()
    finally:
        listening.close()
        await worker.stop(1.0)
        await server.shutdown(1.0)
        loader.close()
    with pytest.raises(LookupError):
        msctl.service_context()
