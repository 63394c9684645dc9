"""The checks of one instance while it runs.

They report whether it is ready, and return once it must be replaced, with the reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.model.worker import Report
from msctl.processes.probe_schedule import (
    DEFAULT_TIMING,
    FAILING_EVERY,
    FAILURE_THRESHOLD,
    READY_EVERY,
    STARTING_EVERY,
    ProbeOutcome,
    Schedule,
    Timing,
)
from msctl.processes.probes import Probe, run_probe

MIN_UPTIME_S = 0.25


class ProbeFaults(Protocol):
    """What is broken on purpose about the checks of instances."""

    def failing(self, service: str, instance: str) -> str | None:
        """Why the check fails; None lets it run."""
        ...

    def slowness(self, service: str, instance: str) -> float:
        """The seconds by which an instance that starts is ready later."""
        ...


@dataclass(slots=True)
class ProcessChecks:
    """The checks of one process from its start.

    If `printed` is given, the process is ready when it is set (the ready line was printed), and `probe`, if
    given, runs only from then on. Until `connect`, if given, has passed once, `probe` does not run: programs
    log requests, not connections. `log` takes each new failure of `probe`.
    """

    clock: AsyncClock
    started_at: float
    deadline: float
    probe: Probe | None
    printed: asyncio.Event | None
    liveness: bool
    timing: Timing = DEFAULT_TIMING
    connect: Probe | None = None
    log: Callable[[str], None] = lambda _text: None
    failing: Callable[[], str | None] = lambda: None
    """Why the probe fails on purpose; None lets it run."""
    slowness: Callable[[], float] = lambda: 0.0
    """The seconds by which the process is ready later, on purpose."""
    _schedule: Schedule = field(init=False)
    _edited: asyncio.Event = field(init=False, default_factory=asyncio.Event)
    _failure: str | None = field(init=False, default=None)
    _logged: str | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._schedule = Schedule(self.started_at, self.deadline, timing=self.timing)

    def reconfigure(self, deadline: float, *, liveness: bool, timing: Timing) -> None:
        """Apply an edited start_timeout (seconds since the start), liveness and timing from now on."""
        self.deadline = self._schedule.deadline = deadline
        self.liveness = liveness
        self.timing = self._schedule.timing = timing
        self._edited.set()

    def give_up_ready_line(self, reason: str) -> None:
        """Replace the process: whether it is ready cannot be found out."""
        self._failure = reason
        self._edited.set()

    async def run(self, report: Report) -> str:
        """Report results until the process must be replaced; returns the reason."""
        schedule = self._schedule
        while (left := self.started_at + self.slowness() - self.clock.monotonic()) > 0:
            if self.clock.monotonic() - self.started_at >= self.deadline:
                return f"not ready within {self.deadline:g} s: a fault slows its start"
            await self.clock.sleep(min(left, STARTING_EVERY))
        if self.printed is not None:
            if not await self._ready_line(self.printed):
                return self._failure or f"no ready line within {self.deadline:g} s"
            report.passed()
            schedule.ready = True
        if self.probe is None:
            await asyncio.get_running_loop().create_future()
            raise AssertionError("unreachable")
        while True:
            if schedule.ready:
                await self._pause()
            failure, connected = await self._check(self.probe)
            outcome = schedule.answer(failure is None, self.clock.monotonic(), connected=connected)
            if failure is None:
                self._logged = None
                report.passed()
                continue
            if failure != self._logged and (connected or schedule.ready):
                self.log(f"probe failed: {failure}")
                self._logged = failure
            if outcome is ProbeOutcome.LATE:
                return f"not ready within {self.deadline:g} s: {failure}"
            if outcome is ProbeOutcome.UNHEALTHY and self.liveness:
                return f"liveness probe failed {schedule.failures} times: {failure}"
            report.failed(failure, unhealthy=outcome is ProbeOutcome.UNHEALTHY)
            if not schedule.ready:
                await self._pause()

    async def _check(self, probe: Probe) -> tuple[str | None, bool]:
        """Run the probe; returns why it failed, or None, and whether the service was there to answer."""
        broken = self.failing()
        if broken is not None:
            return broken, True
        if self.connect is not None:
            failure = await run_probe(self.connect, self.timing.timeout)
            if failure is not None or self.connect is probe:
                return failure, False
            self.connect = None
        return await run_probe(probe, self.timing.timeout), True

    async def _pause(self) -> None:
        """Wait until the next probe; an edit of the timing counts at once."""
        began = self.clock.monotonic()
        left = self._schedule.pause(began)
        while left > 0:
            self._edited.clear()
            await first_of(self.clock.sleep(left), self._edited.wait())
            left = began + self._schedule.pause(began) - self.clock.monotonic()

    async def _ready_line(self, printed: asyncio.Event) -> bool:
        """Wait for the ready line; False once it is given up or its deadline, which may change, passed."""
        while not printed.is_set():
            left = self.started_at + self.deadline - self.clock.monotonic()
            if left <= 0 or self._failure is not None:
                return False
            self._edited.clear()
            await first_of(printed.wait(), self.clock.sleep(left), self._edited.wait())
        return True


@dataclass(frozen=True, slots=True)
class UptimeChecks:
    """The check of a process without a probe: ready after `MIN_UPTIME_S`, so that a process which fails at
    once is never shown as ready."""

    clock: AsyncClock

    async def run(self, report: Report) -> str:
        await self.clock.sleep(MIN_UPTIME_S)
        report.passed()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")


@dataclass(frozen=True, slots=True)
class ExternalChecks:
    """The check of an external service: it is never replaced, only healthy or not."""

    clock: AsyncClock
    probe: Probe

    async def run(self, report: Report) -> str:
        failures_left = 1  # the first failure counts at once; later ones only at the threshold
        while True:
            failure = await run_probe(self.probe)
            if failure is None:
                failures_left = FAILURE_THRESHOLD
                report.passed()
            else:
                failures_left -= 1
                report.failed(failure, unhealthy=failures_left <= 0)
            await self.clock.sleep(READY_EVERY if failure is None else FAILING_EVERY)
