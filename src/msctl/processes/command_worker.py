"""Runs one instance of a command service: its child process, its checks and its entry in the pid file."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msctl import ports
from msctl.clock import AsyncClock
from msctl.errors import ExitCode, MsctlError
from msctl.model.address import Address
from msctl.model.endpoint import Endpoint
from msctl.model.service_policies import HealthSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import ready_line
from msctl.model.worker import Checks, Outcome, StartError
from msctl.processes import pid_file
from msctl.processes.checks import ProbeFaults, ProcessChecks, UptimeChecks
from msctl.processes.child import Child, Exit, SpawnError, describe_exit
from msctl.processes.environment import fill_in
from msctl.processes.line_matcher import LineMatcher
from msctl.processes.output import Pace
from msctl.processes.pid_file import PidFile
from msctl.processes.probe_schedule import (
    DEFAULT_TIMING,
    FAILING_EVERY,
    READY_EVERY,
    Timing,
)
from msctl.processes.probes import (
    Probe,
    exec_probe,
    http_probe,
    tcp_probe,
)
from msctl.processes.process_table import ProcessTableReader
from msctl.processes.record_sink import RecordSink
from msctl.processes.watchdog_client import WatchdogClient
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.logs.run_files import RunFiles


@dataclass(frozen=True, slots=True)
class ChildContext:
    """What all children of one supervisor share: clock, logs, process table, watchdog and pid file."""

    clock: AsyncClock
    logs: LogHub
    process_tables: ProcessTableReader
    watchdog: WatchdogClient
    pid_file: PidFile
    pace: Pace = field(default_factory=Pace)
    files: RunFiles | None = None
    """Where the output is kept on disk; None keeps it in memory only."""
    faults: ProbeFaults | None = None
    """What is broken on purpose."""


LAST_LINES_S = 1.0
"""Seconds that the report of an exit waits for the output to be logged."""


class CommandWorker:
    """Runs one child process."""

    def __init__(
        self,
        spec: ServiceSpec,
        instance: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path | None,
        mark: str,
        listens: Address | None,
        url: str | None,
        context: ChildContext,
    ) -> None:
        """`listens` is the address that the program listens on, None without one; `url` is where the
        gateway sends requests."""
        self._spec = spec
        self._instance = instance
        self._argv = argv
        self._env = env
        self._cwd = cwd
        self._mark = mark
        self._listens = listens
        self._url = url
        self._context = context
        self._child: Child | None = None
        self._streams: tuple[RecordSink, ...] = ()
        self._checks: Checks | None = None
        self._printed = asyncio.Event() if ready_line(spec) else None
        self._matcher: LineMatcher | None = None

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child else None

    @property
    def address(self) -> str | None:
        return None if self._listens is None else str(self._listens)

    @property
    def endpoint(self) -> Endpoint | None:
        if self._child is None or self._url is None:
            return None
        return Endpoint(self._spec.name, self._instance, base_url=self._url)

    @property
    def checks(self) -> Checks | None:
        return self._checks

    async def start(self) -> None:
        context = self._context
        self._record(0)
        try:
            await self._spawn()
        except BaseException:
            context.pid_file.remove(self._mark)
            raise

    async def _spawn(self) -> None:
        context = self._context
        try:
            context.watchdog.start()  # before the child: it finds by its mark what a crash leaves
            if self._listens is not None:
                # Otherwise the probe could reach the program that holds the port.
                ports.probe_free(self._listens, self._spec.name)
            stdout, stderr = self._streams = self._sink("stdout"), self._sink("stderr")
            child = Child(
                self._argv,
                env=self._env,
                cwd=self._cwd,
                mark=self._mark,
                stdout=stdout,
                stderr=stderr,
                pace=context.pace,
                clock=context.clock,
                process_tables=context.process_tables,
            )
        except SpawnError as error:
            context.logs.append(self._spec.name, str(error), "error")
            final = not (error.transient or error.absent)
            raise StartError(Outcome(False, str(error), final=final, absent=error.absent)) from error
        except MsctlError as error:
            context.logs.append(self._spec.name, error.message, "error")
            raise StartError(Outcome(False, error.message)) from error
        self._child = child
        context.logs.writers.update(stream.flush for stream in self._streams)
        context.watchdog.add(child.pid)
        self._record(child.pid)
        expression = ready_line(self._spec)
        if expression and self._printed is not None:
            self._matcher = LineMatcher(expression, self._printed, self._report_matcher_failure)
            self._matcher.start()
        self._checks = self._make_checks()

    def reconfigure(self, spec: ServiceSpec) -> None:
        self._spec = spec
        if isinstance(self._checks, ProcessChecks):
            self._checks.reconfigure(spec.start_timeout, liveness=spec.liveness, timing=_timing(spec))

    async def wait(self) -> Outcome:
        child, context = self._require(), self._context
        code = await child.exited()
        text = describe_exit(code)
        left = await child.count_left()
        with contextlib.suppress(TimeoutError):  # the last lines come before the report of the exit
            async with asyncio.timeout(LAST_LINES_S):
                await child.output_logged()
        for stream in self._streams:
            stream.flush()
            context.logs.writers.discard(stream.flush)
        await self._stop_matcher()
        if left:
            left = await child.count_left()  # a daemon has had the time to leave the session
        if left and child.has_daemon and code == 0 and not self._spec.oneshot:
            reason = f"it went to the background: {foreground_hint(self._argv)}"
            return Outcome(False, reason, final=True, left_children=True)
        if left:
            text += f", {_processes(left)} left running"
        else:
            self._forget(child)
        success = code == 0 or code in self._spec.success_exit_codes
        # `msctl serve` ends with this where there is no such application.
        absent = self._spec.app is not None and code == ExitCode.USAGE
        return Outcome(success, text, absent=absent and not success, left_children=left > 0)

    async def stop(self, timeout: float) -> str | None:
        child = self._child
        if child is None:
            return None
        try:
            exited = await child.stop(timeout, signal.Signals[self._spec.stop_signal])
        finally:
            await self._stop_matcher()
        self._forget(child)
        if exited.killed:
            text = f"killed: it did not stop within {timeout:g} s of {self._spec.stop_signal}"
            self._context.logs.append(self._spec.name, text, "warning")
        return describe_stop(exited)

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()

    def _record(self, pid: int) -> None:
        created = pid_file.start_time(pid) if pid else 0.0
        self._context.pid_file.add(pid_file.Entry(pid, created, self._spec.name, self._instance, self._mark))

    def _make_checks(self) -> Checks | None:
        spec, clock = self._spec, self._context.clock
        if spec.oneshot:
            return None
        probe, connect = self._make_probe()
        if probe is None and self._printed is None:
            return UptimeChecks(clock)
        return ProcessChecks(
            clock,
            clock.monotonic(),
            spec.start_timeout,
            probe,
            self._printed,
            spec.liveness,
            _timing(spec),
            connect,
            self._log_probe,
            **self._broken(),
        )

    def _broken(self) -> dict[str, Any]:
        """How faults break the checks."""
        faults, service, instance = self._context.faults, self._spec.name, self._instance
        if faults is None:
            return {}
        return {
            "failing": lambda: faults.failing(service, instance),
            "slowness": lambda: faults.slowness(service, instance),
        }

    def _make_probe(self) -> tuple[Probe | None, Probe | None]:
        """The probe, and the connection that has to be possible before it runs; None without one."""
        health = self._spec.health
        if not isinstance(health, HealthSpec):
            health = HealthSpec(http=health)
        if health.exec is not None:
            return exec_probe(fill_in(health.exec, self._env), self._env, self._cwd), None
        port = health.port or (health.tcp if health.tcp is not True else None)
        address = Address(self._spec.host, port) if port else self._listens
        if address is None or health.log is not None:
            return None, None
        connect = tcp_probe(address)
        if health.http is None:
            return connect, connect
        return http_probe(address, health.http, health.headers, https=health.https), connect

    def _log_probe(self, text: str) -> None:
        self._context.logs.append(self._spec.name, text, "warning", instance=self._instance)

    def _sink(self, stream: str) -> RecordSink:
        """Where one output stream goes: the log, the log file, and the search for the ready line."""
        context, service, instance = self._context, self._spec.name, self._instance

        def keep(data: bytes) -> None:
            if context.files is not None:
                context.files.write(service, instance, stream, data)

        def log(record: str) -> None:
            context.logs.printed(service, record, instance=instance, stream=stream)

        return RecordSink(keep, log, self._match)

    def _match(self, text: str) -> None:
        if self._matcher is not None and self._printed is not None and not self._printed.is_set():
            self._matcher.add(text)

    def _report_matcher_failure(self, reason: str) -> None:
        self._context.logs.append(self._spec.name, reason, "error", instance=self._instance)
        if isinstance(self._checks, ProcessChecks):
            self._checks.give_up_ready_line(reason)

    async def _stop_matcher(self) -> None:
        matcher, self._matcher = self._matcher, None
        if matcher is not None:
            await matcher.stop()

    def _require(self) -> Child:
        if self._child is None:
            raise RuntimeError(f"{self._instance} has not been started")
        return self._child

    def _forget(self, child: Child) -> None:
        self._context.watchdog.remove(child.pid)
        self._context.pid_file.remove(self._mark)


def describe_stop(exited: Exit) -> str:
    """Describe the exit of a process that was stopped."""
    if exited.killed:
        return "killed by SIGKILL: it did not stop in time"
    return describe_exit(exited.code)


def foreground_hint(argv: Sequence[str]) -> str:
    """Say how a program that made itself a daemon stays in the foreground."""
    words = " ".join(argv)
    for program, hint in _FOREGROUND.items():
        if program in words:
            return f"keep it in the foreground with {hint}"
    return "keep it in the foreground with an option such as --foreground, --no-daemon or -n"


_FOREGROUND = {
    "nginx": "nginx -g 'daemon off;'",
    "redis-server": "redis-server --daemonize no",
    "valkey-server": "valkey-server --daemonize no",
    "pg_ctl": "postgres -D DIRECTORY instead of pg_ctl",
    "apachectl": "apachectl -D FOREGROUND",
    "apache2": "apache2 -D FOREGROUND",
    "httpd": "httpd -D FOREGROUND",
    "memcached": "memcached without -d",
    "haproxy": "haproxy -db",
    "php-fpm": "php-fpm --nodaemonize",
    "celery multi": "celery worker instead of celery multi",
    "gunicorn": "gunicorn without --daemon",
    "mongod": "mongod without --fork",
    "rabbitmq-server": "rabbitmq-server without -detached",
}


def _timing(spec: ServiceSpec) -> Timing:
    health = spec.health
    if not isinstance(health, HealthSpec):
        return DEFAULT_TIMING
    interval = health.interval
    return Timing(
        READY_EVERY if interval is None else interval,
        FAILING_EVERY if interval is None else interval,
        health.timeout,
        health.retries,
        health.start_period,
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"
