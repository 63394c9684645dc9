"""The observers of one process: metrics, traces and the loop monitor, started and stopped together."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msctl.clock import AsyncClock
from msctl.model.project import Project
from msctl.model.services import runs_here
from msctl.model.snapshots import Kind, Snapshot, TargetSnapshot
from msctl.telemetry.export.otlp import Exporter
from msctl.telemetry.ingest.logs import LogRecord
from msctl.telemetry.ingest.otlp import Sender
from msctl.telemetry.ingest.receiver import Receiver, Sinks
from msctl.telemetry.logs.frames import service_of
from msctl.telemetry.logs.hub import STACK, LogHub
from msctl.telemetry.loop_monitor import LoopMonitor, Stall
from msctl.telemetry.metrics import exposition
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.metrics.point import Point
from msctl.telemetry.metrics.received import MAX_SERIES, ReceivedMetrics
from msctl.telemetry.runs.recorder import RunRecorder
from msctl.telemetry.tracing.requests import RequestObserver
from msctl.telemetry.tracing.tracer import CAPACITY, Tracer

log = logging.getLogger("msctl.observation")

RECORD_EVERY_S = 5.0
TRACES_PER_RECORD = 200
"""Traces recorded at a time: converting them takes the loop a few milliseconds."""


class Observation:
    """Owns the observers of one process.

    `requests` observes requests for the supervisor and the gateway, `tracer` keeps the traces, and
    `receiver` takes spans of other processes once it is started.
    """

    def __init__(
        self,
        project: Project,
        logs: LogHub,
        env: Mapping[str, str],
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        targets: Callable[[], Sequence[TargetSnapshot]],
    ) -> None:
        """`snapshot` and `targets` are called for each scrape; `env` may name an OTLP collector."""
        self._logs = logs
        self._snapshot = snapshot
        self._targets = targets
        self._loop_monitor = LoopMonitor(self._log_stall, stuck=_report_stall, service_of=service_of)
        self._exporter = Exporter.from_env(env, project.name)
        self.tracer = Tracer(export=None if self._exporter is None else self._exporter.add)
        self._received = ReceivedMetrics()
        self._overflowed: set[str] = set()
        self._recorded: dict[str, int] = {}
        """The size of each trace as it was last recorded."""
        self.receiver = Receiver(
            project.name,
            Sinks(
                self.tracer.adopt,
                self._log_records,
                self._keep_points,
                None if self._exporter is None else self._exporter.forward,
            ),
        )
        self.metrics = Metrics(loop_lag=self._loop_monitor.lag)
        self.requests = RequestObserver(self.metrics, self.tracer, logs, page=self._page_of)
        if self._exporter is not None:
            self._exporter.flush = self.requests.flush
        self.reconfigure(project)

    def reconfigure(self, project: Project) -> None:
        """Apply a changed project; metrics and traces stay."""
        self._received.forget([spec.name for spec in project.services])
        self._loop_monitor.set_modules(
            {spec.app.partition(":")[0]: spec.name for spec in project.services if spec.app}
        )
        self.metrics.expect_limits(
            route.path for service in project.services for route in service.routes if route.rate_limit
        )
        self.requests.set_sample(0.0 if project.gateway is None else project.gateway.access_log_sample)

    def start(self) -> None:
        """Start the loop monitor and the exporter; call it in the loop."""
        self._loop_monitor.start()
        if self._exporter is not None:
            self._exporter.start()

    async def receive(self, project: Project) -> None:
        """Take the telemetry of children, if a service runs in a process of its own."""
        if all(spec.kind is Kind.REMOTE or runs_here(spec) for spec in project.services):
            return
        try:
            await self.receiver.start()
        except OSError as error:
            log.warning("traces lack the spans of services in other processes: %s", error)

    async def receive_openly(self, project: Project) -> None:
        """Take OTLP of other programs; a taken port is another collector's, and no failure."""
        port = project.dashboard.otlp_port if project.dashboard.enabled else 0
        if port:
            try:
                await self.receiver.open(port)
            except OSError as error:
                log.info("port %d takes no OTLP of other programs: %s", port, error.strerror)

    async def stop(self) -> None:
        """Stop everything; waiting spans are sent if the collector answers at once."""
        self._loop_monitor.stop()
        await self.receiver.stop()
        if self._exporter is not None:
            await self._exporter.stop()

    def record(self, recorder: RunRecorder, *, everything: bool = False) -> None:
        """Give a run's recorder what is new; `everything` at its end, else as much as costs little."""
        limit = CAPACITY if everything else TRACES_PER_RECORD
        recorder.offer(self.tracer.grown(self._recorded, limit), self.metrics.routes())

    async def keep_recording(self, recorder: RunRecorder, clock: AsyncClock) -> None:
        """Record what is new every few seconds, until cancelled."""
        while True:
            await clock.sleep(RECORD_EVERY_S)
            self.record(recorder)

    async def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their content type; `accept` is the scraper's Accept header."""
        return await self._render(None, accept)

    async def _page_of(self, service: str, accept: str) -> tuple[bytes, str]:
        return await self._render(service, accept)

    async def _render(self, service: str | None, accept: str) -> tuple[bytes, str]:
        """Render in a thread: a large stack takes tens of milliseconds."""
        snapshot = await self._snapshot()
        self.requests.flush()
        return await asyncio.to_thread(
            exposition.render,
            self.metrics.registry,
            snapshot,
            targets=self._targets(),
            received=self._received,
            service=service,
            accept=accept,
        )

    def _log_records(self, records: Sequence[LogRecord], sender: Sender) -> None:
        """Log what a program's own logger sent, beside what it printed."""
        for level, text, trace, fields in records:
            self._logs.append(
                sender.service, text, level, instance=sender.instance, fields=fields, trace=trace
            )

    def _keep_points(self, points: Sequence[Point], sender: Sender) -> None:
        refused = self._received.keep(points, sender.service, sender.instance)
        if refused and sender.service not in self._overflowed:
            self._overflowed.add(sender.service)
            log.warning(
                "%s sends more than %d series of metrics; the others are not kept", sender.service, MAX_SERIES
            )

    def _log_stall(self, stall: Stall) -> None:
        if stall.location is None:
            log.debug("%s", stall)
        else:
            self._logs.append(stall.location.service or STACK, str(stall), "warning")


def _report_stall(stall: Stall) -> None:
    """Write to stderr: the loop that writes the log does not run."""
    sys.stderr.write(f"msctl: {stall}, and still does\n")
    sys.stderr.flush()
