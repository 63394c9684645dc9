"""The `docker` broker: the course's RabbitMQ container, a child of the stack.

The container is named after the stack's process id, removed when the stack ends, and never restarted.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import deque
from pathlib import Path

from msctl.amqp.probe import speaks_amqp
from msctl.brokers.base import LogFunction
from msctl.brokers.external import ExternalQueues
from msctl.brokers.node_definitions import ReadDefinitions
from msctl.brokers.rabbitmq_files import DEFINITIONS
from msctl.errors import BrokerError, TimedOutError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url, redact
from msctl.model.snapshots import BrokerMode, BrokerSnapshot, State
from msctl.processes.line_backlog import LineBacklog

IMAGE = "rabbitmq:3-management"
"""The image of chapter 7 of the course; AMQP on 5672, the management page on 15672."""

MANAGEMENT_PORT = 15672
CONTAINER_FOLDER = "/etc/rabbitmq"
SETTINGS = "90-msctl.conf"
ENGINES = ("docker", "podman")
START_TIMEOUT = 180.0
"""Seconds; most of them are for pulling the image."""

ENGINE_TIMEOUT = 15.0
STOP_TIMEOUT = 20.0
PROBE_EVERY = 0.2
LAST_LINES = 10


class DockerBroker(ExternalQueues):
    """RabbitMQ in a container on the port of the URL, from `start` to `stop`."""

    location = "in a container"
    tools = f"RabbitMQ's management page: http://localhost:{MANAGEMENT_PORT}"

    def __init__(
        self, spec: BrokerSpec, folder: Path, *, log: LogFunction, definitions: ReadDefinitions
    ) -> None:
        """`folder` is for what the container reads. Raises ConfigError for unusable definitions."""
        found = definitions(parse_url(spec.url))
        self._url = spec.url if found is None else found.url.text
        self._definitions = None if found is None else found.document
        self._folder = folder.absolute()
        self._log = log
        self._name = f"msctl-rabbitmq-{os.getpid()}"
        self._engine: str | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._state = State.STOPPED

    @property
    def url(self) -> str:
        return self._url

    async def start(self) -> None:
        """Raises BrokerError if no engine answers or the container does not start."""
        self._state = State.STARTING
        try:
            self._engine = await find_engine()
            await self._run(self._engine)
        except BaseException:
            await self.stop()
            self._state = State.FATAL
            raise
        self._state = State.READY

    async def stop(self) -> None:
        process, self._process = self._process, None
        if process is None or self._engine is None:
            self._state = State.STOPPED
            return
        self._state = State.STOPPING
        remove = await asyncio.create_subprocess_exec(
            self._engine,
            "rm",
            "--force",
            "--volumes",
            self._name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await remove.wait()
                await process.wait()
        except TimeoutError:
            for child in (remove, process):
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
            await process.wait()
        if self._reader is not None:
            await self._reader
        self._state = State.STOPPED

    async def snapshot(self) -> BrokerSnapshot:
        state, reason = self._state, ""
        if state is State.READY and not await speaks_amqp(self.url):
            state, reason = State.UNHEALTHY, "the container does not answer"
        return BrokerSnapshot(mode=BrokerMode.DOCKER, state=state, url=redact(self.url), reason=reason)

    async def _run(self, engine: str) -> None:
        url = parse_url(self.url)
        host = "127.0.0.1" if url.host == "localhost" else url.host
        self._process = await asyncio.create_subprocess_exec(
            engine,
            "run",
            "--rm",
            "--name",
            self._name,
            "--publish",
            f"{host}:{url.port}:5672",
            "--publish",
            f"{host}:{MANAGEMENT_PORT}:15672",
            "--env",
            "RABBITMQ_DEFAULT_USER",
            "--env",
            "RABBITMQ_DEFAULT_PASS",
            "--env",
            "RABBITMQ_DEFAULT_VHOST",
            *self._mounts(),
            IMAGE,
            # In the environment, because every user can read a command line.
            env={
                **os.environ,
                "RABBITMQ_DEFAULT_USER": url.user,
                "RABBITMQ_DEFAULT_PASS": url.password.reveal(),
                "RABBITMQ_DEFAULT_VHOST": url.vhost,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = asyncio.create_task(self._read(self._process.stdout))
        try:
            async with asyncio.timeout(START_TIMEOUT):
                while not await speaks_amqp(self.url):
                    if self._process.returncode is not None:
                        await self._reader
                        raise BrokerError(
                            f"{engine} run {IMAGE} ended with exit code {self._process.returncode}: "
                            + " / ".join(self._last_lines),
                            hint=f"run it by hand: {engine} run --rm {IMAGE}",
                        )
                    await asyncio.sleep(PROBE_EVERY)
        except TimeoutError as error:
            raise TimedOutError(
                f"the container {IMAGE} did not speak AMQP within {START_TIMEOUT:g} s",
                hint=f"see its log: {engine} logs {self._name}",
            ) from error

    def _mounts(self) -> list[str]:
        """Write the definitions; returns the options with which the container reads them at its start."""
        if self._definitions is None:
            return []
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = f"load_definitions = {CONTAINER_FOLDER}/{DEFINITIONS}\n".encode()
        options = []
        for name, content, target in (
            (DEFINITIONS, self._definitions, DEFINITIONS),
            (SETTINGS, settings, f"conf.d/{SETTINGS}"),
        ):
            file = self._folder / name
            file.write_bytes(content)
            file.chmod(0o644)  # RabbitMQ is another user in the container; here the folder protects them
            mount = f"type=bind,source={file},target={CONTAINER_FOLDER}/{target},readonly"
            options += ["--mount", mount]
        return options

    async def _read(self, output: asyncio.StreamReader | None) -> None:
        lines = LineBacklog()
        while output is not None and (chunk := await output.read(65536)):
            lines.feed(chunk)
            self._take_lines(lines.take_all())
        lines.flush()
        self._take_lines(lines.take_all())

    def _take_lines(self, lines: list[str]) -> None:
        for line in lines:
            self._last_lines.append(line)
            self._log("info", line)


async def find_engine() -> str:
    """The first container engine that answers. Raises BrokerError if none does."""
    installed = [program for program in ENGINES if shutil.which(program)]
    for program in installed:
        if await _answers(program):
            return program
    what = f"{' and '.join(installed)} found, but no engine answers" if installed else "none is installed"
    raise BrokerError(
        f'broker.mode = "docker" needs a container engine: {what}',
        hint='start the engine, or set [broker] mode = "auto", which needs none',
    )


async def _answers(program: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        program,
        "info",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ENGINE_TIMEOUT):
            return await process.wait() == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
