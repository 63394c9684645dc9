"""A project in a simulation: its services, gateway and broker, each at an address of its own.

Services are the project's own applications, unmodified. A command cannot run here: the scenario gives an
application in its place, or it is refused by name. The gateway reaches a service over the simulated network,
as it would on machines of their own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from msctl.config.reading.interpolate import fill
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError
from msctl.gateway.app import Gateway
from msctl.hints import did_you_mean
from msctl.hosting.frameworks import find_application
from msctl.hosting.hosted_app import HostedApp
from msctl.hosting.imported_app import hosted_app, import_app
from msctl.hosting.modules import Loader
from msctl.hosting.wsgi.app import WsgiApp
from msctl.http.host_policy import ANY
from msctl.http.server import HttpServer
from msctl.model.current_context import current_context
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import Handler
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY, Kind, TargetSnapshot
from msctl.model.variables import url_variable
from msctl.model.worker import Outcome
from msctl.simulation.around import ErrorLog, LoopClock
from msctl.simulation.broker import AMQP_PORT, SimulatedBroker, Surroundings
from msctl.simulation.faults import AWAITED_S, BROKER, Fault, FaultKind, Targets
from msctl.simulation.loop import VirtualLoop
from msctl.simulation.parties import Life, current
from msctl.supervisor.policy import Restarts, Retry, restart_limit, restart_policy

if TYPE_CHECKING:
    import aiohttp

HTTP_PORT = 80
SETTLE_S = 20.0
"""Seconds without a fault after which a system is expected to have recovered."""
EVENTUALLY_S = 60.0

T = TypeVar("T")


class ViolatedError(AssertionError):
    """An invariant does not hold; the text says which."""


class World:
    """What a scenario sees of a run."""

    def __init__(
        self,
        project: Project,
        loop: VirtualLoop,
        clock: LoopClock,
        loader: Loader,
        stubs: Mapping[str, object],
        random: Random,
    ) -> None:
        self._project = project
        self._loop = loop
        self._clock = clock
        self._loader = loader
        self._stubs = stubs
        self._registry = Registry()
        self._logs = ErrorLog(clock, lambda text: loop.history.show(loop.time(), text))
        self._lives: dict[str, Life] = {}
        self._generation: dict[str, int] = {}
        self._restarts: dict[str, Restarts] = {}
        self._started: dict[str, float] = {}
        self._random = random
        self._gateway: Gateway | None = None
        self._recovered = 0.0
        self._context = copy_context()
        self._session: aiohttp.ClientSession | None = None
        self._broker = SimulatedBroker(
            project.broker,
            Surroundings(
                clock,
                random,
                loop.call_later,
                self.note,
                lambda level, text: self._say(BROKER, level, text),
                lambda: loop.spans,
                lambda host: loop.network.party(host) or host,
                self._broker_ended,
            ),
        )
        self._broker_restart: Fault | None = None
        self.services = [
            spec for spec in project.services if spec.name != GATEWAY and spec.kind is not Kind.REMOTE
        ]

    # --- for scenarios ---------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._loop.time()

    @property
    def http(self) -> aiohttp.ClientSession:
        """A client of the gateway: `world.http.get("/orders")`."""
        if self._session is None:
            raise RuntimeError("the world has not been started")
        return self._session

    @property
    def amqp_url(self) -> str:
        return f"amqp://guest:guest@{self._loop.network.address(BROKER)}:{AMQP_PORT}/"

    def url(self, service: str) -> str:
        """The address of a service itself, beside the gateway."""
        return f"http://{self._loop.network.address(service)}:{HTTP_PORT}"

    def note(self, text: str) -> None:
        """Write into the history of the run."""
        self._loop.history.add(self.now, text)

    def expect(self, holds: object, what: str) -> None:
        """Raise ViolatedError unless the invariant holds."""
        if not holds:
            raise ViolatedError(what)

    def exactly_once(self, effects: object, expected: object, what: str = "effect") -> None:
        """Expect every one of `expected` among `effects`, and none of them twice."""
        found, wanted = list(effects), list(expected)  # type: ignore[call-overload]
        twice = sorted({str(one) for one in found if found.count(one) > 1})
        lost = sorted(str(one) for one in wanted if one not in found)
        self.expect(not twice, f"{what} {', '.join(twice)} happened more than once")
        self.expect(not lost, f"{what} {', '.join(lost)} did not happen")

    async def eventually(self, condition: Callable[[], Any], what: str, within: float = EVENTUALLY_S) -> None:
        """Wait until `condition()`, which may be a coroutine function, is true. Raises ViolatedError."""
        end = self.now + within
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            if self.now >= end:
                raise ViolatedError(f"{what} did not come true within {within:g} s")
            await asyncio.sleep(0.5)

    async def settle(self) -> None:
        """Wait until the last fault is over, and some time to recover."""
        await asyncio.sleep(max(0.0, self._recovered - self.now) + SETTLE_S)

    async def never_lost(self, queue: str) -> None:
        """Expect each message that the queue took to be acknowledged, rejected or still there.

        A message that the broker had not yet confirmed when it crashed does not count.
        """
        lost = self._broker.lost(queue)
        shown = ", ".join(body[:60].decode(errors="replace") for body in lost[:3])
        self.expect(not lost, f"the queue {queue} lost {len(lost)} of its messages: {shown}")

    async def waiting(self, queue: str) -> int:
        """The messages that are ready or unacknowledged in a queue; 0 for one that does not exist."""
        return sum(one.ready + one.unacked for one in await self._broker.queues() if one.name == queue)

    def upstreams(self) -> tuple[TargetSnapshot, ...]:
        """The instances behind the gateway's routes, each with its breaker."""
        return () if self._gateway is None else self._gateway.targets()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # --- the run ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the broker, the services in the order of their dependencies, and the gateway."""
        import aiohttp

        self.refuse_commands()
        await self._as(BROKER, self._start_broker)
        for spec in self.services:
            if spec.autostart:
                await self.start_service(spec)
        if self._project.gateway is not None:
            await self._as(GATEWAY, lambda: self._start_gateway(self._project.gateway or GatewaySpec()))
        address = self._loop.network.address(GATEWAY)
        self._session = aiohttp.ClientSession(f"http://{address}:{HTTP_PORT}")

    def targets(self) -> Targets:
        """What faults can hit: the services; and services with the broker, each other and the gateway."""
        found: list[tuple[str, str]] = []
        for spec in self.services:
            if spec.autostart:
                found.append((spec.name, BROKER))
                found += [(spec.name, one.service) for one in spec.depends_on if one.service != spec.name]
                if spec.routes:
                    found.append((GATEWAY, spec.name))
        return Targets([spec.name for spec in self.services if spec.autostart], found)

    def refuse_commands(self) -> None:
        """Raises MsctlError for commands without a stub, and for stubs without a service."""
        names = [spec.name for spec in self.services]
        for name in self._stubs:
            if name not in names:
                raise MsctlError(
                    f"the scenario has a stub of {name!r}, and there is no such service",
                    hint=did_you_mean(name, names),
                )
        missing = [spec.name for spec in self.services if spec.app is None and spec.name not in self._stubs]
        if missing:
            raise MsctlError(
                f"a command cannot run in a simulation: {', '.join(missing)}",
                hint=f"give an application for it in the scenario: stubs = {{{missing[0]!r}: create_app}}",
            )

    async def start_service(self, spec: ServiceSpec) -> None:
        """Start a service in a new life."""
        await self._as(spec.name, lambda: self._serve(spec))

    async def inject(self, faults: list[Fault]) -> None:
        """Let these faults happen at their times."""
        for fault in faults:
            self._recovered = max(self._recovered, fault.over)
            self._loop.call_at(fault.at, self._begin, fault)

    def close(self) -> None:
        """End every life, so that nothing of the run goes on."""
        for life in self._lives.values():
            life.alive = False

    def _begin(self, fault: Fault) -> None:
        self.note(f"fault: {fault}")
        until = self.now + fault.seconds
        network = self._loop.network
        pair = fault.parties[0], fault.parties[-1]
        if fault.kind is FaultKind.CRASH:
            self._crash(fault.parties[0], fault.seconds)
        elif fault.kind is FaultKind.CUT:
            network.cut_soon(pair)
        elif fault.kind is FaultKind.PARTITION:
            network.partition(pair, until)
        elif fault.kind is FaultKind.CONFIRM_LOST:
            network.lose_confirm(next(party for party in pair if party != BROKER), until)
        elif fault.kind is FaultKind.DUPLICATE:
            self._broker.duplicate_until(until)
        elif fault.kind is FaultKind.BROKER_CRASH:
            self._crash_broker(fault)
        elif fault.kind is FaultKind.REORDER or fault.parties == (BROKER,):
            self._broker.hold(fault.seconds, shuffle=fault.kind is FaultKind.REORDER)
        else:
            network.slow_down(pair, until, fault.seconds)

    def _crash_broker(self, fault: Fault) -> None:
        life = self._lives[BROKER]
        if not life.alive or self._broker_restart is not None:
            return
        self._broker_restart = fault
        self._broker.crash_soon()

        def now() -> None:
            if life.alive:
                self._broker.crash()

        self._loop.call_later(AWAITED_S, now)

    def _broker_ended(self) -> None:
        self._loop.end_life(self._lives[BROKER])
        self._loop.end_party(BROKER)
        seconds = 0.0 if self._broker_restart is None else self._broker_restart.seconds
        # In a context of the world: what the broker's life has scheduled does not run any more.
        self._loop.call_later(seconds, self._restart_broker, context=self._context)

    def _restart_broker(self) -> None:
        self._broker_restart = None
        self.note("the broker starts again")
        self._loop.create_task(self._as(BROKER, self._start_broker))

    def _crash(self, name: str, seconds: float) -> None:
        life = self._lives.get(name)
        spec = next((spec for spec in self.services if spec.name == name), None)
        if life is None or not life.alive or spec is None:
            return
        self._loop.end_life(life)
        self._loop.end_party(name)
        self._registry.withdraw(name, f"{name}-1", "it crashed")
        outcome = Outcome(success=False, reason="it crashed")
        decision = self._restarts.setdefault(name, Restarts(self._random.random)).decide(
            restart_policy(spec),
            outcome,
            self.now - self._started[name],
            limit=restart_limit(spec),
            now=self.now,
        )
        if isinstance(decision, Retry):
            self._loop.call_later(max(seconds, decision.delay), self._restart, spec)
        else:
            self.note(f"{name} is not started again: {decision.reason}")

    def _restart(self, spec: ServiceSpec) -> None:
        self.note(f"{spec.name} starts again")
        self._loop.create_task(self.start_service(spec))

    async def _as(self, party: str, work: Callable[[], Any]) -> None:
        """Run `work` as the code of a party, in a life that begins now."""
        life = self._lives[party] = Life(party)
        context = copy_context()
        context.run(current.set, life)
        await self._loop.create_task(work(), context=context)

    async def _start_broker(self) -> None:
        await self._broker.start(self._loop.network.address(BROKER))

    async def _start_gateway(self, spec: GatewaySpec) -> None:
        gateway = self._gateway = Gateway(
            replace(spec, hosts=(ANY,)),
            [route for service in self._project.services for route in service.routes],
            self._registry,
            clock=self._clock,
            services={service.name: service.policy for service in self._project.services},
            secrets=self._project.secrets,
            log=logging.getLogger("msctl.gateway"),
            identity="simulated",
        )
        await gateway.startup()
        server = HttpServer(self._traced(gateway.handle))
        await self._loop.create_server(server, self._loop.network.address(GATEWAY), HTTP_PORT)

    async def _serve(self, spec: ServiceSpec) -> None:
        host = self._loop.network.address(spec.name)
        context = ServiceContext(
            spec.name, f"{spec.name}-1", host, HTTP_PORT, self.amqp_url, self._environment(spec, host)
        )
        current_context.set(context)
        app = await self._application(spec, context)
        await app.startup()
        await self._loop.create_server(HttpServer(self._traced(app.handle)), host, HTTP_PORT)
        self._started[spec.name] = self.now
        self._registry.announce(Endpoint(spec.name, f"{spec.name}-1", base_url=self.url(spec.name)))

    def _traced(self, handle: Handler) -> Handler:
        return handle if self._loop.spans is None else self._loop.spans.handling(handle)

    async def _application(self, spec: ServiceSpec, context: ServiceContext) -> HostedApp:
        # A crash loses what modules keep, too.
        generation = self._generation[spec.name] = self._generation.get(spec.name, 0) + 1
        if generation > 1:
            self._loader.forget()
        stub = self._stubs.get(spec.name)
        if stub is None:
            app = await import_app(
                spec.app or "", spec, context, loader=self._loader, logs=self._logs, clock=self._clock
            )
        else:
            found = await find_application(stub, f"the stub of {spec.name}", context, spec.framework)
            app = hosted_app(found, spec, context, logs=self._logs, clock=self._clock)
        if isinstance(app, WsgiApp):
            raise MsctlError(
                f"a WSGI application runs in threads, which a simulation does not have: {spec.name}",
                hint=f"give an aiohttp or ASGI one in the scenario: stubs = {{{spec.name!r}: create_app}}",
            )
        return app

    def _environment(self, spec: ServiceSpec, host: str) -> Mapping[str, str]:
        urls = {url_variable(other.name): self.url(other.name) for other in self.services}
        own = {"HOST": host, "PORT": str(HTTP_PORT), "AMQP_URL": self.amqp_url}
        found = {**self._project.dotenv, **spec.file_variables, **own, **urls}
        for name, value in spec.env.items():
            found[name] = fill(value, found.get)
        return found

    def _say(self, service: str, level: str, text: str) -> None:
        self._logs.append(service, text, level)
