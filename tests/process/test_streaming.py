"""A body of 128 MiB (in `make long`: 1 GiB) each way, in the memory of one request: none of it is kept.

The gateway runs in a process of its own, so that the memory measured is all its own (and, where the
service is hosted, the service's).
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.process.bulk import BLOCK
from tests.support.long import Record
from tests.unit.gateway.harness import HOSTED, KINDS, PATIENCE

MIB = 1024 * 1024
SIZES = [128 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.long)]
"""Any of them is far more than what may be kept."""
FRAMINGS = ["length", "chunks"]
GROWTH = 24 * MIB
"""Memory that the gateway may take for any one exchange; measured are 3 MiB."""
UNDERWAY = 32 * MIB
"""Bytes that may lie between the two ends, of which most are in the sockets' own buffers."""
STILL = 50
"""Requests for which nothing else may move, for it to count as held back."""
ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.parametrize("kind", KINDS),
    pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size // MIB} MiB"),
]


@dataclass(frozen=True, slots=True)
class Bulk:
    """A gateway with the service of `tests.process.bulk` behind it, and the memory it had at first."""

    port: int
    process: psutil.Process
    before: int

    def growth(self) -> int:
        return self.process.memory_info().rss - self.before

    def ask(self, line: str, *fields: str) -> socket.socket:
        """Send a request's head over a connection of its own."""
        client = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        head = "\r\n".join([f"{line} HTTP/1.1", "Host: gateway.test", "Connection: close", *fields, "", ""])
        client.sendall(head.encode())
        return client

    def answer(self, line: str) -> str:
        with self.ask(line) as client:
            return body(client)

    def held_back(self, moved: Callable[[], int]) -> int:
        """What `moved` tells once it tells the same for as long as the gateway has other work to do."""
        last, still = moved(), 0
        while still < STILL:
            self.answer("GET /moved")
            now = moved()
            still = still + 1 if now == last else 0
            last = now
        return last


@contextlib.contextmanager
def program(*arguments: str) -> Iterator[tuple[int, psutil.Process]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.process.bulk", *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            yield int(process.stdout.readline()), psutil.Process(process.pid)
            process.stdin.close()
            # It checks as it ends that it has left no task and no descriptor behind.
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@contextlib.contextmanager
def bulk(kind: str) -> Iterator[Bulk]:
    with contextlib.ExitStack() as stack:
        arguments = [kind]
        if kind != HOSTED:
            port, _ = stack.enter_context(program("service"))
            arguments.append(f"http://127.0.0.1:{port}")
        port, process = stack.enter_context(program(*arguments))
        Bulk(port, process, 0).answer("GET /moved")
        yield Bulk(port, process, process.memory_info().rss)


def head(client: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        assert piece, f"the connection ended after {data!r}"
        data += piece
    return data


def body(client: socket.socket) -> str:
    assert b" 200 " in head(client)
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces).decode()


def take(client: socket.socket, size: int, each: Callable[[], None]) -> int:
    """Read until `size` bytes have come or there are no more, calling `each` for every MiB."""
    buffer = memoryview(bytearray(MIB))
    taken = 0
    while taken < size and (count := client.recv_into(buffer)):
        if taken // MIB != (taken + count) // MIB:
            each()
        taken += count
    return taken


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_long_body_comes_down_at_bounded_memory(kind: str, size: int, framing: str, record: Record) -> None:
    most = 0

    def sample() -> None:
        nonlocal most
        most = max(most, gateway.growth())

    with bulk(kind) as gateway:
        with gateway.ask(f"GET /down?size={size}{'&chunked' if framing == 'chunks' else ''}") as client:
            assert (b"chunked" in head(client)) == (framing == "chunks")
            taken = take(client, 2 * size, sample)
        assert gateway.answer("GET /moved") == f'{{"down": {size}}}'
    assert taken == size if framing == "length" else taken > size
    record("memory that the gateway took, MiB", most / MIB)
    assert most < GROWTH


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_long_body_goes_up_at_bounded_memory(kind: str, size: int, framing: str, record: Record) -> None:
    most = 0
    chunks = framing == "chunks"
    field = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {size}"
    block = b"%x\r\n%b\r\n" % (len(BLOCK), BLOCK) if chunks else BLOCK
    with bulk(kind) as gateway, gateway.ask("POST /up", field) as client:
        for number in range(size // len(BLOCK)):
            client.sendall(block)
            if number % 16 == 0:
                most = max(most, gateway.growth())
        if chunks:
            client.sendall(b"0\r\n\r\n")
        assert body(client) == str(size)
    record("memory that the gateway took, MiB", most / MIB)
    assert most < GROWTH


def test_a_client_that_reads_no_further_holds_back_the_service(kind: str, size: int, record: Record) -> None:
    most = 0

    def sample() -> None:
        nonlocal most
        most = max(most, gateway.growth())

    def sent() -> int:
        sample()
        return int(gateway.answer("GET /moved").partition(":")[2].strip(" }"))

    with bulk(kind) as gateway, gateway.ask(f"GET /down?size={size}") as client:
        head(client)
        taken = take(client, MIB, sample)
        assert gateway.held_back(sent) < UNDERWAY
        taken += take(client, size - taken, sample)
        assert taken == size
    record("memory that the gateway took, MiB", most / MIB)
    assert most < GROWTH


def test_a_service_that_reads_no_further_holds_back_the_client(kind: str, size: int, record: Record) -> None:
    sent = most = 0

    def upload() -> None:
        nonlocal sent
        for _ in range(size // len(BLOCK)):
            client.sendall(BLOCK)
            sent += len(BLOCK)

    def moved() -> int:
        nonlocal most
        most = max(most, gateway.growth())
        return sent

    with bulk(kind) as gateway, gateway.ask(f"POST /up?first={MIB}", f"Content-Length: {size}") as client:
        client.settimeout(60)
        sender = threading.Thread(target=upload, daemon=True)
        sender.start()
        assert gateway.held_back(moved) < UNDERWAY
        gateway.answer("POST /go")
        sender.join()
        assert body(client) == str(size)
    record("memory that the gateway took, MiB", most / MIB)
    assert most < GROWTH
