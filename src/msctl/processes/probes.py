"""Readiness and liveness probes, and when to run them.

`Schedule` decides on plain data; the probes themselves only connect and read.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from secrets import token_hex
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from msctl.aio import first_of
from msctl.backoff import exponential
from msctl.clock import AsyncClock
from msctl.model.address import Address, local_host
from msctl.model.worker import Report
from msctl.processes.child import describe_exit, die_with_parent
from msctl.processes.process_table import HELPER, MARK, signal_group

if TYPE_CHECKING:
    import ssl

_NO_HEADERS: Mapping[str, str] = MappingProxyType({})

FASTEST = 0.01
STARTING_EVERY = 0.1
READY_EVERY = 10.0
FAILING_EVERY = 1.0
PROBE_TIMEOUT = 1.0
MIN_UPTIME_S = 0.25
FAILURE_THRESHOLD = 3

Probe = Callable[[], Awaitable[None]]
"""Runs one probe; raises ProbeError if it fails."""


class ProbeError(Exception):
    """A probe failed; the text says why."""


class ProbeFaults(Protocol):
    """What is broken on purpose about the checks of instances."""

    def failing(self, service: str, instance: str) -> str | None:
        """Why the check fails; None lets it run."""
        ...

    def slowness(self, service: str, instance: str) -> float:
        """The seconds by which an instance that starts is ready later."""
        ...


class ProbeOutcome(Enum):
    """The meaning of one probe result."""

    NOT_YET = auto()
    PASSED = auto()
    FAILED = auto()
    UNHEALTHY = auto()
    """It failed `FAILURE_THRESHOLD` times in a row."""
    LATE = auto()
    """It was not ready at its deadline."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds between probes once ready, and of one probe; failures in a row that mean unhealthy.

    `start_period` counts failures before the first success only after these seconds; None gives up at the
    deadline.
    """

    interval: float = READY_EVERY
    failing_interval: float = FAILING_EVERY
    timeout: float = PROBE_TIMEOUT
    retries: int = FAILURE_THRESHOLD
    start_period: float | None = None


DEFAULT_TIMING = Timing()


@dataclass(slots=True)
class Schedule:
    """Decides when to probe next and what a result means. `started_at` and all times are of one clock.

    Failures before the first success do not count until `deadline` seconds after the start. While nothing
    listens, the pause is a tenth of the elapsed time: a fast service is found ready fast, and a chain of
    services does not add up whole intervals. Once the service answers, it logs each probe, so the pause
    doubles up to the interval.
    """

    started_at: float
    deadline: float
    ready: bool = False
    failures: int = 0
    timing: Timing = DEFAULT_TIMING
    answers: int = 0
    """Failed probes before the first success that the service itself answered."""

    def pause(self, now: float) -> float:
        """Seconds until the next probe."""
        if self.ready:
            return self.timing.failing_interval if self.failures else self.timing.interval
        elapsed = now - self.started_at
        end = self.deadline if self.timing.start_period is None else self.timing.start_period
        if self.timing.start_period is not None and elapsed >= end:
            return self.timing.failing_interval
        if self.answers:
            pause = exponential(self.answers - 1, STARTING_EVERY, self.timing.interval)
        else:
            pause = min(STARTING_EVERY, max(FASTEST, elapsed / 10.0))
        return min(pause, max(0.0, end - elapsed))

    def answer(self, passed: bool, now: float, *, connected: bool = True) -> ProbeOutcome:
        """Record one result; `connected` says whether the service was there to answer."""
        if passed:
            self.ready = True
            self.failures = 0
            return ProbeOutcome.PASSED
        if not self.ready and connected:
            self.answers += 1
        if not self.ready and self.timing.start_period is not None:
            if now - self.started_at >= self.timing.start_period:
                self.failures += 1
            return ProbeOutcome.LATE if self.failures >= self.timing.retries else ProbeOutcome.NOT_YET
        if not self.ready:
            return ProbeOutcome.LATE if now - self.started_at >= self.deadline else ProbeOutcome.NOT_YET
        self.failures += 1
        return ProbeOutcome.UNHEALTHY if self.failures >= self.timing.retries else ProbeOutcome.FAILED


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


async def run_probe(probe: Probe, timeout: float = PROBE_TIMEOUT) -> str | None:
    """Run a probe once, for at most `timeout` seconds; returns None, or why it failed."""
    try:
        async with asyncio.timeout(timeout):
            await probe()
    except TimeoutError:
        return f"no response within {timeout:g} s"
    except ProbeError as error:
        return str(error)
    return None


@dataclass(frozen=True, slots=True)
class ProbeTls:
    """TLS of a probe: the context, and the name that the certificate must have."""

    context: ssl.SSLContext
    server_name: str


def tcp_probe(address: Address, tls: ProbeTls | None = None) -> Probe:
    """A probe that succeeds if the address accepts a connection, with `tls` one whose certificate holds."""

    async def probe() -> None:
        _, writer = await _connect(address, tls)
        writer.transport.abort()

    return probe


def http_probe(
    address: Address,
    path: str,
    headers: Mapping[str, str] = _NO_HEADERS,
    *,
    https: bool = False,
    tls: ProbeTls | None = None,
) -> Probe:
    """A probe that succeeds if a GET is answered with 2xx or 3xx, as in Kubernetes.

    With `https` it speaks TLS and accepts any certificate, with `tls` only the right one.
    """
    target = path if path.startswith("/") else f"/{path}"
    fields = {"Host": str(address), "User-Agent": "msctl-probe", **headers, "Connection": "close"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    head = f"GET {target} HTTP/1.1\r\n{lines}"
    if https and tls is None:
        tls = ProbeTls(_any_certificate(), local_host(address.host))

    async def probe() -> None:
        reader, writer = await _connect(address, tls)
        try:
            # The flag says "not sampled": a program that sends its traces leaves probes out.
            trace = f"traceparent: 00-{token_hex(16)}-{token_hex(8)}-00\r\n\r\n"
            writer.write((head + trace).encode())
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as error:
            raise ProbeError(f"GET {target}: the connection was closed without a response") from error
        except (OSError, asyncio.LimitOverrunError) as error:
            raise ProbeError(f"GET {target}: {error}") from error
        finally:
            writer.transport.abort()
        words = line.decode("latin-1").split()
        if len(words) < 2 or not words[0].startswith("HTTP/") or not words[1].isdigit():
            raise ProbeError(f"GET {target}: the response is not HTTP")
        if not 200 <= int(words[1]) < 400:
            raise ProbeError(f"GET {target}: {' '.join(words[1:])}")

    return probe


def exec_probe(argv: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> Probe:
    """A probe that succeeds if a command exits with 0; what it started is killed at its end."""

    async def probe() -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *die_with_parent(),
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={**env, MARK: HELPER},
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise ProbeError(f"cannot run {argv[0]}: {error.strerror or error}") from error
        try:
            code = await process.wait()
        finally:
            signal_group(process.pid, signal.SIGKILL)
            if process.returncode is None:
                await asyncio.shield(process.wait())
        if code != 0:
            raise ProbeError(f"{argv[0]}: {describe_exit(code)}")

    return probe


def _any_certificate() -> ssl.SSLContext:
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def _connect(
    address: Address, tls: ProbeTls | None = None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_connection(
            local_host(address.host),
            address.port,
            limit=16 * 1024,
            ssl=None if tls is None else tls.context,
            server_hostname=None if tls is None else tls.server_name,
        )
    except ConnectionRefusedError as error:
        raise ProbeError(f"connection refused on {address}") from error
    except OSError as error:
        raise ProbeError(f"cannot connect to {address}: {error.strerror or error}") from error
