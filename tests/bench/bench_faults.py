"""What the questions for faults cost while there is none: gateway and broker with them, and without.

The versions without are made from the same sources, less the lines that ask. Both run in turn in one process
without sockets; the least processor time of many short rounds counts, which other programs on the machine
disturb least. `python -m tests.bench.bench_faults gateway|broker with|without` runs one of them alone, to
count its instructions with callgrind.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from aiohttp import web

from msctl.broker.core.broker import Broker
from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.gateway import app as gateway_app
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.buffered import BufferedExchange
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import RequestHead
from msctl.model.project import GatewaySpec, RouteSpec
from msctl.secret import Secret
from msctl.telemetry.logs.hub import LogHub
from tests.bench.result import Result
from tests.unit.broker.client import Client
from tests.unit.gateway.harness import hosted_app

REQUESTS = 400
MESSAGES = 2000
ROUNDS = 40
AT_LEAST = 0.98

Change = tuple[str, str]
PROXY: tuple[str, Change] = (
    "msctl.gateway.proxy",
    (
        "                if (faults := self._faults.active) is None:\n"
        "                    await instance.upstream.send(out, fresh=fresh)\n"
        "                else:\n"
        "                    await self._faulty.send(faults, instance, out, fresh=fresh)\n",
        "                await instance.upstream.send(out, fresh=fresh)\n",
    ),
)
PUBLISH_HANDLER: tuple[str, Change, Change] = (
    "msctl.broker.session.publish_handler",
    (
        "        elif self._broker.faults is not None:\n"
        "            self._dispatch_faulty(self._broker.faults, plan, body)\n",
        "",
    ),
    (
        "            if self._withheld is not None:\n"
        "                self._confirm_each(self._withheld)\n"
        "                return\n",
        "",
    ),
)
SESSION: tuple[str, Change, Change] = (
    "msctl.broker.session.session",
    (
        "            if (budget := self.frame_budget) is not None:\n"
        "                if budget <= 0:\n"
        '                    self._abort("cut by a fault")\n'
        "                    return True\n"
        "            elif channels is not None:\n",
        "            if channels is not None:\n",
    ),
    (
        "            if budget is not None:\n                self.frame_budget = budget - 1\n",
        "",
    ),
)

Round = Callable[[], None]


def results() -> Iterator[Result]:
    for name, make in (("gateway: a request", gateway), ("broker: publish, confirm, deliver", broker)):
        ours, theirs = least(make(asks=True), make(asks=False))
        yield Result(
            f"{name}, with / without faults' questions", 1 / ours, 1 / theirs, "1/s", at_least=AT_LEAST
        )


def least(*rounds: Round) -> list[float]:
    """The least processor seconds of a round of each, in turn."""
    found = [float("inf")] * len(rounds)
    for _ in range(ROUNDS):
        for at, one in enumerate(rounds):
            began = time.process_time()
            one()
            found[at] = min(found[at], time.process_time() - began)
    return found


def without(module: str, *changes: Change) -> types.ModuleType:
    """A module from the source of another, less some of its lines."""
    original = importlib.import_module(module)
    assert original.__file__ is not None
    source = Path(original.__file__).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"{module} has changed: {old}"
        source = source.replace(old, new)
    changed = types.ModuleType(f"{module}_without")
    sys.modules[changed.__name__] = changed  # dataclasses look their module up
    exec(compile(source, f"{original.__file__} without", "exec"), changed.__dict__)
    return changed


def gateway(*, asks: bool) -> Round:
    """Requests through a gateway to a hosted service, each with a query of its own."""
    loop = asyncio.new_event_loop()
    proxy = Proxy if asks else without(*PROXY).Proxy
    registry = Registry()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"ok")

    async def start() -> gateway_app.Gateway:
        application = web.Application()
        application.router.add_get("/x", answer)
        clock = SystemClock(asyncio.sleep)
        hosted = await hosted_app(application, "x", "x-1", LogHub(clock))
        registry.announce(Endpoint("x", "x-1", handler=hosted.handle))
        with mock.patch.object(gateway_app, "Proxy", proxy):
            made = gateway_app.Gateway(
                GatewaySpec(), [RouteSpec("/x", "x")], registry, clock=clock, log=logging.getLogger("bench")
            )
        await made.startup()
        return made

    made = loop.run_until_complete(start())
    fields = ((b"Host", b"localhost"), (b"User-Agent", b"bench"), (b"Accept", b"*/*"))
    outer: Any = types.SimpleNamespace(client=("127.0.0.1", 1), server=("127.0.0.1", 2), scheme="http")

    async def serve() -> None:
        for number in range(REQUESTS):
            exchange = BufferedExchange(outer, RequestHead("GET", f"/x?n={number}", (1, 1), fields), None)
            await made.handle(exchange)
            assert exchange.status == 200

    return lambda: loop.run_until_complete(serve())


def broker(*, asks: bool) -> Round:
    """Confirmed publishes to a queue with a consumer, as bytes in and bytes out."""
    if asks:
        client = _client()
    else:
        handler = without(*PUBLISH_HANDLER).PublishHandler
        session = without(*SESSION).Session
        with (
            mock.patch("msctl.broker.session.channel.PublishHandler", handler),
            mock.patch("tests.unit.broker.client.Session", session),
        ):
            client = _client()
    data = client.publish_bytes(b"x" * 12) * 100
    session_, shared = client.session, client.broker

    def publish() -> None:
        for _ in range(MESSAGES // 100):
            session_.receive(data)
            while session_.process(600):
                pass
            while shared.pump(1000):
                pass
            session_.take_output()
            session_.outbox.written(writable=True)

    return publish


def _client() -> Client:
    from pamqp import commands

    shared = Broker(
        clock=SystemClock(), log=lambda _level, _text: None, users={"guest": Secret("guest")}, vhosts=("/",),
        memory_limit=1 << 30, max_message_size=1 << 20,
    )  # fmt: skip
    client = Client(shared)
    client.open()
    client.queue()
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    client.consume(no_ack=True)
    return client


if __name__ == "__main__":
    what, how = sys.argv[1:3]
    one = {"gateway": gateway, "broker": broker}[what](asks=how == "with")
    for _ in range(int(sys.argv[3])):
        one()
