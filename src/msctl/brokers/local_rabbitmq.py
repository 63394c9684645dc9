"""The `local` broker: an installed `rabbitmq-server`, run as a private child node.

The node keeps all files in one folder of the caller, has no Erlang distribution (no epmd, no second
port, no cookie) and ends with the stack. Several nodes can run side by side and next to a system-wide
RabbitMQ, as any user including root. `rabbitmqctl` cannot reach a node without distribution.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable
from urllib.parse import quote

import psutil

from msctl.amqp.probe import speaks_amqp
from msctl.brokers.amqp_login import LoginRefusedError, log_in
from msctl.brokers.rabbitmq_files import MANAGEMENT_PLUGIN, RabbitSettings, find_binary, prepare
from msctl.errors import BrokerError, PortTakenError, TimedOutError
from msctl.model.address import bracketed, local_host
from msctl.processes.line_backlog import LineBacklog

_LOG_LINE = re.compile(r"^\S+ \S+ \[(?P<level>\w+)\] <[\d.]+> ?(?P<text>.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_LINE = 16 * 1024
_LINES_IN_ERROR = 8
_POLL = 0.05
_PR_SET_PDEATHSIG = 1


class RabbitNode:
    """One RabbitMQ child process. `log` gets its log lines as (level, text)."""

    def __init__(self, settings: RabbitSettings, *, log: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LINES_IN_ERROR)
        self._version: str | None = None
        self._management_port: int | None = None
        self._new_folder = False

    @property
    def pid(self) -> int | None:
        """The node's process id, or None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def version(self) -> str | None:
        """RabbitMQ's version, or None before the node has started."""
        return self._version

    @property
    def management_port(self) -> int | None:
        """The port of the management plugin, or None without it and before the node has started."""
        return self._management_port

    async def start(self) -> str:
        """Run the node and return its AMQP URL after a successful login.

        Raises PortTakenError if the address is in use, BrokerError if RabbitMQ is not installed or does
        not start (with its last log lines), TimedOutError after `start_timeout` seconds. A failed start
        leaves neither process nor files.
        """
        if self._process is not None:
            raise RuntimeError("this node has been started already")
        settings = self._settings
        binary = find_binary()
        _check_free(settings.host, settings.port)
        try:
            self._new_folder = not settings.folder.exists()
            environment = prepare(settings)
            self._process = await asyncio.create_subprocess_exec(
                binary,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                cwd=settings.folder,
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent() if sys.platform == "linux" else None,
            )
            self._reader = asyncio.create_task(self._read_log(), name="rabbitmq-log")
            async with asyncio.timeout(settings.start_timeout):
                return await self._ready()
        except BaseException as error:
            await self._abandon()
            if isinstance(error, TimeoutError):
                raise TimedOutError(
                    f"RabbitMQ was not ready after {settings.start_timeout:g} s{self._quoted_log()}",
                    hint='set [broker] mode = "embedded" to start without RabbitMQ',
                ) from error
            if isinstance(error, OSError):
                raise BrokerError(
                    f"RabbitMQ ({binary}) could not be started in {settings.folder}: {error}",
                    hint="check that the program is executable and the folder writable",
                ) from error
            raise

    async def wait(self) -> int:
        """Wait until the node has ended and return its exit code."""
        if self._process is None:
            raise RuntimeError("this node has not been started")
        return await self._process.wait()

    async def stop(self, timeout: float = 10.0) -> None:
        """Stop the node, and kill it after `timeout` seconds. A second call does nothing."""
        process = self._process
        if process is None:
            return
        family = _family(process.pid)
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError:
                self._log("warning", f"RabbitMQ did not stop within {timeout:g} s and is killed")
        _signal_group(process.pid, signal.SIGKILL)
        await _reap(family)
        await process.wait()
        if self._reader is not None:
            # The pipe reaches its end when the last process that holds the other end has exited.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reader, 2.0)
            self._reader = None
        self._process = None

    async def _abandon(self) -> None:
        """Clean up after a failed start; a folder that existed before stays."""
        await asyncio.shield(asyncio.create_task(self.stop(timeout=2.0)))
        if self._new_folder:
            shutil.rmtree(self._settings.folder, ignore_errors=True)

    async def _ready(self) -> str:
        """Wait until the child listens, then log in once."""
        process = self._process
        assert process is not None  # noqa: S101 - set by start, the only caller
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                port = await self._amqp_port(process.pid)
                if port is not None:
                    return await self._greet(port)
                await asyncio.wait({ended}, timeout=_POLL)
        finally:
            ended.cancel()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=1.0)
        raise BrokerError(
            f"RabbitMQ ended ({_describe_exit(process.returncode)}) before it was ready{self._quoted_log()}",
            hint='see its log lines above; [broker] mode = "embedded" needs no RabbitMQ',
        )

    async def _amqp_port(self, pid: int) -> int | None:
        """The port of AMQP once the node listens on all of its ports."""
        ports = _listening_ports(pid)
        if len(ports) < 1 + (MANAGEMENT_PLUGIN in self._settings.plugins):
            return None
        if len(ports) == 1:
            return ports[0]
        for port in ports:
            if await speaks_amqp(f"amqp://{local_host(self._settings.host)}:{port}/"):
                self._management_port = next(each for each in ports if each != port)
                return port
        return None

    async def _greet(self, port: int) -> str:
        settings = self._settings
        host = local_host(settings.host)
        try:
            self._version = await log_in(host, port, settings.user, settings.password, settings.vhost)
        except LoginRefusedError as error:
            raise BrokerError(
                f"RabbitMQ refused user {settings.user!r}: {error}",
                hint=f"its folder {settings.folder} may have been created with another password; "
                "remove the folder to start with a new one (its messages are lost)",
            ) from error
        path = "" if settings.vhost == "/" else quote(settings.vhost, safe="")
        user, password = quote(settings.user, safe=""), quote(settings.password, safe="")
        return f"amqp://{user}:{password}@{bracketed(host)}:{port}/{path}"

    def _quoted_log(self) -> str:
        return ":" + "".join(f"\n  {line}" for line in self._last_lines) if self._last_lines else ""

    async def _read_log(self) -> None:
        assert self._process is not None  # noqa: S101 - started by start, after the process
        stream = self._process.stdout
        assert stream is not None  # noqa: S101 - asked for with PIPE
        lines = LineBacklog(max_line_bytes=_MAX_LINE)
        while chunk := await stream.read(64 * 1024):
            lines.feed(chunk)
            self._take_lines(lines.take_all())
        lines.flush()
        self._take_lines(lines.take_all())

    def _take_lines(self, lines: list[str]) -> None:
        for raw in lines:
            self._take_line(_COLOUR.sub("", raw).rstrip())

    def _take_line(self, line: str) -> None:
        matched = _LOG_LINE.match(line)
        level, text = (matched["level"], matched["text"]) if matched else ("info", line.strip())
        if text:
            self._last_lines.append(text)
            self._log(level, text)


def _check_free(host: str, port: int) -> None:
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortTakenError(
                f"RabbitMQ cannot listen on {host}:{port}: {error.strerror}",
                hint="stop the program that uses the port, or set another port in broker.url",
            ) from error


def _die_with_parent() -> Callable[[], None]:
    """A function for the child between fork and exec (Linux): request SIGTERM when the parent dies."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before prctl
            os._exit(1)

    return ask


def _listening_ports(pid: int) -> list[int]:
    """The ports on which the process listens: without distribution, AMQP's and those of plugins."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return []
    return sorted({int(item.laddr.port) for item in connections if item.status == psutil.CONN_LISTEN})


def _family(pid: int) -> list[psutil.Process]:
    """The node's helper processes; Erlang starts each in its own process group."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended in between
        return False


async def _reap(family: list[psutil.Process]) -> None:
    """Wait for helper processes, which end with their node, and kill those that do not."""
    alive = family
    for attempt in range(40):
        alive = [one for one in alive if _is_alive(one)]
        if not alive:
            return
        if attempt == 20:
            for one in alive:
                with contextlib.suppress(psutil.Error):
                    one.kill()
        await asyncio.sleep(_POLL)


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
