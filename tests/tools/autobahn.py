"""Autobahn's WebSocket cases against the gateway; the suite itself is not a dependency of the tests.

    python -m tests.tools.autobahn serve SPEC [ADDRESS]   runs the servers, writes SPEC
    wstest -m fuzzingclient -s SPEC                         the suite (it needs Python 2.7)
    python -m tests.tools.autobahn compare SPEC           compare outcomes; fails if one is worse

Each echo service is reached directly and through the gateway: an ASGI application, aiohttp's, hosted and
over a socket, and the one at ADDRESS (host:port), if given. A proxy must make no case of the service behind
it worse. Edit "cases" of SPEC for some of them: 12.* and 13.* (compression) take hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import WSMsgType, web

from msctl.model.endpoint import Endpoint
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.hosted import hosted
from tests.unit.gateway.harness import HOSTED, REMOTE, running

DIRECT = {"asgi-hosted": "asgi", "hosted": "aiohttp", "remote": "aiohttp", "other-proxied": "other"}
"""What each of the gateway's servers is compared with."""
RANK = [
    "OK",
    "INFORMATIONAL",
    "UNIMPLEMENTED",
    "NON-STRICT",
    "UNCLEAN",
    "WRONG CODE",
    "FAILED BY CLIENT",
    "FAILED",
]
"""The suite's outcomes, from the best."""


async def echo(request: web.Request) -> web.StreamResponse:
    socket = web.WebSocketResponse(max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})


async def serve(spec: Path, other: str | None) -> None:
    names = ["asgi-hosted", "hosted", "remote", *(["other-proxied"] if other else [])]
    app = web.Application()
    for name in ["", *names]:
        app.router.add_get(f"/{name}", echo)
    routes = [RouteSpec(f"/{name}", name) for name in names]
    async with hosted(asgi_echo) as asgi, running(*routes, spec=GatewaySpec(max_body=0)) as gateway:
        handler = asgi.app.handle
        gateway.registry.announce(Endpoint("asgi-hosted", "asgi-hosted-1", handler=handler))
        await gateway.serve("hosted", app, HOSTED)
        await gateway.serve("remote", app, REMOTE)
        direct = {
            "asgi": f"http://127.0.0.1:{asgi.port}",
            "aiohttp": str(gateway.registry.endpoints("remote")[0].base_url),
        }
        if other:
            direct["other"] = f"http://{other}"
            gateway.announce("other-proxied", direct["other"])
        urls = direct | {name: f"http://127.0.0.1:{gateway.port}/{name}" for name in names}
        servers = [{"agent": name, "url": f"ws{url[4:]}"} for name, url in urls.items()]
        cases = {"cases": ["*"], "exclude-cases": [], "exclude-agent-cases": {}}
        spec.write_text(json.dumps({"outdir": str(spec.parent / "reports"), "servers": servers, **cases}))
        print(f"wrote {spec}; Ctrl-C ends", flush=True)
        await asyncio.Event().wait()


def compare(spec: Path) -> int:
    """Print the outcomes of each section; returns how many cases the gateway made worse."""
    report = json.loads((Path(json.loads(spec.read_text())["outdir"]) / "index.json").read_text())
    for agent, cases in sorted(report.items()):
        sections: dict[int, Counter[str]] = {}
        for case, result in cases.items():
            sections.setdefault(int(case.split(".")[0]), Counter())[worst(result)] += 1
        for section, counts in sorted(sections.items()):
            print(f"{agent:14} {section:3}  " + ", ".join(f"{n} {what}" for what, n in counts.most_common()))
    worse = 0
    for proxied, direct in DIRECT.items():
        for case, result in sorted(report.get(proxied, {}).items()):
            was, now = worst(report[direct][case]), worst(result)
            if RANK.index(now) > RANK.index(was):
                worse += 1
                print(f"worse: {case} {proxied}: {now}, {direct}: {was}")
    print(f"{worse} cases worse through the gateway")
    return worse


def worst(result: dict[str, str]) -> str:
    return max(result["behavior"], result["behaviorClose"], key=RANK.index)


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        sys.exit(min(compare(Path(sys.argv[2])), 1))
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None))
