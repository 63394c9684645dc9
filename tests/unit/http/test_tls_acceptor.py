"""The TLS acceptor: handshakes, clients that fail them, and that these delay no other client."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from msctl.http import tls_acceptor as module
from msctl.http.tls_acceptor import TlsAcceptor
from msctl.model.address import Address
from msctl.ports import bind
from tests.support.certificates import Certificates

pytestmark = pytest.mark.both_loops

PATIENCE = 60.0


class Echo(asyncio.Protocol):
    """Echoes data and counts connections."""

    inside = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Echo.inside += 1
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Entrance:
    """A TLS acceptor on a free port, its CA, and its clients."""

    def __init__(self, certificates: Certificates) -> None:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(*certificates.make("one"))
        self.context = server
        self.trusting = certificates.trusting()
        self.acceptors: list[TlsAcceptor] = []
        self.port = 0

    def open(self, handshake_timeout: float = PATIENCE) -> TlsAcceptor:
        sockets = bind(Address("127.0.0.1", 0), "test")
        self.port = sockets[0].getsockname()[1]
        for sock in sockets:
            sock.listen()
        self.acceptors.append(TlsAcceptor(sockets, Echo, self.context, handshake_timeout=handshake_timeout))
        return self.acceptors[-1]

    async def plain(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def secure(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trusting)


@pytest.fixture
async def entrance(tmp_path: Path) -> AsyncIterator[Entrance]:
    made = Entrance(Certificates.of(tmp_path))
    Echo.inside = 0
    yield made
    for one in made.acceptors:
        one.close()


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Every line of the log; a traceback among them fails the test."""
    caplog.set_level(logging.INFO)
    yield lambda: [record.getMessage() for record in caplog.records]
    assert [record for record in caplog.records if record.exc_info] == []
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def echoed(client: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: bytes) -> bytes:
    client[1].write(text)
    return await client[0].readexactly(len(text))


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Read until the other side closes."""
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            return await reader.read()
    return b""


async def leave(*clients: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    for _, writer in clients:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_a_client_is_served_after_its_handshake(entrance: Entrance) -> None:
    entrance.open()
    one, other = await entrance.secure(), await entrance.secure()
    assert await echoed(one, b"hello") == b"hello"
    big = bytes(range(256)) * 4000
    assert await echoed(other, big) == big
    await leave(one, other)


async def test_plain_http_is_answered_with_400_and_one_log_line(
    entrance: Entrance, heard: Callable[[], list[str]]
) -> None:
    entrance.open()
    client = await entrance.plain()
    client[1].write(b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
    answer = await ended(client[0])
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"https://" in body
    assert f"Content-Length: {len(body)}".encode() in head
    [line] = heard()
    assert line.startswith("400 ")
    assert "plain HTTP" in line
    assert Echo.inside == 0
    await leave(client)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"\x00\x01\x02\x03", None),
        (b"\x16garbage that is no handshake", "wrong version number"),
        (b"\x16\x03\x01\x00\x05\xff\x00\x00\x01\x00", "unexpected message"),
    ],
)
async def test_a_failed_handshake_is_closed_with_at_most_one_log_line(
    entrance: Entrance, heard: Callable[[], list[str]], said: bytes, why: str | None
) -> None:
    entrance.open()
    client = await entrance.plain()
    client[1].write(said)
    await ended(client[0])
    lines = heard()
    assert [line.rpartition(": ")[2] for line in lines] == ([] if why is None else [why])
    await leave(client)


async def test_an_untrusting_client_causes_no_traceback(entrance: Entrance) -> None:
    entrance.open()
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection("localhost", entrance.port, ssl=ssl.create_default_context())
    client = await entrance.secure()
    assert await echoed(client, b"on it goes") == b"on it goes"
    await leave(client)


async def test_a_client_that_connects_and_closes_is_not_logged(
    entrance: Entrance, heard: Callable[[], list[str]]
) -> None:
    entrance.open()
    await leave(await entrance.plain())
    client = await entrance.secure()
    assert await echoed(client, b"x") == b"x"
    assert heard() == []
    await leave(client)


@pytest.mark.parametrize(
    "said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a byte", "a start"]
)
async def test_a_stalled_handshake_is_closed_and_delays_no_other(
    entrance: Entrance, heard: Callable[[], list[str]], said: bytes
) -> None:
    entrance.open(handshake_timeout=0.5)
    silent = await entrance.plain()
    silent[1].write(said)
    client = await entrance.secure()
    assert await echoed(client, b"served meanwhile") == b"served meanwhile"
    assert await ended(silent[0]) == b""
    [line] = heard()
    assert "within 0.5 s" in line
    await leave(silent, client)


async def test_too_many_silent_clients_close_the_oldest(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    entrance.open()
    silent = [await entrance.plain() for _ in range(3)]
    assert await ended(silent[0][0]) == b""
    client = await entrance.secure()
    assert await echoed(client, b"x") == b"x"
    assert await ended(silent[1][0]) == b""
    assert not silent[2][0].at_eof()
    await leave(*silent, client)


@pytest.mark.parametrize(
    "said", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "a byte", "a start"]
)
async def test_closing_drops_silent_clients_and_keeps_served_ones(
    entrance: Entrance, heard: Callable[[], list[str]], said: bytes
) -> None:
    one = entrance.open()
    client = await entrance.secure()
    silent = await entrance.plain()
    silent[1].write(said)
    assert await echoed(client, b"before") == b"before"
    one.close()
    one.close()
    assert await ended(silent[0]) == b""
    assert await echoed(client, b"after") == b"after"
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await entrance.plain()
    assert heard() == []
    await leave(client, silent)


async def test_many_new_clients_close_as_many_of_the_oldest_silent_ones(
    entrance: Entrance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    entrance.open()
    talking = await entrance.plain()
    talking[1].write(b"\x16\x03\x01\x02\x00\x01")
    await leave(await entrance.secure())  # by now the acceptor has accepted the previous one
    loop = asyncio.get_running_loop()
    silent = [socket.create_connection(("127.0.0.1", entrance.port)) for _ in range(5)]  # in one go
    try:
        for sock in silent:
            sock.setblocking(False)
        for sock in silent[:3]:
            async with asyncio.timeout(PATIENCE):
                assert await loop.sock_recv(sock, 1) == b""
        for sock in silent[3:]:
            with pytest.raises(BlockingIOError):
                sock.recv(1)
        assert not talking[0].at_eof()
    finally:
        for sock in silent:
            sock.close()
        await leave(talking)


class OutOfFiles(socket.socket):
    """A listening socket for which the process has no descriptor left, `times` times."""

    times = 0

    def accept(self) -> tuple[socket.socket, object]:
        if OutOfFiles.times:
            OutOfFiles.times -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


async def test_accepting_resumes_after_descriptors_run_out(
    entrance: Entrance, heard: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAUSE_S", 0.05)
    plain = bind(Address("127.0.0.1", 0), "test")[0]
    entrance.port = plain.getsockname()[1]
    OutOfFiles.times = 1
    sock = OutOfFiles(fileno=plain.detach())
    sock.setblocking(False)
    sock.listen()
    entrance.acceptors.append(TlsAcceptor([sock], Echo, entrance.context))
    client = await entrance.secure()
    assert await echoed(client, b"x") == b"x"
    [line] = heard()
    assert line.endswith(": Too many open files")
    await leave(client)


async def test_closing_while_out_of_descriptors_leaves_nothing(
    entrance: Entrance, heard: Callable[[], list[str]]
) -> None:
    plain = bind(Address("127.0.0.1", 0), "test")[0]
    entrance.port = plain.getsockname()[1]
    OutOfFiles.times = 1
    sock = OutOfFiles(fileno=plain.detach())
    sock.setblocking(False)
    sock.listen()
    one = TlsAcceptor([sock], Echo, entrance.context)
    client = await entrance.plain()
    while not heard():
        await asyncio.sleep(0)
    one.close()
    assert await ended(client[0]) == b""
    await leave(client)
