"""Virtual time, and connections that are memory."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from msctl.simulation import virtual_time
from msctl.simulation.history import History
from msctl.simulation.loop import VirtualLoop
from msctl.simulation.network import Network
from msctl.simulation.parties import Life, current
from msctl.simulation.refusals import NotSimulatedError, StuckError

pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""What a run leaves is dropped, not closed, as after a crash."""


@contextmanager
def virtual(seed: int = 1) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(Network(Random(seed)), History())
    try:
        yield loop
    finally:
        loop.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1000):
        writer.write(data.upper())
    writer.close()


async def serving(loop: VirtualLoop, party: str) -> asyncio.AbstractServer:
    async def start() -> asyncio.AbstractServer:
        current.set(Life(party))
        return await asyncio.start_server(echo, loop.network.address(party), 80)

    return await asyncio.create_task(start())


def test_an_hour_passes_at_once() -> None:
    async def wait() -> float:
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time()

    with virtual() as loop:
        assert loop.run_until_complete(wait()) == pytest.approx(3600)


def test_waiting_for_nobody_is_an_error() -> None:
    with virtual() as loop, pytest.raises(StuckError, match="nothing can happen"):
        loop.run_until_complete(loop.create_future())


def test_code_that_never_lets_the_clock_move_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtual_time, "MOST_CALLBACKS_A_MOMENT", 10_000)

    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with virtual() as loop, pytest.raises(StuckError, match="clock stands"):
        loop.run_until_complete(spin())


def test_bytes_arrive_in_order_and_take_time() -> None:
    async def talk(loop: VirtualLoop) -> tuple[bytes, float]:
        await serving(loop, "server")
        reader, writer = await asyncio.open_connection(loop.network.address("server"), 80)
        for piece in (b"one ", b"two ", b"three"):
            writer.write(piece)
        writer.write_eof()
        return await reader.read(), loop.time()

    with virtual() as loop:
        text, took = loop.run_until_complete(talk(loop))
    assert text == b"ONE TWO THREE"
    assert took > 0


def test_where_nobody_listens_the_connection_is_refused() -> None:
    with virtual() as loop, pytest.raises(ConnectionRefusedError):
        loop.run_until_complete(asyncio.open_connection(loop.network.address("server"), 81))


def test_a_partition_holds_bytes_back_and_a_cut_resets() -> None:
    async def talk(loop: VirtualLoop) -> float:
        await serving(loop, "server")
        reader, writer = await asyncio.open_connection(loop.network.address("server"), 80)
        loop.network.partition(("client", "server"), 100.0)
        writer.write(b"late")
        assert await reader.read(10) == b"LATE"
        arrived = loop.time()
        loop.network.cut_soon(("client", "server"))
        with pytest.raises(ConnectionResetError):
            while True:
                writer.write(b"x")
                assert await reader.read(10)
        return arrived

    with virtual() as loop:
        assert loop.run_until_complete(talk(loop)) >= 100


def test_a_reader_that_does_not_read_stops_the_writer() -> None:
    async def talk(loop: VirtualLoop) -> None:
        async def sink(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(1000)

        await asyncio.start_server(sink, loop.network.address("client"), 80)
        _, writer = await asyncio.open_connection(loop.network.address("client"), 80)
        writer.write(b"x" * 10_000_000)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(500):
                await writer.drain()

    with virtual() as loop:
        loop.run_until_complete(talk(loop))


def test_a_crashed_party_runs_no_more_and_its_peers_are_reset() -> None:
    async def talk(loop: VirtualLoop) -> list[str]:
        said: list[str] = []

        async def live() -> None:
            try:
                while True:
                    await asyncio.sleep(1)
                    said.append("alive")
            finally:
                said.append("cleaned up")

        life = Life("server")
        token = current.set(life)
        task = asyncio.ensure_future(live())
        current.reset(token)
        await serving(loop, "server")
        reader, _ = await asyncio.open_connection(loop.network.address("server"), 80)
        await asyncio.sleep(2.5)
        loop.end_life(life)
        loop.end_party("server")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(loop.network.address("server"), 80)
        await asyncio.sleep(10)
        found = list(said)
        del task
        return found

    with virtual() as loop:
        assert loop.run_until_complete(talk(loop)) == ["alive", "alive"]


def test_what_cannot_be_simulated_is_named() -> None:
    async def tls() -> None:
        await asyncio.open_connection("example.test", 443, ssl=True)

    async def outside() -> None:
        await asyncio.open_connection("192.0.2.1", 80)

    async def child() -> None:
        await asyncio.create_subprocess_exec("true")

    async def name() -> None:
        await asyncio.get_running_loop().getaddrinfo("example.test", 80)

    for work, error in (
        (tls, NotSimulatedError),
        (outside, NotSimulatedError),
        (child, NotSimulatedError),
        (name, socket.gaierror),
    ):
        with virtual() as loop, pytest.raises(error, match=r"."):
            loop.run_until_complete(work())
