"""What metrics, traces and logs cost a request through the gateway as they come, on against off."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.result import Result

ROOT = Path(__file__).parents[2]
REQUESTS = 4000
ROUNDS = 9
CONNECTIONS = 8
REQUEST = b"GET /users HTTP/1.1\r\nHost: localhost\r\n\r\n"


def results() -> Iterator[Result]:
    with server("on") as observed, server("off") as plain:
        # The processor time of the server alone: what else this machine does is not counted.
        pairs = [(observed.measure(), plain.measure()) for _ in range(ROUNDS)]
    # The best of each: what disturbs a run (another program in the same core's cache) only slows it.
    rates = max(one for one, _ in pairs), max(other for _, other in pairs)
    name = "GET /users through the gateway: metrics, traces and log on / off"
    yield Result(name, *rates, "req/cpu-s", at_least=0.75)


class Server:
    def __init__(self, process: psutil.Process, port: int) -> None:
        self._process = process
        self._port = port

    def measure(self) -> float:
        """Requests for each second of the server's processor time."""
        before = sum(self._process.cpu_times()[:2])
        asyncio.run(self._load())
        return REQUESTS / (sum(self._process.cpu_times()[:2]) - before)

    async def _load(self) -> None:
        await asyncio.gather(*(self._client(REQUESTS // CONNECTIONS) for _ in range(CONNECTIONS)))

    async def _client(self, count: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        for _ in range(count):
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.partition(b":")[2]))
        writer.close()
        await writer.wait_closed()


@contextmanager
def server(how: str) -> Iterator[Server]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.telemetry_serve", how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        yield Server(psutil.Process(child.pid), int(child.stdout.readline()))
    finally:
        child.stdin.close()
        child.wait(20)
        child.stdout.close()
