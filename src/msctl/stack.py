"""The composition root: the one place that builds the parts of a stack and connects them.

`Stack` is a running project as SystemView shows it; life.py runs it in a process of its own.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from msctl import __version__
from msctl.amqp.desk import Desk
from msctl.broker.server import BrokerServer
from msctl.clock import AsyncClock
from msctl.control.paths import StackPaths
from msctl.control.record import StackRecord, clear_record
from msctl.control.server import ControlServer
from msctl.dashboard.app import Dashboard, Parts
from msctl.discovery.registry import Registry
from msctl.errors import MsctlError, NotRunningError, PortTakenError
from msctl.gateway.app import Gateway
from msctl.model import (
    GATEWAY,
    Event,
    LogLine,
    LogQuery,
    Project,
    ServiceContext,
    Snapshot,
    Trace,
    TraceQuery,
    TraceSummary,
)
from msctl.supervisor.brokers import make_broker
from msctl.supervisor.names import select
from msctl.supervisor.runner import Supervisor
from msctl.telemetry import exposition
from msctl.telemetry.broadcast import Broadcast
from msctl.telemetry.lag import Block, LoopWatch
from msctl.telemetry.logs import STACK, LogHub
from msctl.telemetry.metrics import Metrics
from msctl.telemetry.otlp import Exporter
from msctl.telemetry.requests import Requests, service_of
from msctl.telemetry.tracing import Tracer

log = logging.getLogger("msctl.stack")

STOP_TIMEOUT = 30.0
"""Seconds within which the whole stack stops, unless `down -t` says otherwise."""


class Stack:
    """A project's services, gateway and broker in this process. Implements model.SystemView."""

    def __init__(
        self,
        project: Project,
        paths: StackPaths,
        services: Sequence[str],
        *,
        clock: AsyncClock,
        logs: LogHub,
        serve_argv: Callable[[str, str], Sequence[str]],
    ) -> None:
        """`services` are names or globs of what `up` starts; none means all that start by themselves.

        Raises ConfigError and UnknownServiceError.
        """
        self._project = project
        self._chosen = self._select(services)
        self._paths = paths
        self._clock = clock
        self._logs = logs
        self._began = clock.monotonic()
        self._events: Broadcast[Event] = Broadcast()
        self._seq = 0
        self._ending = asyncio.Event()
        self._stop_timeout = STOP_TIMEOUT
        self._registry = Registry()
        self._watch = LoopWatch(
            self._report_block,
            stuck=_shout,
            service_of=service_of,
            modules={spec.app.partition(":")[0]: spec.name for spec in project.services if spec.app},
        )
        self._exporter = Exporter.of(os.environ, project.name)
        self._tracer = Tracer(export=None if self._exporter is None else self._exporter.take)
        self._metrics = Metrics(loop_lag=self._watch.lag)
        self._requests = Requests(
            self._metrics,
            self._tracer,
            logs,
            sample=0.0 if project.gateway is None else project.gateway.access_log_sample,
            page=self._service_metrics,
        )
        self._metrics.expect_limits(
            route.path for service in project.services for route in service.routes if route.rate_limit
        )
        self._gateway: Gateway | None = None
        self._page: str | None = None
        self._broker = make_broker(
            project.broker,
            paths.folder,
            clock=clock,
            log=self._log_broker,
            embedded=self._make_server,
        )
        self._supervisor = Supervisor(
            project,
            clock=clock,
            logs=logs,
            registry=self._registry,
            builtin={GATEWAY: self._make_gateway},
            amqp_url=lambda: self._broker.url,
            on_event=self._record,
            serve_argv=serve_argv,
            ledger=paths.children,
            instrument=self._requests,
        )
        self._dashboard = (
            Dashboard(
                project.dashboard,
                self,
                Parts(self._all_metrics, traces=self._tracer, queues=Desk(lambda: self._broker.url)),
            )
            if project.dashboard.enabled
            else None
        )
        self._control = ControlServer(self, paths.socket, traces=self)

    # --- its life ---------------------------------------------------------------------------------

    async def open(self) -> None:
        """Bind what the services listen on, and open the control socket.

        Raises PortTakenError or MsctlError; `end` is owed either way.
        """
        self._supervisor.reserve(self._chosen)
        self._write_record()
        self._watch.start()
        if self._exporter is not None:
            self._exporter.start()
        await self._control.start()
        await self._open_dashboard()

    async def up(self) -> None:
        """Start the broker and then the services; returns when each is ready or has failed.

        Raises BrokerError where the stack runs the broker itself and it does not come up.
        """
        await self._broker.start()
        self._write_record()
        await self._supervisor.start(self._chosen)
        self._write_record()

    def ask_to_end(self, timeout: float | None = None) -> None:
        """Let `ended` return; `timeout` is how many seconds the services may then take."""
        if timeout is not None:
            self._stop_timeout = timeout
        self._ending.set()

    async def ended(self) -> None:
        """Wait until somebody asks the stack to end."""
        await self._ending.wait()

    async def end(self) -> None:
        """Stop everything, in order; the control socket goes last but for the lock."""
        await self._supervisor.shutdown(self._stop_timeout)
        await self._broker.stop()
        if self._dashboard is not None:
            await self._dashboard.stop()
        if self._exporter is not None:
            await self._exporter.stop()
        self._watch.stop()
        await self._control.stop()
        clear_record(self._paths)

    def kill(self) -> None:
        """End every child at once, without asking it."""
        self._supervisor.kill()

    # --- SystemView -------------------------------------------------------------------------------

    async def snapshot(self) -> Snapshot:
        return Snapshot(
            project=self._project.name,
            root=self._root,
            version=__version__,
            pid=os.getpid(),
            uptime_s=self._clock.monotonic() - self._began,
            services=self._metrics.annotate(self._supervisor.snapshot()),
            broker=await self._broker.snapshot(),
            dashboard=self._page,
        )

    async def events(self) -> AsyncIterator[Event]:
        with self._events.subscribe() as feed:
            for event in self._present():
                yield event
            while True:
                for event in (await feed.take())[0]:
                    yield event

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        known = (*self._names, STACK, "broker")
        names = select(query.services, known) if query.services else ()
        return self._logs.follow(replace(query, services=tuple(names)))

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        self._refuse_while_ending()
        await self._supervisor.start(self._select(services), deps=deps)
        return await self.snapshot()

    async def stop(self, services: Sequence[str]) -> Snapshot:
        await self._supervisor.stop(self._select(services, everything=True))
        return await self.snapshot()

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        self._refuse_while_ending()
        await self._supervisor.restart(self._select(services), deps=deps)
        return await self.snapshot()

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        self._refuse_while_ending()
        select(list(counts), self._names)
        await self._supervisor.scale(counts)
        return await self.snapshot()

    async def purge_queue(self, name: str) -> int:
        return self._broker.purge(name)

    async def delete_queue(self, name: str) -> int:
        return self._broker.delete(name)

    async def shutdown(self, timeout: float | None = None) -> None:
        self.ask_to_end(timeout)

    # --- TraceView --------------------------------------------------------------------------------

    async def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        return await self._tracer.traces(query)

    async def trace(self, trace_id: str) -> Trace:
        return await self._tracer.trace(trace_id)

    # --- helpers ----------------------------------------------------------------------------------

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self._project.services)

    @property
    def _root(self) -> str | None:
        return None if self._project.root is None else str(self._project.root)

    def _select(self, patterns: Sequence[str], *, everything: bool = False) -> list[str]:
        """Names for the patterns; for none, all services (or all that start by themselves)."""
        if patterns:
            return select(patterns, self._names)
        return [spec.name for spec in self._project.services if everything or spec.autostart]

    def _refuse_while_ending(self) -> None:
        if self._ending.is_set():
            raise NotRunningError(
                f"the stack of the project {self._project.name!r} is stopping",
                hint="wait for it to end, then start it again with: msctl up",
            )

    def _write_record(self) -> None:
        addresses = [address for service in self._supervisor.snapshot() for address in service.addresses]
        StackRecord(
            self._project.name,
            self._root,
            os.getpid(),
            tuple(dict.fromkeys(addresses)),
            broker_url=self._broker.url,
        ).write(self._paths)

    def _record(self, event: Event) -> None:
        self._seq = event.seq
        self._events.publish(event)

    def _present(self) -> list[Event]:
        """The state of every instance now, as if it had just come to be."""
        now = self._clock.time()
        return [
            Event(self._seq, now, service.name, instance.name, instance.state, instance.reason)
            for service in self._supervisor.snapshot()
            for instance in service.instances
        ]

    def _log_broker(self, level: str, text: str) -> None:
        self._logs.append("broker", text, level)

    def _make_server(self, users: Mapping[str, str], vhost: str) -> BrokerServer:
        return BrokerServer(clock=self._clock, log=self._log_broker, users=users, vhosts=(vhost,))

    def _make_gateway(self, _context: ServiceContext) -> Gateway:
        spec = self._project.gateway
        if spec is None:
            raise MsctlError("the gateway is switched off in the configuration")
        routes = [route for service in self._project.services for route in service.routes]
        self._gateway = Gateway(spec, routes, self._registry, clock=self._clock, observer=self._requests)
        return self._gateway

    # --- what can be seen of it -------------------------------------------------------------------

    async def _open_dashboard(self) -> None:
        """Serve the page; a port that is taken costs the page, not the stack."""
        if self._dashboard is None:
            return
        try:
            self._page = await self._dashboard.start()
        except PortTakenError as error:
            log.warning("%s; %s", error.message, error.hint)
        else:
            log.info("the dashboard is at %s", self._page)

    async def _all_metrics(self, accept: str) -> tuple[bytes, str]:
        return await self._render(None, accept)

    async def _service_metrics(self, service: str, accept: str) -> tuple[bytes, str]:
        return await self._render(service, accept)

    async def _render(self, service: str | None, accept: str) -> tuple[bytes, str]:
        """In a thread, as it takes a while for a large stack."""
        snapshot = await self.snapshot()
        targets = self._gateway.targets() if self._gateway is not None else ()
        return await asyncio.to_thread(
            exposition.render,
            self._metrics.registry,
            snapshot,
            targets=targets,
            service=service,
            accept=accept,
        )

    def _report_block(self, block: Block) -> None:
        if block.place is None:
            log.debug("%s", block)
        else:
            self._logs.append(block.place.service or STACK, str(block), "warning")


def _shout(block: Block) -> None:
    """The loop that would log this does not run, so it is said where it can be."""
    sys.stderr.write(f"msctl: {block}, and it goes on\n")
    sys.stderr.flush()
