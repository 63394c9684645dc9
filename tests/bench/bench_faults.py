"""What the questions for faults cost while there is none: gateway and broker with them, and without.

The methods without are made from the same sources, less the lines that ask. Both run in turn on the same
objects, without sockets; the least processor time of many short rounds counts, which other programs on the
machine disturb least. `python -m tests.bench.bench_faults gateway|broker with|without ROUNDS` runs one of
them alone, to count its instructions with callgrind.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from aiohttp import web
from pamqp import commands

from msctl.broker.core.broker import Broker
from msctl.broker.session.publish_handler import PublishHandler
from msctl.broker.session.session import Session
from msctl.clock import SystemClock
from msctl.discovery.registry import Registry
from msctl.gateway.app import Gateway
from msctl.gateway.proxy import Proxy
from msctl.gateway.request.buffered import BufferedExchange
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import RequestHead
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.secret import Secret
from msctl.telemetry.logs.hub import LogHub
from tests.bench.result import Result
from tests.unit.broker.client import Client
from tests.unit.gateway.harness import hosted_app

REQUESTS = 40
MESSAGES = 400
ROUNDS = 800
AT_LEAST = 0.98

Change = tuple[str, str]
Swap = tuple[type, str, Change]
"""A method of a class, and what of its source is left out."""

GATEWAY: tuple[Swap, ...] = (
    (
        Proxy,
        "forward",
        (
            "                if (faults := self._faults.active) is None:\n"
            "                    await instance.upstream.send(out, fresh=fresh)\n"
            "                else:\n"
            "                    await self._faulty.send(faults, instance, out, fresh=fresh)\n",
            "                await instance.upstream.send(out, fresh=fresh)\n",
        ),
    ),
)
BROKER: tuple[Swap, ...] = (
    (
        PublishHandler,
        "_dispatch",
        (
            "        elif self._broker.faults is not None:\n"
            "            self._dispatch_faulty(self._broker.faults, plan, body)\n",
            "",
        ),
    ),
    (
        PublishHandler,
        "confirm",
        (
            "            if self._withheld is not None:\n"
            "                self._confirm_each(self._withheld)\n"
            "                return\n",
            "",
        ),
    ),
    (
        Session,
        "_process",
        (
            "            if (budget := self.frame_budget) is not None:\n"
            "                if budget <= 0:\n"
            '                    self._abort("cut by a fault")\n'
            "                    return True\n"
            "            elif channels is not None:\n",
            "            if channels is not None:\n",
        ),
    ),
    (
        Session,
        "_process",
        ("            if budget is not None:\n                self.frame_budget = budget - 1\n", ""),
    ),
)
Round = Callable[[], None]


def results() -> Iterator[Result]:
    for name, unit, count, pair in (
        ("gateway: a request", "req/s", REQUESTS, gateway()),
        ("broker: publish, confirm, deliver", "msg/s", MESSAGES, broker()),
    ):
        ours, theirs = (count / seconds for seconds in least(*pair))
        yield Result(f"{name}, with / without faults' questions", ours, theirs, unit, at_least=AT_LEAST)


def least(*rounds: Round) -> list[float]:
    """The least processor seconds of a round of each, in turn."""
    found = [float("inf")] * len(rounds)
    for _ in range(ROUNDS):
        for at, one in enumerate(rounds):
            began = time.process_time()
            one()
            found[at] = min(found[at], time.process_time() - began)
    return found


def in_pairs(work: Round, swaps: tuple[Swap, ...]) -> tuple[Round, Round]:
    """The same work on the same objects, with the methods as they are, and less some of their lines."""
    changed: dict[str, str] = {}
    for owner, _, (old, new) in swaps:
        source = changed.get(owner.__module__) or _source(owner)
        assert source.count(old) == 1, f"{owner.__module__} has changed: {old}"
        changed[owner.__module__] = source.replace(old, new)
    modules = {name: _module(name, source) for name, source in changed.items()}
    original = [(owner, name, getattr(owner, name)) for owner, name, _ in swaps]
    stripped = [
        (owner, name, getattr(getattr(modules[owner.__module__], owner.__name__), name))
        for owner, name, _ in swaps
    ]

    def round_with(methods: list[tuple[type, str, object]]) -> Round:
        def run() -> None:
            for owner, name, method in methods:
                setattr(owner, name, method)
            work()

        return run

    return round_with(original), round_with(stripped)


def _source(owner: type) -> str:
    file = sys.modules[owner.__module__].__file__
    assert file is not None
    return Path(file).read_text()


def _module(name: str, source: str) -> types.ModuleType:
    made = types.ModuleType(f"{name}_without_faults")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(source, made.__name__, "exec"), made.__dict__)
    return made


def gateway() -> tuple[Round, Round]:
    """Requests through a gateway to a hosted service, each with a query of its own."""
    loop = asyncio.new_event_loop()
    registry = Registry()

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=b"ok")

    async def start() -> Gateway:
        application = web.Application()
        application.router.add_get("/x", answer)
        clock = SystemClock(asyncio.sleep)
        hosted = await hosted_app(application, "x", "x-1", LogHub(clock))
        registry.announce(Endpoint("x", "x-1", handler=hosted.handle))
        log = logging.getLogger("bench")
        made = Gateway(GatewaySpec(), [RouteSpec("/x", "x")], registry, clock=clock, log=log)
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

    return in_pairs(lambda: loop.run_until_complete(serve()), GATEWAY)


def broker() -> tuple[Round, Round]:
    """Confirmed publishes to a queue with a consumer, as bytes in and bytes out."""
    shared = Broker(
        clock=SystemClock(), log=lambda _level, _text: None, users={"guest": Secret("guest")}, vhosts=("/",),
        memory_limit=1 << 30, max_message_size=1 << 20,
    )  # fmt: skip
    client = Client(shared)
    client.open()
    client.queue()
    client.call(commands.Confirm.Select(), commands.Confirm.SelectOk)
    client.consume(no_ack=True)
    data = client.publish_bytes(b"x" * 12) * 100
    session = client.session

    def publish() -> None:
        for _ in range(MESSAGES // 100):
            session.receive(data)
            while session.process(600):
                pass
            while shared.pump(1000):
                pass
            session.take_output()
            session.outbox.written(writable=True)

    return in_pairs(publish, BROKER)


if __name__ == "__main__":
    what, how = sys.argv[1:3]
    one = {"gateway": gateway, "broker": broker}[what]()[how == "without"]
    for _ in range(int(sys.argv[3])):
        one()
