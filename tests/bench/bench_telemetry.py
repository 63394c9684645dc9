"""What observing costs: a request through the gateway, on against off; and taking in spans and log lines.

The lag of the loop is given by the clock, where another program on the machine is part of it, and by the
processor time of the loop's thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.bench.result import Result
from tests.unit.telemetry.test_protobuf import attribute, fixed64, part
from tests.unit.telemetry.test_protobuf import number as number_

ROOT = Path(__file__).parents[2]
REQUESTS = 4000
ROUNDS = 9
CONNECTIONS = 8
SPANS, LINES = 5_000, 20_000
"""Taken in each second."""
SECONDS = 8.0
BODIES, PER_BODY = 8, 512
HEADERS = {"Content-Type": "application/x-protobuf"}
REQUEST = b"GET /users HTTP/1.1\r\nHost: localhost\r\n\r\n"


def results() -> Iterator[Result]:
    with server("on") as observed, server("off") as plain:
        # The processor time of the server alone: what else this machine does is not counted.
        pairs = [(observed.measure(), plain.measure()) for _ in range(ROUNDS)]
    # The best of each: what disturbs a run (another program in the same core's cache) only slows it.
    rates = max(one for one, _ in pairs), max(other for _, other in pairs)
    name = "GET /users through the gateway: metrics, traces and log on / off"
    yield Result(name, *rates, "req/cpu-s", at_least=0.75)
    yield from ingest()


def ingest() -> Iterator[Result]:
    """5,000 spans and 20,000 log lines a second, each alone and then together."""
    with tempfile.TemporaryDirectory(prefix="msctl-") as folder, ingesting(folder) as taker:
        for what, spans, lines in (
            (f"{SPANS} spans/s taken in", SPANS, 0),
            (f"{LINES} lines/s taken in", 0, LINES),
            ("both", SPANS, LINES),
        ):
            found = taker.measure(spans, lines)
            yield Result(f"{what}: p99 of the loop's lag", found["late_p99"] * 1e3, 20, "ms", at_most=1)
            yield Result(
                f"{what}: the same, its own work alone", found["busy_p99"] * 1e3, 20, "ms", at_most=1
            )
            yield Result(f"{what}: of a core", found["cpu"] * 100, 100, "%")
            for unit, rate in (("lines", lines), ("spans", spans)):
                if rate:
                    taken = found[f"{unit}_per_s"]
                    yield Result(f"{what}: {unit}", taken, rate, f"{unit}/s", at_least=0.95)


class Taker:
    def __init__(self, child: subprocess.Popen[str], port: int) -> None:
        self._child = child
        self._url = f"http://127.0.0.1:{port}/v1/traces"
        self._bodies = [body(number) for number in range(BODIES)]

    def measure(self, spans: int, lines: int) -> dict[str, float]:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(f"{SECONDS} {lines}\n")
        self._child.stdin.flush()
        began, sent = time.monotonic(), 0
        while spans and time.monotonic() - began < SECONDS:
            if sent * PER_BODY <= (time.monotonic() - began) * spans:
                request = urllib.request.Request(self._url, self._bodies[sent % BODIES], HEADERS)
                urllib.request.urlopen(request, timeout=30).close()
                sent += 1
            else:
                time.sleep(0.002)
        found: dict[str, float] = json.loads(self._child.stdout.readline())
        return {**found, "spans_per_s": sent * PER_BODY / SECONDS}


def body(number: int) -> bytes:
    """What the batch processor of an SDK sends: ten attributes a span, an exception in one of a hundred."""
    spans: list[bytes] = []
    trace, parent = b"", b""
    for at in range(PER_BODY):
        if at % 4 == 0:
            trace, parent = os.urandom(16), b""
        span = os.urandom(8)
        attributes = [attribute(f"app.key.{n}", part(1, f"value {at} {n}".encode())) for n in range(8)] + [
            attribute("http.route", part(1, b"/orders/{id}")),
            attribute("answer", number_(3, at)),
        ]
        spans.append(
            part(1, trace)
            + part(2, span)
            + (part(4, parent) if parent else b"")
            + part(5, f"GET /orders/{{id}}/{at % 7}".encode())
            + number_(6, 2)
            + fixed64(7, time.time_ns())
            + fixed64(8, time.time_ns() + at * 10_000)
            + b"".join(attributes)
            + (part(11, fixed64(1, time.time_ns()) + part(2, b"exception")) if at % 100 == 0 else b"")
        )
        parent = span
    service = part(1, part(1, part(1, b"service.name") + part(2, part(1, f"service-{number}".encode()))))
    return part(1, service + part(2, b"".join(part(2, span) for span in spans)))


@contextmanager
def child(module: str, argument: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program of the benchmark that prints its port, and ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.bench.{module}", argument],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(20)
        process.stdout.close()


@contextmanager
def ingesting(folder: str) -> Iterator[Taker]:
    with child("telemetry_ingest_serve", folder) as (process, port):
        yield Taker(process, port)


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
    with child("telemetry_serve", how) as (process, port):
        yield Server(psutil.Process(process.pid), port)
