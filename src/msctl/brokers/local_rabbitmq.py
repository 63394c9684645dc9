"""The `local` broker: a `rabbitmq-server` of this machine, run as a private child node.

Everything that the node writes is in one folder of the caller's, it has no Erlang distribution (so
no epmd, no second port, no cookie that matters), and it ends when we end. Several can run side by
side, next to a system-wide RabbitMQ, as any user, root included. `rabbitmqctl` cannot reach such a
node: that is the price of having no distribution port.

Knows processes, sockets and the AMQP handshake; nothing of services or stacks.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import psutil
from pamqp import base, commands, frame, header
from pamqp.common import FieldTable
from pamqp.exceptions import UnmarshalingException

from msctl.errors import BrokerError, PortTakenError, TimedOutError
from msctl.model.address import local_host
from msctl.processes.line_backlog import LineBacklog

NODE_NAME = "msctl@localhost"
"""The same for every node: without distribution the name is only that of its data folder."""

_PLACES = (
    # Debian and Fedora put a wrapper on PATH that insists on the system's user and folders; the
    # scripts below it do not.
    Path("/usr/lib/rabbitmq/bin"),
    Path("/opt/homebrew/sbin"),
    Path("/usr/local/sbin"),
    Path("/usr/sbin"),
)
_WRAPPER = Path("/usr/sbin/rabbitmq-server")
_LOG_LINE = re.compile(r"^\S+ \S+ \[(?P<level>\w+)\] <[\d.]+> ?(?P<text>.*)$")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MAX_LINE = 16 * 1024
_LINES_IN_ERROR = 8
_POLL = 0.05
_PR_SET_PDEATHSIG = 1
_Method = TypeVar("_Method", bound=base.Frame)


@dataclass(frozen=True, slots=True)
class RabbitSettings:
    """Where a node listens and keeps its files; `port` 0 lets the system choose a free one.

    `folder` belongs to the node alone. What it holds when the node stops (durable queues and their
    persistent messages) is there at the next start; a caller who wants none of it removes the
    folder. `user` and `password` are set up when the folder is new.
    """

    host: str
    port: int
    folder: Path
    user: str = "guest"
    password: str = "guest"  # noqa: S105 - RabbitMQ's own default, accepted on loopback alone
    start_timeout: float = 60.0


class RabbitNode:
    """One RabbitMQ child process. Its log lines go to `log` as (level, text) while it runs."""

    def __init__(self, settings: RabbitSettings, *, log: Callable[[str, str], None]) -> None:
        self._settings = settings
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=_LINES_IN_ERROR)
        self._version: str | None = None
        self._new_folder = False

    @property
    def pid(self) -> int | None:
        """The node's process id, None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def version(self) -> str | None:
        """RabbitMQ's version as it told us itself; None before it has started."""
        return self._version

    async def start(self) -> str:
        """Run the node and return its AMQP URL once a client has logged in and out.

        Raises PortTakenError when something else listens at the address, BrokerError when there is
        no RabbitMQ here or it did not come up (with its last log lines), TimedOutError after
        `start_timeout` seconds. After a failure nothing of the node is left.
        """
        if self._process is not None:
            raise RuntimeError("this node has been started already")
        settings = self._settings
        binary = find_binary()
        _check_free(settings.host, settings.port)
        try:
            self._new_folder = not settings.folder.exists()
            environment = _prepare(settings)
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
                    hint="give it more time on a slow machine, or use the embedded broker",
                ) from error
            if isinstance(error, OSError):
                raise BrokerError(
                    f"RabbitMQ ({binary}) could not be started in {settings.folder}: {error}",
                    hint="check that the program can be run and that the folder can be written to",
                ) from error
            raise

    async def wait(self) -> int:
        """Return the exit code when the node has ended, for whatever reason."""
        if self._process is None:
            raise RuntimeError("this node has not been started")
        return await self._process.wait()

    async def stop(self, timeout: float = 10.0) -> None:
        """End the node: in order, and after `timeout` seconds by force. Does nothing the second time."""
        process = self._process
        if process is None:
            return
        family = _family(process.pid)
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), timeout)
            except TimeoutError:
                self._log("warning", f"RabbitMQ did not stop within {timeout:g} s and is killed.")
        _signal_group(process.pid, signal.SIGKILL)
        await _reap(family)
        await process.wait()
        if self._reader is not None:
            # Its end of the pipe closes with the last process that held the other end.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._reader, 2.0)
            self._reader = None
        self._process = None

    async def _abandon(self) -> None:
        """Leave nothing of a start that failed; a folder that was there before keeps its data."""
        await asyncio.shield(asyncio.create_task(self.stop(timeout=2.0)))
        if self._new_folder:
            shutil.rmtree(self._settings.folder, ignore_errors=True)

    async def _ready(self) -> str:
        """Wait until our own process listens, then log in and out once."""
        process = self._process
        assert process is not None  # noqa: S101 - set by start, our only caller
        ended = asyncio.create_task(process.wait())
        try:
            while not ended.done():
                port = _listening_port(process.pid)
                if port is not None:
                    return await self._greet(port)
                await asyncio.wait({ended}, timeout=_POLL)
        finally:
            ended.cancel()
        if self._reader is not None:
            await asyncio.wait({self._reader}, timeout=1.0)
        raise BrokerError(
            f"RabbitMQ ended ({_describe_exit(process.returncode)}) before it was ready{self._quoted_log()}",
            hint="its own lines above say why; the embedded broker needs no RabbitMQ",
        )

    async def _greet(self, port: int) -> str:
        settings = self._settings
        host = local_host(settings.host)
        try:
            self._version = await _handshake(host, port, settings.user, settings.password)
        except _RefusedError as error:
            raise BrokerError(
                f"RabbitMQ refuses user {settings.user!r}: {error}",
                hint=f"its folder {settings.folder} may have been set up with another password; "
                "remove the folder to start afresh (queued messages are lost with it)",
            ) from error
        shown = f"[{host}]" if ":" in host else host
        return f"amqp://{quote(settings.user, safe='')}:{quote(settings.password, safe='')}@{shown}:{port}/"

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


def find_binary() -> Path:
    """The `rabbitmq-server` to run; raises BrokerError, with what to install, when there is none."""
    on_path = shutil.which("rabbitmq-server")
    if on_path is not None and Path(on_path) != _WRAPPER:
        return Path(on_path)
    for place in _PLACES:
        candidate = place / "rabbitmq-server"
        if os.access(candidate, os.X_OK):
            return candidate
    raise BrokerError(
        "no rabbitmq-server was found on PATH or where packages put it",
        hint="install it (Debian and Ubuntu: apt-get install rabbitmq-server; macOS: brew install rabbitmq), "
        'or set broker.mode = "embedded", which needs nothing',
    )


def _prepare(settings: RabbitSettings) -> dict[str, str]:
    """Make the folder and its configuration; return the environment that points the node at them."""
    folder = settings.folder.absolute()
    home, data, logs = folder / "home", folder / "data", folder / "log"
    for place in (folder, home, data, logs):
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    config = folder / "rabbitmq.config"
    config.touch(mode=0o600)
    config.write_text(_config(settings), encoding="ascii")
    plugins = folder / "enabled_plugins"
    plugins.write_text("[].\n", encoding="ascii")
    return _clean(os.environ) | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        # Replaces the start script by the Erlang machine, so that our child is the node itself.
        "RABBITMQ_ALLOW_INPUT": "true",
        "RABBITMQ_NODENAME": NODE_NAME,
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        # Erlang terms are read as they are; rabbitmq.conf would be translated at every start.
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
        "RABBITMQ_MNESIA_BASE": str(data),
        "RABBITMQ_LOG_BASE": str(logs),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(_ERLANG_FLAGS),
        "ERL_CRASH_DUMP_SECONDS": "0",
    }


_ERLANG_FLAGS = (
    "-noinput",
    # A node that already has its name sets up no distribution of its own: RabbitMQ then starts no
    # epmd. It does not listen; and where it asks epmd for its own port, it is told this number.
    f"-sname {NODE_NAME}",
    "-dist_listen false",
    "-start_epmd false",
    "-erl_epmd_port 1",
)


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would lead the node to another node's files or ports."""
    strangers = ("RABBITMQ_", "ERL_", "ERLANG_", "NOTIFY_SOCKET")
    return {name: value for name, value in environment.items() if not name.startswith(strangers)}


def _config(settings: RabbitSettings) -> str:
    """`rabbitmq.config` in Erlang terms; texts are written as numbers, so that nothing needs escaping."""
    host = ",".join(str(byte) for byte in settings.host.encode())
    user, password = (",".join(map(str, text.encode())) for text in (settings.user, settings.password))
    return (
        "[{rabbit, [\n"
        f"  {{tcp_listeners, [{{[{host}], {settings.port}}}]}},\n"
        f"  {{default_user, <<{user}>>}},\n"
        f"  {{default_pass, <<{password}>>}}\n"
        "]}].\n"
    )


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
                hint="stop what holds the port, or give the broker's URL another one",
            ) from error


def _die_with_parent() -> Callable[[], None]:
    """What the child does between fork and exec on Linux: ask for SIGTERM when its parent is gone."""
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # gone before we could ask
            os._exit(1)

    return ask


def _listening_port(pid: int) -> int | None:
    """The port on which this process (without distribution it has only one) listens by now."""
    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except psutil.Error:
        return None
    return next((int(item.laddr.port) for item in connections if item.status == psutil.CONN_LISTEN), None)


def _family(pid: int) -> list[psutil.Process]:
    """The node's helpers: Erlang gives each a process group of its own."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


async def _reap(family: list[psutil.Process]) -> None:
    """Wait for helpers, which end when their node has; kill those that do not."""
    alive = family
    for attempt in range(40):
        alive = [one for one in alive if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
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


class _RefusedError(Exception):
    """The node closed the connection that we opened to see whether it is ready."""


async def _handshake(host: str, port: int, user: str, password: str) -> str:
    """Open an AMQP connection to `/` and close it; return the version that the server gives.

    AMQP 0-9-1, 2.2.4. Raises _RefusedError when the server closes it.
    """
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(header.ProtocolHeader().marshal())
        start = await _expect(reader, commands.Connection.Start)
        properties: FieldTable = {
            "product": "msctl",
            "capabilities": {"authentication_failure_close": True},
        }
        response = f"\0{user}\0{password}"
        _send(writer, commands.Connection.StartOk(properties, "PLAIN", response, "en_US"))
        tune = await _expect(reader, commands.Connection.Tune)
        _send(writer, commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        _send(writer, commands.Connection.Open("/"))
        await _expect(reader, commands.Connection.OpenOk)
        _send(writer, commands.Connection.Close(200, "ready", 0, 0))
        await _expect(reader, commands.Connection.CloseOk)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    return str((start.server_properties or {}).get("version", "unknown"))


def _send(writer: asyncio.StreamWriter, method: base.Frame) -> None:
    writer.write(frame.marshal(method, 0))


async def _expect(reader: asyncio.StreamReader, kind: type[_Method]) -> _Method:
    try:
        head = await reader.readexactly(7)
        body = await reader.readexactly(int.from_bytes(head[3:7]) + 1)
        _, _, method = frame.unmarshal(head + body)
    except (asyncio.IncompleteReadError, UnmarshalingException) as error:
        raise _RefusedError(f"it closed the connection instead of {kind.__name__}") from error
    if isinstance(method, commands.Connection.Close):
        raise _RefusedError(f"{method.reply_code} {method.reply_text}")
    if not isinstance(method, kind):
        raise _RefusedError(f"it sent {type(method).__name__} instead of {kind.__name__}")
    return method
