"""Hosted, isolated, or a command, of aiohttp, ASGI or WSGI: the same bytes get the same answers."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.cli import Msctl
from tests.support.hosted import Response, parsed
from tests.support.ports import reserved_port
from tests.support.waiting import eventually

HERE = Path(__file__).parent / "three_ways"
WAYS = (
    "aiohttp-hosted",
    "aiohttp-isolated",
    "aiohttp-command",
    "asgi-hosted",
    "asgi-isolated",
    "wsgi-hosted",
    "wsgi-isolated",
)
CONFIGURATION = """
[services.{name}]
{run}
routes = [{{ path = "/{name}", strip_prefix = true }}]
"""
RUN = {
    "aiohttp-hosted": 'app = "with_aiohttp:create_app"',
    "aiohttp-isolated": 'app = "with_aiohttp:create_app"\nisolation = "process"',
    "aiohttp-command": 'command = ["{python}", "with_aiohttp.py"]',
    "asgi-hosted": 'app = "with_asgi:app"',
    "asgi-isolated": 'app = "with_asgi:app"\nisolation = "process"',
    "wsgi-hosted": 'app = "with_wsgi:app"',
    "wsgi-isolated": 'app = "with_wsgi:app"\nisolation = "process"',
}


@dataclass(frozen=True)
class System:
    """The stack, and the port of its gateway."""

    msctl: Msctl
    port: int
    folder: Path

    async def send(self, data: bytes, *, eof: bool = False) -> Response:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received, cut = b"", False
        try:
            writer.write(data)
            if eof:
                writer.write_eof()
            while piece := await reader.read(65536):
                received += piece
        except ConnectionResetError:
            cut = True
        finally:
            writer.close()
        while received.startswith(b"HTTP/1.1 100"):
            received = received.partition(b"\r\n\r\n")[2]
        return parsed(received, cut=cut)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("ways")
    for file in HERE.glob("with_*.py"):
        shutil.copy(file, folder)
    with reserved_port() as gateway, reserved_port() as broker:
        services = "".join(
            CONFIGURATION.format(name=name, run=run.format(python=sys.executable))
            for name, run in RUN.items()
        )
        (folder / "msctl.toml").write_text(
            f'[project]\nname = "ways"\n[gateway]\nport = {gateway}\n'
            f'[broker]\nurl = "amqp://guest:guest@127.0.0.1:{broker}/"\n{services}'
        )
        msctl = Msctl(folder, tmp_path_factory.mktemp("run"), {})
        msctl.ok("up", "-d")
        yield System(msctl, gateway, folder)
        msctl.ok("down")


def request(line: str, *fields: str, version: str = "1.1", close: bool = True) -> bytes:
    """A request's head; {way} in its target is put in by the test."""
    lines = [f"{line} HTTP/{version}", "Host: localhost", *fields]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunked(size: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (65536, b"x" * 65536) for _ in range(size // 65536)) + b"0\r\n\r\n"


LIMIT = 16 * 1024 * 1024
COOKIE = "a" * 9000
MANY = [f"X-Probe-{number}: {number:04}" for number in range(150)]
PROBES: dict[str, tuple[bytes, int, bytes | None]] = {
    "a plain request": (request("GET /{way}/"), 200, b"GET 1.1"),
    "HTTP/1.0": (request("GET /{way}/", version="1.0", close=False), 200, None),
    "HTTP/1.0 and a stream": (request("GET /{way}/stream", version="1.0", close=False), 200, b"onetwo"),
    "HEAD": (request("HEAD /{way}/"), 200, b""),
    "a body with a length": (request("POST /{way}/size", "Content-Length: 5") + b"hello", 200, b"5"),
    "a body in chunks": (
        request("POST /{way}/size", "Transfer-Encoding: chunked") + chunked(3 * 1024 * 1024),
        200,
        b"%d" % (3 * 1024 * 1024),
    ),
    "a length over the limit": (request("POST /{way}/size", f"Content-Length: {LIMIT + 1}"), 413, None),
    "chunks over the limit": (
        request("POST /{way}/size", "Transfer-Encoding: chunked") + chunked(LIMIT + 131072),
        413,
        None,
    ),
    "a broken chunk": (
        request("POST /{way}/size", "Transfer-Encoding: chunked") + b"5\r\nhello\r\nnonsense\r\n",
        400,
        None,
    ),
    "two lengths": (
        request("POST /{way}/size", "Content-Length: 5", "Content-Length: 6") + b"hello",
        400,
        None,
    ),
    "an unread body": (request("POST /{way}/refuse", "Content-Length: 200000") + b"x" * 200_000, 403, b"no"),
    "Expect": (
        request("POST /{way}/size", "Content-Length: 5", "Expect: 100-continue") + b"hello",
        200,
        b"5",
    ),
    "an unknown expectation": (request("GET /{way}/", "Expect: magic"), 417, None),
    "a field of 9,000 bytes": (request("GET /{way}/head-size", f"X-Probe: {COOKIE}"), 200, b"1 9000"),
    "150 fields": (request("GET /{way}/head-size", *MANY), 200, b"150 600"),
    "a response field of 9,000 bytes": (request("GET /{way}/long-field"), 200, b"9000"),
    "150 Set-Cookie": (request("GET /{way}/cookies"), 200, b"150"),
    "no content": (request("GET /{way}/nothing"), 204, b""),
    "an exception": (request("GET /{way}/fail"), 500, None),
    "a stream": (request("GET /{way}/stream"), 200, b"onetwo"),
    "an unknown method": (request("BREW /{way}/"), 501, None),
    "an unknown path": (request("GET /{way}/nothing-like-it"), 404, None),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("probe", PROBES)
async def test_same_bytes_get_the_same_answer(system: System, probe: str, way: str) -> None:
    data, status, body = PROBES[probe]
    response = await system.send(data.replace(b"{way}", way.encode()))
    assert (response.status, response.cut) == (status, False)
    assert body is None or response.body == body
    assert response["x-request-id"] is not None or status in (400, 417, 501)
    if probe == "150 Set-Cookie":
        values = [value for name, value in response.fields if name == "set-cookie"]
        assert values == [f"c{number}={number}" for number in range(150)]
    if probe == "a response field of 9,000 bytes":
        assert response["x-long"] == "x" * 9000


@pytest.mark.parametrize("way", WAYS)
async def test_failure_within_a_response_is_no_clean_end(system: System, way: str) -> None:
    response = await system.send(request(f"GET /{way}/cut"))
    assert response.cut


@pytest.mark.parametrize("way", WAYS)
async def test_half_closed_client_gets_its_response(system: System, way: str) -> None:
    response = await system.send(request(f"GET /{way}/slow"), eof=True)
    assert (response.status, response.body) == (200, b"slow")


@pytest.mark.parametrize("way", WAYS)
async def test_pipelined_requests_are_answered_in_order(system: System, way: str) -> None:
    first, second = request(f"GET /{way}/slow", close=False), request(f"GET /{way}/")
    reader, writer = await asyncio.open_connection("127.0.0.1", system.port)
    writer.write(first + second)
    received = await reader.read()
    writer.close()
    assert received.index(b"slow") < received.index(b"GET 1.1")


@pytest.mark.parametrize("way", WAYS)
async def test_handler_is_not_cancelled_when_its_client_leaves(system: System, way: str) -> None:
    mark = system.folder / f"{way}.mark"
    _, writer = await asyncio.open_connection("127.0.0.1", system.port)
    writer.write(request(f"GET /{way}/store?mark={mark}"))
    await asyncio.to_thread(eventually, lambda: mark.with_suffix(".stored").exists())
    writer.transport.abort()
    await asyncio.to_thread(eventually, lambda: mark.with_suffix(".published").exists())


@pytest.mark.parametrize("way", [way for way in WAYS if "wsgi" not in way])
async def test_websocket_keeps_its_subprotocol_messages_and_close_code(system: System, way: str) -> None:
    url = f"http://127.0.0.1:{system.port}/{way}/chat"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=["chat"]) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str() == "echo hello"
        await socket.send_str("bye")
        end: Any = await socket.receive()
        assert (end.type, end.data, end.extra) == (aiohttp.WSMsgType.CLOSE, 4001, "bye")


@pytest.mark.parametrize("way", [way for way in WAYS if "wsgi" not in way])
async def test_websocket_messages_are_compressed(system: System, way: str) -> None:
    url = f"http://127.0.0.1:{system.port}/{way}/chat"
    long = "hello " * 100_000
    async with aiohttp.ClientSession() as session, session.ws_connect(url, compress=15) as socket:
        assert socket.compress
        for text in ("hello", long, "hello"):
            await socket.send_str(text)
            assert await socket.receive_str() == f"echo {text}"


# A command has the log of its own server, which aiohttp's fills with such errors.
@pytest.mark.parametrize("way", [way for way in WAYS if "command" not in way])
async def test_clients_faults_leave_no_traceback(system: System, way: str) -> None:
    for probe in ("a broken chunk", "chunks over the limit", "a length over the limit"):
        await system.send(PROBES[probe][0].replace(b"{way}", way.encode()))
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", system.port)
        writer.write(request(f"POST /{way}/size", "Content-Length: 100") + b"half")
        await writer.drain()
        writer.transport.abort()
    await system.send(request(f"GET /{way}/fail"))
    log = await asyncio.to_thread(system.msctl.ok, "logs", way, "-n", "1000")
    assert "boom" in log
    blamed = [name for name in ("RequestError", "ClientGoneError", "ConnectionReset") if name in log]
    assert not blamed, log
