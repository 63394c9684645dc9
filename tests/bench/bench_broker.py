"""The embedded broker against a real RabbitMQ: one Go client, the same messages, in turn.

Needs Go with Debian's amqp091-go, and rabbitmq-server.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.result import Result, in_turn
from tests.support.rabbitmq import running_node

HERE = Path(__file__).parent
COUNT = 50_000
QUEUED = 200_000
MILLION = 1_000_000
FLOOD_S = 4.0
GO_PATH = "/usr/share/gocode"
SERVED = """
import asyncio, sys, uvloop
from pathlib import Path
from aiohttp import web
from msctl.broker.server import BrokerServer
from msctl.broker.storage.storage import StorageSpec
from msctl.clock import SystemClock
from msctl.services.hello import create_app

async def main():
    storage = StorageSpec(Path(sys.argv[1]))
    server = BrokerServer(clock=SystemClock(), log=lambda level, text: None, storage=storage)
    _, amqp = await server.start("127.0.0.1", 0)
    runner = web.AppRunner(create_app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(amqp, runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()

uvloop.run(main())
"""


def results() -> Iterator[Result]:
    with tempfile.TemporaryDirectory(prefix="msctl-") as folder:
        client = build(Path(folder), "broker_load.go")
        logs = Path(folder) / "logs"
        with (
            running_node() as node,
            _embedded(logs / "process", "process") as (ours, pid),
            _embedded(logs / "disk", "disk") as (synchronous, _),
        ):
            theirs = node.url
            for mode, name in (
                ("publish", "publish 12 B"),
                ("consume", "consume 12 B, automatic acks"),
                ("confirm", "publish 12 B, confirms pipelined"),
                ("acks", "1 KiB, prefetch 100, manual acks"),
            ):
                pair = in_turn(
                    lambda mode=mode: _rate(client, ours, mode),  # type: ignore[misc]  # bound at once
                    lambda mode=mode: _rate(client, theirs, mode),  # type: ignore[misc]  # bound at once
                    rounds=3,
                )
                yield Result(f"broker / RabbitMQ: {name}", *pair, "msg/s", at_least=1.0)
            for mode, name in (
                ("durable-confirm", "persistent 12 B, confirms pipelined"),
                ("durable-acks", "persistent 1 KiB, manual acks"),
            ):
                for durability, url in (("process", ours), ("disk", synchronous)):
                    pair = in_turn(
                        lambda url=url, mode=mode: _rate(client, url, mode),  # type: ignore[misc]
                        lambda mode=mode: _rate(client, theirs, mode),  # type: ignore[misc]
                        rounds=3,
                    )
                    goal = 1.0 if durability == "process" else None
                    yield Result(f"broker / RabbitMQ: {name}, {durability}", *pair, "msg/s", at_least=goal)
            yield Result("memory of a queued 12 B message", _memory(client, ours, pid), 1.0, "B")
            yield Result(
                "recovery of a million messages / 5 s", _recovery(client, Path(folder)), 5.0, "s", at_most=1.0
            )
        quiet, flooded = asyncio.run(_fairness(client, logs / "hello", "publish"))
        _, durable = asyncio.run(_fairness(client, logs / "hello-durable", "durable-publish"))
        yield Result("p99 of /hello under a durable flood / 20 ms", durable * 1000, 20.0, "ms", at_most=1.0)
        yield Result("p99 of /hello under a flood / 20 ms", flooded * 1000, 20.0, "ms", at_most=1.0)
        yield Result("p99 of /hello on a quiet broker", quiet * 1000, 1.0, "ms")


def build(folder: Path, source: str) -> Path:
    """Build a program of the Go client."""
    program = folder / Path(source).stem
    env = {**os.environ, "GO111MODULE": "off", "GOPATH": GO_PATH, "GOCACHE": str(folder / "cache")}
    subprocess.run(["go", "build", "-o", program, HERE / source], env=env, check=True)
    return program


@contextmanager
def _embedded(log: Path, durability: str) -> Iterator[tuple[str, int]]:
    command = [sys.executable, str(HERE / "broker_serve.py"), "0", str(log), durability]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_env()) as process:
        assert process.stdout is not None
        try:
            yield f"amqp://guest:guest@{process.stdout.readline().strip()}/", process.pid
        finally:
            process.send_signal(signal.SIGTERM)


def _env() -> dict[str, str]:
    root = HERE.parents[1]
    return {**os.environ, "PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"}


def _rate(client: Path, url: str, mode: str, count: int = COUNT) -> float:
    done = subprocess.run([client, url, mode, str(count)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def _memory(client: Path, url: str, pid: int) -> float:
    """Bytes of resident memory for each message; the client leaves them in the queue."""
    process = psutil.Process(pid)
    before = process.memory_info().rss
    _rate(client, url, "leave", QUEUED)
    return (process.memory_info().rss - before) / QUEUED


def _recovery(client: Path, folder: Path) -> float:
    """Seconds from a start to the first answer of a broker that has a million messages in its log."""
    log = folder / "logs" / "million"
    with _embedded(log, "process") as (url, _):
        _rate(client, url, "durable-leave", MILLION)
    began = time.perf_counter()
    with _embedded(log, "process"):
        return time.perf_counter() - began


async def _fairness(client: Path, log: Path, mode: str) -> tuple[float, float]:
    """The 99th percentile of /hello, in seconds, before and while clients publish without pause."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVED, log, stdout=asyncio.subprocess.PIPE, env=_env()
    )
    assert process.stdout is not None
    try:
        amqp, http = map(int, (await process.stdout.readline()).split())
        quiet = await _p99(http, 1.0)
        url = f"amqp://guest:guest@127.0.0.1:{amqp}/"
        flood = await asyncio.create_subprocess_exec(
            client, url, mode, "10000000", stdout=asyncio.subprocess.DEVNULL
        )
        try:
            return quiet, await _p99(http, FLOOD_S)
        finally:
            flood.kill()
            await flood.wait()
    finally:
        process.kill()
        await process.wait()


async def _p99(port: int, seconds: float) -> float:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        writer.write(b"GET /hello HTTP/1.1\r\nHost: bench\r\n\r\n")
        await reader.readuntil(b"Hello, World!")
        times.append(time.perf_counter() - began)
    writer.close()
    return sorted(times)[int(len(times) * 0.99)]
