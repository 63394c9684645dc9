"""All that observes one process: its measures, its traces, its event loop; built and ended together."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence

from msctl.model.project import Project
from msctl.model.snapshots import Snapshot, TargetSnapshot
from msctl.telemetry.export.otlp import Exporter
from msctl.telemetry.ingest.receiver import Receiver
from msctl.telemetry.logs.frames import service_of
from msctl.telemetry.logs.hub import STACK, LogHub
from msctl.telemetry.loop_monitor import Block, LoopWatch
from msctl.telemetry.metrics import exposition
from msctl.telemetry.metrics.metrics import Metrics
from msctl.telemetry.tracing.requests import Requests
from msctl.telemetry.tracing.tracer import Tracer

log = logging.getLogger("msctl.observation")


class Observation:
    """`requests` is what the supervisor and the gateway are given, `tracer` what keeps the traces, and
    `receiver` what takes those of other processes, once somebody starts it."""

    def __init__(
        self,
        project: Project,
        logs: LogHub,
        env: Mapping[str, str],
        *,
        snapshot: Callable[[], Awaitable[Snapshot]],
        targets: Callable[[], Sequence[TargetSnapshot]],
    ) -> None:
        """`snapshot` and `targets` are what is asked when somebody scrapes; `env` may name a collector."""
        self._logs = logs
        self._snapshot = snapshot
        self._targets = targets
        self._watch = LoopWatch(
            self._report,
            stuck=_shout,
            service_of=service_of,
        )
        self._exporter = Exporter.of(env, project.name)
        self.tracer = Tracer(export=None if self._exporter is None else self._exporter.take)
        self.receiver = Receiver(
            project.name, self.tracer.adopt, None if self._exporter is None else self._exporter.forward
        )
        self.metrics = Metrics(loop_lag=self._watch.lag)
        self.requests = Requests(self.metrics, self.tracer, logs, page=self._page_of)
        if self._exporter is not None:
            self._exporter.settle = self.requests.settle
        self.reconfigure(project)

    def reconfigure(self, project: Project) -> None:
        """Go by this project from now on; what was measured stays."""
        self._watch.attribute(
            {spec.app.partition(":")[0]: spec.name for spec in project.services if spec.app}
        )
        self.metrics.expect_limits(
            route.path for service in project.services for route in service.routes if route.rate_limit
        )
        self.requests.sample(0.0 if project.gateway is None else project.gateway.access_log_sample)

    def start(self) -> None:
        """Begin; called in the loop."""
        self._watch.start()
        if self._exporter is not None:
            self._exporter.start()

    async def stop(self) -> None:
        """End; spans that wait for their collector are sent, if it takes them at once."""
        self._watch.stop()
        await self.receiver.stop()
        if self._exporter is not None:
            await self._exporter.stop()

    async def page(self, accept: str) -> tuple[bytes, str]:
        """All metrics and their content type, for a scraper that accepts this."""
        return await self._render(None, accept)

    async def _page_of(self, service: str, accept: str) -> tuple[bytes, str]:
        return await self._render(service, accept)

    async def _render(self, service: str | None, accept: str) -> tuple[bytes, str]:
        """In a thread, as it takes a while for a large stack."""
        snapshot = await self._snapshot()
        self.requests.settle()
        return await asyncio.to_thread(
            exposition.render,
            self.metrics.registry,
            snapshot,
            targets=self._targets(),
            service=service,
            accept=accept,
        )

    def _report(self, block: Block) -> None:
        if block.place is None:
            log.debug("%s", block)
        else:
            self._logs.append(block.place.service or STACK, str(block), "warning")


def _shout(block: Block) -> None:
    """The loop that would log this does not run, so it is said where it can be."""
    sys.stderr.write(f"msctl: {block}, and it goes on\n")
    sys.stderr.flush()
