"""A WSGI application behind threads of its own: PEP 3333, also where the application breaks it."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from msctl.telemetry.logs.hub import current_service
from tests.support.hosted import hosted, parsed

Start = Callable[..., Callable[[bytes], None]]
Environ = dict[str, Any]


def hello(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [])
    return [environ["wsgi.input"].read()]


async def test_response_of_one_piece_has_its_length() -> None:
    async with hosted(hello, wsgi=True) as served:
        response = await served.request()
    assert (response.status, response.body, response["content-length"]) == (200, b"hello", "5")
    assert response["content-type"] == "text/plain"


async def test_environ_is_that_of_the_request() -> None:
    seen: list[Environ] = []

    def app(environ: Environ, start: Start) -> list[bytes]:
        seen.append(environ)
        return hello(environ, start)

    async with hosted(app, wsgi=True) as served:
        await served.request(
            "GET /caf%C3%A9/a%2Fb?q=%20",
            None,
            "X-Two: a",
            "X-Two: b",
            "Cookie: a=1",
            "Cookie: b=2",
            "X_Forwarded_For: 6.6.6.6",
            "X-Forwarded-Prefix: /api",
        )
    environ = seen[0]
    assert environ["PATH_INFO"] == "/caf\u00c3\u00a9/a/b"
    assert (environ["SCRIPT_NAME"], environ["QUERY_STRING"]) == ("/api", "q=%20")
    assert (environ["HTTP_X_TWO"], environ["HTTP_COOKIE"]) == ("a,b", "a=1; b=2")
    assert "HTTP_X_FORWARDED_FOR" not in environ
    assert "HTTP_X_FORWARDED_PREFIX" not in environ
    assert environ["SERVER_PORT"] == str(served.port)
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (True, False)
    assert environ["msctl.context"].name == "api"


@pytest.mark.parametrize("chunked", [False, True])
async def test_body_that_still_arrives_is_read_in_full(chunked: bool) -> None:
    async with hosted(echo, wsgi=True) as served:
        reader, writer = await served.connect()
        field = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 10"
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + field + b"\r\n\r\n")
        for piece in (b"hello", b"world"):
            await asyncio.sleep(0)
            writer.write(b"5\r\n" + piece + b"\r\n" if chunked else piece)
        writer.write(b"0\r\n\r\n" if chunked else b"")
        assert parsed(await reader.read()).body == b"helloworld"
        writer.close()


async def test_lines_are_not_cut_where_the_body_still_arrives() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        lines = [environ["wsgi.input"].readline(100), environ["wsgi.input"].readline(2)]
        start("200 OK", [])
        return [repr([*lines, *environ["wsgi.input"]]).encode()]

    async with hosted(app, wsgi=True) as served:
        reader, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 11\r\n\r\n")
        await writer.drain()
        writer.write(b"one\ntwo\nend")
        assert parsed(await reader.read()).body == repr([b"one\n", b"tw", b"o\n", b"end"]).encode()
        writer.close()


async def test_pieces_are_sent_as_they_are_made() -> None:
    release = threading.Event()

    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [])
        yield b"one"
        release.wait(10)
        yield b""
        yield b"two"

    async with hosted(app, wsgi=True) as served:
        reader, writer = await served.connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"one\r\n")).startswith(b"HTTP/1.1 200")
        release.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\ntwo\r\n0\r\n\r\n"
        writer.close()


async def test_write_is_supported() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        write = start("201 Made", [("Content-Length", "6")])
        write(b"abc")
        return [b"def"]

    async with hosted(app, wsgi=True) as served:
        response = await served.request()
    assert (response.status, response.body, response.cut) == (201, b"abcdef", False)


async def test_head_has_the_length_and_no_body() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    async with hosted(app, wsgi=True) as served:
        response = await served.request("HEAD /")
    assert (response.body, response["content-length"], response.cut) == (b"", "5", False)


async def test_two_lengths_of_head_are_left_out() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", "300000"), ("Content-Length", "0")])
        return []

    async with hosted(app, wsgi=True) as served:
        response = await served.request("HEAD /")
        assert (response.status, response["content-length"], response.body) == (200, None, b"")
        assert (await served.request()).status == 500


class Closing:
    """An iterable that must be closed."""

    def __init__(self, pieces: Iterable[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        self.closed.set()


@pytest.mark.parametrize("error", [None, ValueError("boom")])
async def test_iterable_is_closed(error: Exception | None) -> None:
    iterable = Closing([b"x", b"y"], error)

    def app(environ: Environ, start: Start) -> Closing:
        start("200 OK", [])
        return iterable

    async with hosted(app, wsgi=True) as served:
        response = await served.request()
        assert response.cut == (error is not None)
    assert iterable.closed.is_set()
    assert ("ValueError: boom" in served.errors()) == (error is not None)


async def test_iterable_is_closed_when_the_client_leaves() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 100_000

    iterable = Closing(endless())

    def app(environ: Environ, start: Start) -> Closing:
        start("200 OK", [])
        return iterable

    async with hosted(app, wsgi=True, threads=1) as served:
        for _ in range(3):  # the only thread comes back each time
            iterable.closed.clear()
            reader, writer = await served.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            writer.transport.abort()
            assert await asyncio.to_thread(iterable.closed.wait, 10)
    assert not served.errors()


def twice(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [])
    start("200 OK", [])
    return [b"x"]


def failing(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [])
    raise ValueError("boom")


def never_started(environ: Environ, start: Start) -> list[bytes]:
    return [b"x"]


def nothing(environ: Environ, start: Start) -> Any:
    return None


def text(environ: Environ, start: Start) -> Any:
    start("200 OK", [])
    return ["text"]


def bad_field(environ: Environ, start: Start) -> list[bytes]:
    start("200 OK", [("x-a", "1\r\nset-cookie: b")])
    return [b"x"]


def bad_status(environ: Environ, start: Start) -> list[bytes]:
    start("OK", [])
    return [b"x"]


def bad_reason(environ: Environ, start: Start) -> list[bytes]:
    start("200 O\r\nK: x", [])
    return [b"x"]


def leaving(environ: Environ, start: Start) -> list[bytes]:
    sys.exit("boom")


def starting(status: Any, *headers: Any) -> Callable[[Environ, Start], list[bytes]]:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start(status, list(headers))
        return [b"x"]

    return app


def raising(error: BaseException) -> Callable[[Environ, Start], list[bytes]]:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [])(b"")
        raise error

    return app


@pytest.mark.parametrize(
    ("app", "reason"),
    [
        (starting(200), "must be a string, not int"),
        (starting(b"200 OK"), "must be a string, not bytes"),
        (starting("\u0662\u0660\u0660 OK"), "WSGI status"),
        (starting("101 Switching Protocols"), "101"),
        (starting("200 OK", (b"x-a", b"1")), "must be strings, not bytes"),
        (starting("200 OK", ("x-a", 1)), "must be strings, not int"),
        (starting("200 OK", ("x-a", "\u20ac")), "UnicodeEncodeError"),
        (starting("200 OK", ("content-length", "-1")), "Content-Length"),
        (raising(ValueError("boom")), "ValueError: boom"),
        (raising(GeneratorExit("boom")), "GeneratorExit: boom"),
        (raising(KeyboardInterrupt("boom")), "KeyboardInterrupt: boom"),
        (twice, "start_response"),
        (failing, "ValueError: boom"),
        (never_started, "before start_response"),
        (nothing, "NoneType"),
        (text, "sends bytes, not str"),
        (bad_field, "header value"),
        (bad_status, "'OK'"),
        (bad_reason, "reason phrase"),
        (leaving, "SystemExit: boom"),
    ],
)
async def test_failure_before_the_response_is_a_500(app: Any, reason: str) -> None:
    async with hosted(app, wsgi=True) as served:
        response = await served.request()
        assert (response.status, response.body) == (500, b"Internal Server Error")
        assert reason in served.errors()


async def test_body_that_is_shorter_than_its_length_is_an_error() -> None:
    def app(environ: Environ, start: Start) -> Iterator[bytes]:
        start("200 OK", [("Content-Length", "2")])
        yield from [b"x", b""]

    async with hosted(app, wsgi=True) as served:
        assert (await served.request()).cut
        assert "shorter" in served.errors()


@pytest.mark.parametrize("pieces", [[b"xyz"], [b"xy", b"z"], [b"x", b"yz", b"z"]])
async def test_body_that_is_longer_than_its_length_is_sent_up_to_it(pieces: list[bytes]) -> None:
    iterable = Closing(pieces)

    def app(environ: Environ, start: Start) -> Closing:
        start("200 OK", [("Content-Length", "2")])
        return iterable

    async with hosted(app, wsgi=True) as served:
        response = await served.request()
        assert (response.body, response.cut) == (b"xy", False)
        assert await asyncio.to_thread(iterable.closed.wait, 10)
        assert any("longer" in line.text and line.level == "warning" for line in served.logs)


async def test_writing_more_than_the_length_is_an_error() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("Content-Length", "2")])(b"xyz")
        return []

    async with hosted(app, wsgi=True) as served:
        assert (await served.request()).status == 500
        assert "longer" in served.errors()


async def test_file_wrapper_sends_the_range_that_the_length_says() -> None:
    def app(environ: Environ, start: Start) -> Iterable[bytes]:
        file = io.BytesIO(b"0123456789")
        file.seek(3)
        start("206 Partial Content", [("Content-Length", "4")])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
        return wrapped

    async with hosted(app, wsgi=True) as served:
        response = await served.request()
    assert (response.status, response.body) == (206, b"3456")
    assert not served.logs


async def test_response_may_be_replaced_until_it_is_sent() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [("X-First", "1")])
        try:
            raise ValueError("boom")
        except ValueError:
            start("503 Busy", [], sys.exc_info())
        return [b"sorry"]

    async with hosted(app, wsgi=True) as served:
        response = await served.request()
    assert (response.status, response.body, response["x-first"]) == (503, b"sorry", None)


async def test_piece_that_is_written_too_late_harms_nobody() -> None:
    failed = threading.Event()

    def app(environ: Environ, start: Start) -> list[bytes]:
        write = start("200 OK", [])

        def late() -> None:
            try:
                write(b"late")
            except RuntimeError:
                failed.set()

        threading.Timer(0.01, late).start()
        return [b"hello"]

    async with hosted(app, wsgi=True) as served:
        assert (await served.request()).body == b"hello"
        assert await asyncio.to_thread(failed.wait, 10)
        assert (await served.request()).body == b"hello"


async def test_broken_body_is_an_oserror_and_the_clients_fault() -> None:
    raised = threading.Event()

    def app(environ: Environ, start: Start) -> list[bytes]:
        try:
            return echo(environ, start)
        except OSError:
            raised.set()
            raise

    async with hosted(app, wsgi=True) as served:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        assert parsed(await served.raw(head + b"5\r\nhello\r\nnonsense\r\n")).status == 400
        assert await asyncio.to_thread(raised.wait, 10)
    assert not served.errors()


async def test_body_that_is_cut_off_leaves_no_traceback() -> None:
    entered, go_on, raised = threading.Event(), threading.Event(), threading.Event()

    def app(environ: Environ, start: Start) -> list[bytes]:
        entered.set()
        go_on.wait(10)  # the client leaves before the body is asked for
        try:
            return echo(environ, start)
        except OSError:
            raised.set()
            raise

    async with hosted(app, wsgi=True) as served:
        _, writer = await served.connect()
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf")
        assert await asyncio.to_thread(entered.wait, 10)
        writer.transport.abort()
        while not served.exchanges[0].disconnected:
            await asyncio.sleep(0)
        go_on.set()
        assert await asyncio.to_thread(raised.wait, 10)
    assert not served.errors()


async def test_as_many_requests_run_as_there_are_threads() -> None:
    running, most, lock = 0, 0, threading.Lock()
    full = threading.Barrier(2, timeout=10)

    def app(environ: Environ, start: Start) -> list[bytes]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        full.wait()
        with lock:
            running -= 1
        return hello(environ, start)

    async with hosted(app, wsgi=True, threads=2) as served:
        responses = await asyncio.gather(*(served.request() for _ in range(6)))
    assert [response.status for response in responses] == [200] * 6
    assert most == 2


async def test_request_that_does_not_end_keeps_no_service_from_stopping() -> None:
    entered, release = threading.Event(), threading.Event()

    def app(environ: Environ, start: Start) -> list[bytes]:
        entered.set()
        release.wait(30)
        return hello(environ, start)

    async with hosted(app, wsgi=True, threads=1) as served:
        running = asyncio.create_task(served.request())
        assert await asyncio.to_thread(entered.wait, 10)
        waiting = asyncio.create_task(served.request())
        while len(served.exchanges) < 2:
            await asyncio.sleep(0)
        await served.app.drain(0.0)
        assert (await running).status == (await waiting).status == 503
        release.set()


async def test_threads_code_runs_as_the_service() -> None:
    def app(environ: Environ, start: Start) -> list[bytes]:
        start("200 OK", [])
        return [current_service.get().encode()]

    async with hosted(app, wsgi=True) as served:
        assert (await served.request()).body == b"api"
