"""The event loop that we use does not close sockets which are not its own.

uvloop up to 0.22.1 left a socket that was handed to `create_connection` believing that it owned its
descriptor, when the call was cancelled (uvloop issue 738). Once that socket was collected, it closed
whatever had the number by then. aiohttp's client connects in this way, and handler cancellation
cancels connects, so a gateway would lose connections at random.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

if sys.platform not in ("linux", "darwin"):
    pytest.skip("uvloop is not used here", allow_module_level=True)

import uvloop


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    # These tests collect garbage many times: only their own, or they would take as long as the tests
    # before them have left objects behind.
    gc.collect()
    gc.freeze()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            yield runner
    finally:
        gc.unfreeze()


def listening(family: socket.AddressFamily, folder: str) -> socket.socket:
    sock = socket.socket(family)
    sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else f"{folder}/s")
    sock.listen(64)
    return sock


async def cancel_in_mid_connect(family: socket.AddressFamily, folder: str) -> None:
    loop = asyncio.get_running_loop()
    with listening(family, folder) as server:
        sock = socket.socket(family)
        sock.setblocking(False)
        await loop.sock_connect(sock, server.getsockname())
        number = sock.fileno()
        if family == socket.AF_INET:
            connecting = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, sock=sock))
        else:
            connecting = asyncio.ensure_future(loop.create_unix_connection(asyncio.Protocol, sock=sock))
        await asyncio.sleep(0)  # it now waits for its transport
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        for _ in range(3):  # the loop closes the descriptor in a later round
            await asyncio.sleep(0)
        assert connecting.cancelled()
        del connecting

        unrelated = take_number(number)
        try:
            del sock
            gc.collect()
            assert [sock_.fileno() for sock_ in unrelated if alive(sock_)] == [s.fileno() for s in unrelated]
        finally:
            for other in unrelated:
                other.detach() if not alive(other) else other.close()


def take_number(number: int) -> list[socket.socket]:
    """Open sockets until one has the descriptor `number`, as a busy server would."""
    taken = [socket.socket()]
    while taken[-1].fileno() < number:
        taken.append(socket.socket())
    assert any(s.fileno() == number for s in taken), "the cancelled connect has leaked its descriptor"
    return taken


def alive(sock: socket.socket) -> bool:
    try:
        os.fstat(sock.fileno())
    except OSError:
        return False
    return True


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
def test_a_cancelled_connect_never_closes_an_unrelated_socket(
    run: asyncio.Runner, family: socket.AddressFamily, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A short path: that of a Unix socket is limited to about a hundred bytes.
    folder = str(tmp_path_factory.mktemp("u"))
    run.run(cancel_in_mid_connect(family, folder))


def test_many_cancelled_connects_leave_the_connections_of_others_alone(run: asyncio.Runner) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        streams = []
        for turn in range(60):
            connecting = asyncio.ensure_future(loop.create_connection(asyncio.Protocol, host, port))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            connecting.cancel()
            (result,) = await asyncio.gather(connecting, return_exceptions=True)
            if isinstance(result, tuple):
                result[0].close()
            del result, connecting
            streams.append(await asyncio.open_connection(host, port))
            gc.collect()
        for reader, writer in streams:
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.close()
            await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run.run(scenario())
