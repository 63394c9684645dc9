"""A system of our own parts: gateway, broker with its log, reconnecting publisher and consumer.

`jobs` takes a job over HTTP and publishes it; `worker` does it. What must hold whatever fails: a job that was
accepted is done, no request that is not idempotent reaches a service twice, no message is lost in the broker,
and the gateway serves again once the network does.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from aiohttp import ClientError, web
from pamqp.commands import Basic

from msctl.amqp import (
    Delivery,
    QueueEndpoint,
    ReconnectingConsumer,
    ReconnectingPublisher,
    parse_url,
    running,
)
from msctl.amqp.queues import Notify, QueueUse, open_with_queue
from msctl.amqp.reconnecting import UseConnection, keep_connected
from msctl.clock import SystemClock
from msctl.config.reading.load import load
from msctl.errors import MsctlError
from msctl.model.project import Project
from msctl.model.service_context import ServiceContext
from msctl.model.snapshots import BreakerState
from msctl.simulation.faults import FaultKind
from msctl.simulation.run import RunResult, Scenario, simulate_once
from msctl.simulation.world import World

QUEUE = "jobs"
PUBLISHER: web.AppKey[ReconnectingPublisher] = web.AppKey("publisher", ReconnectingPublisher)
EVERYTHING = list(FaultKind)
SECONDS = 40.0
CONFIG = """
[services.jobs]
command = "jobs"
routes = ["/jobs"]
restart = "always"
[services.worker]
command = "worker"
restart = "always"
[gateway]
breaker_failures = 2
response_timeout = "1s"
[broker]
durable = "{durable}"
"""


class DurableEndpoint(QueueEndpoint):
    """An endpoint whose queue outlives the broker."""

    async def keep_connected(self, use: UseConnection, report: Notify) -> None:
        await keep_connected(
            lambda: open_with_queue(
                self.url, QueueUse(self.queue, durable=True), name=self.name, notify=self.notify
            ),
            use,
            notify=report,
            clock=SystemClock(asyncio.sleep),
        )


class OwnSystem:
    """The applications of one run, and what they saw."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.done: Counter[str] = Counter()

    def stubs(self) -> dict[str, object]:
        self.received.clear()  # each run begins with nothing
        self.done.clear()
        return {"jobs": self.create_jobs, "worker": self.create_worker}

    def create_jobs(self, context: ServiceContext) -> web.Application:
        async def take(request: web.Request) -> web.Response:
            body = await request.read()
            self.received[body.decode()] += 1
            try:
                await request.app[PUBLISHER].publish(body, Basic.Properties(delivery_mode=2))
            except MsctlError:
                return web.Response(status=503)
            return web.Response(status=202)

        async def show(_request: web.Request) -> web.Response:
            return web.Response(text="here")

        async def publisher(app: web.Application) -> AsyncIterator[None]:
            app[PUBLISHER] = ReconnectingPublisher(_endpoint(context))
            async with running(app[PUBLISHER]):
                yield

        app = web.Application()
        app.cleanup_ctx.append(publisher)
        app.router.add_post("/jobs", take)
        app.router.add_get("/jobs", show)
        return app

    def create_worker(self, context: ServiceContext) -> web.Application:
        async def do(delivery: Delivery) -> None:
            await asyncio.sleep(0.2)
            self.done[delivery.body.decode()] += 1

        async def consuming(_app: web.Application) -> AsyncIterator[None]:
            async with running(ReconnectingConsumer(_endpoint(context), do)):
                yield

        app = web.Application()
        app.cleanup_ctx.append(consuming)
        return app

    async def scenario(self, world: World) -> None:
        accepted: list[str] = []
        asked = iter(range(10_000))

        async def order() -> None:
            for _ in range(8):
                job = f"job {next(asked)}"
                try:
                    async with world.http.post("/jobs", data=job.encode()) as response:
                        if response.status == 202:
                            accepted.append(job)
                except (ClientError, OSError):
                    pass
                await world.sleep(1.5)

        async def look() -> None:
            for _ in range(40):
                await self._answers(world)
                await world.sleep(0.5)

        await asyncio.gather(order(), order(), look())
        await world.settle()
        await world.eventually(lambda: self._answers(world), "an answer of /jobs")
        await world.eventually(lambda: self._closed(world), "a closed breaker of /jobs")
        await world.eventually(
            lambda: all(self.done[job] for job in accepted), "the end of each accepted job"
        )
        await world.never_lost(QUEUE)
        twice = [job for job, count in self.received.items() if count > 1]
        world.expect(not twice, f"the gateway sent {', '.join(twice)} more than once")

    async def _closed(self, world: World) -> bool:
        await self._answers(world)
        return all(target.breaker is BreakerState.CLOSED for target in world.upstreams())

    @staticmethod
    async def _answers(world: World) -> bool:
        try:
            async with world.http.get("/jobs") as response:
                return response.status == 200
        except (ClientError, OSError):
            return False


def _endpoint(context: ServiceContext) -> QueueEndpoint:
    return DurableEndpoint(parse_url(context.amqp_url), QUEUE, context.name, lambda _text: None)


def own_project(folder: Path, durable: str) -> Project:
    file = folder / "msctl.toml"
    file.write_text(CONFIG.format(durable=durable))
    return load(file=file, cwd=folder, env={}, env_file=None, overrides={}).project


def run_own(project: Project, seed: int, kinds: list[FaultKind] = EVERYTHING) -> RunResult:
    system = OwnSystem()
    return simulate_once(project, Scenario(system.scenario, system.stubs, SECONDS), seed, kinds)


def first_failure(find: Callable[[int], RunResult], seeds: range) -> RunResult | None:
    """The first run that fails."""
    return next((found for seed in seeds if (found := find(seed)).failure), None)
