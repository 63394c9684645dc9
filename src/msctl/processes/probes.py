"""Probes: what is asked of a process to learn whether it is ready, and when it is asked again.

`Schedule` decides, over plain data; the probes themselves are the thin part that touches sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from msctl.aio import first_of
from msctl.clock import AsyncClock
from msctl.model.address import WILDCARDS, Address
from msctl.model.worker import Report

FASTEST = 0.01
STARTING_EVERY = 0.1
READY_EVERY = 10.0
FAILING_EVERY = 1.0
PROBE_TIMEOUT = 1.0
SETTLE_S = 0.25
FAILURES_TO_SICK = 3

Probe = Callable[[], Awaitable[None]]
"""Asks once; raises ProbeError if the answer is no."""


class ProbeError(Exception):
    """The answer of a probe that failed, as a person reads it."""


class Finding(Enum):
    """What one answer means."""

    NOT_YET = auto()
    PASSED = auto()
    FAILED = auto()
    SICK = auto()
    """It failed often enough to be unhealthy."""
    LATE = auto()
    """It was not ready when it had to be."""


@dataclass(slots=True)
class Schedule:
    """When to probe next, and what the answers mean; `started_at` and all times on one clock.

    Until the first success failures do not count, but `deadline` seconds after the start it is too
    late. While starting, the pauses grow with the time that it has taken, so that a quick service
    is found ready quickly and a chain of them does not add up whole intervals.
    """

    started_at: float
    deadline: float
    ready: bool = False
    failures: int = 0

    def pause(self, now: float) -> float:
        """Seconds until the next probe."""
        if self.ready:
            return FAILING_EVERY if self.failures else READY_EVERY
        elapsed = now - self.started_at
        return min(STARTING_EVERY, max(FASTEST, elapsed / 10.0), max(0.0, self.deadline - elapsed))

    def answer(self, passed: bool, now: float) -> Finding:
        """Take in one answer."""
        if passed:
            self.ready = True
            self.failures = 0
            return Finding.PASSED
        if not self.ready:
            return Finding.LATE if now - self.started_at >= self.deadline else Finding.NOT_YET
        self.failures += 1
        return Finding.SICK if self.failures >= FAILURES_TO_SICK else Finding.FAILED


@dataclass(slots=True)
class ProcessChecks:
    """The checks of one process, from its start on.

    `printed` is set once it has printed its ready line; where it is given, that is what makes the
    process ready, and `probe` (where given) only watches it from then on.
    """

    clock: AsyncClock
    started_at: float
    deadline: float
    probe: Probe | None
    printed: asyncio.Event | None
    liveness: bool
    _schedule: Schedule = field(init=False)
    _edited: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._schedule = Schedule(self.started_at, self.deadline)

    def reconfigure(self, deadline: float, *, liveness: bool) -> None:
        """Apply an edited start_timeout (seconds since the start) and liveness from now on."""
        self.deadline = self._schedule.deadline = deadline
        self.liveness = liveness
        self._edited.set()

    async def run(self, report: Report) -> str:
        """Tell `report` what is found; return why the process has to be replaced."""
        schedule = self._schedule
        if self.printed is not None:
            if not await self._ready_line(self.printed):
                return f"it did not print its ready line within {self.deadline:g} s"
            report.passed()
            schedule.ready = True
        if self.probe is None:
            await asyncio.get_running_loop().create_future()
        while True:
            if schedule.ready:
                await self.clock.sleep(schedule.pause(self.clock.monotonic()))
            why = None if self.probe is None else await ask(self.probe)
            now = self.clock.monotonic()
            finding = schedule.answer(why is None, now)
            if why is None:
                report.passed()
                continue
            if finding is Finding.LATE:
                return f"not ready within {self.deadline:g} s: {why}"
            if finding is Finding.SICK and self.liveness:
                return f"its liveness probe failed {schedule.failures} times: {why}"
            report.failed(why, sick=finding is Finding.SICK)
            if not schedule.ready:
                await self.clock.sleep(schedule.pause(now))

    async def _ready_line(self, printed: asyncio.Event) -> bool:
        """Wait for the ready line; False once the deadline, which may be edited, has passed."""
        while not printed.is_set():
            left = self.started_at + self.deadline - self.clock.monotonic()
            if left <= 0:
                return False
            self._edited.clear()
            await first_of(printed.wait(), self.clock.sleep(left), self._edited.wait())
        return True


@dataclass(frozen=True, slots=True)
class Settling:
    """The check of a process of which nothing can be asked: it is ready once it has not exited for a
    moment, so that one which fails at once is never shown ready."""

    clock: AsyncClock

    async def run(self, report: Report) -> str:
        await self.clock.sleep(SETTLE_S)
        report.passed()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a future that nobody completes has completed")


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """The check of what somebody else runs: never to be replaced, only in use or not."""

    clock: AsyncClock
    probe: Probe

    async def run(self, report: Report) -> str:
        failures_left = 1  # what does not answer at first is not there; later it may be having a bad moment
        while True:
            why = await ask(self.probe)
            if why is None:
                failures_left = FAILURES_TO_SICK
                report.passed()
            else:
                failures_left -= 1
                report.failed(why, sick=failures_left <= 0)
            await self.clock.sleep(READY_EVERY if why is None else FAILING_EVERY)


async def ask(probe: Probe) -> str | None:
    """Ask once: None, or what was wrong with the answer."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT):
            await probe()
    except TimeoutError:
        return f"no answer within {PROBE_TIMEOUT:g} s"
    except ProbeError as error:
        return str(error)
    return None


def tcp_probe(address: Address) -> Probe:
    """Whether something accepts connections there."""

    async def ask() -> None:
        _, writer = await _connect(address)
        writer.transport.abort()

    return ask


def http_probe(address: Address, path: str) -> Probe:
    """Whether a GET is answered with 2xx or 3xx, as Kubernetes has it for its HTTP probes."""
    target = path if path.startswith("/") else f"/{path}"
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: msctl-probe\r\nConnection: close\r\n\r\n"
    )

    async def ask() -> None:
        reader, writer = await _connect(address)
        try:
            writer.write(request.encode())
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ProbeError(f"GET {target}: the connection was closed without an answer") from error
        except (OSError, asyncio.LimitOverrunError) as error:
            raise ProbeError(f"GET {target}: {error}") from error
        finally:
            writer.transport.abort()
        words = line.decode("latin-1").split()
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise ProbeError(f"GET {target}: the answer is not HTTP")
        if not 200 <= int(words[1]) < 400:
            raise ProbeError(f"GET {target}: {' '.join(words[1:])}")

    return ask


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host = {"::": "::1"}.get(address.host, "127.0.0.1") if address.host in WILDCARDS else address.host
    try:
        return await asyncio.open_connection(host, address.port, limit=16 * 1024)
    except ConnectionRefusedError as error:
        raise ProbeError(f"connection refused on {address}") from error
    except OSError as error:
        raise ProbeError(f"cannot connect to {address}: {error.strerror or error}") from error
