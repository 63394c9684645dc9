"""Every byte of a response, and what an exchange refuses to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from msctl.model.exchange import Exchange
from tests.unit.http.serving import TEXT, serving

Act = Callable[[Exchange], None]
LAST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
OLD = b"GET / HTTP/1.0\r\n\r\n"
TYPE = b"Content-Type: text/plain\r\n"
CLOSE = b"Connection: close\r\n\r\n"
LINK = [(b"Link", b"</a.css>")]


def started(*pieces: bytes, length: int | None, status: int = 200) -> Act:
    """A response in pieces, of which the last comes with its end."""

    def act(exchange: Exchange) -> None:
        exchange.start(status, b"OK", TEXT, length=length)
        for piece in pieces[:-1]:
            exchange.write(piece)
        exchange.finish(pieces[-1] if pieces else b"")

    return act


def responded(status: int, reason: bytes, body: bytes) -> Act:
    return lambda exchange: exchange.respond(status, reason, TEXT, body)


def hinted(exchange: Exchange) -> None:
    exchange.interim(103, b"Early Hints", LINK)
    exchange.respond(200, b"OK", [], b"")


def with_trailers(exchange: Exchange) -> None:
    exchange.start(200, b"OK", [], length=None)
    exchange.finish(b"ab", [(b"Checksum", b"1")])


@pytest.mark.parametrize(
    ("request_", "act", "bytes_"),
    [
        (
            LAST,
            responded(200, b"OK", b"hi"),
            b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n%bhi" % (TYPE, CLOSE),
        ),
        (LAST, responded(299, b"", b""), b"HTTP/1.1 299 \r\n%bContent-Length: 0\r\n%b" % (TYPE, CLOSE)),
        (
            LAST,
            responded(404, b"", b""),
            b"HTTP/1.1 404 Not Found\r\n%bContent-Length: 0\r\n%b" % (TYPE, CLOSE),
        ),
        (LAST, responded(204, b"", b"no"), b"HTTP/1.1 204 No Content\r\n%b%b" % (TYPE, CLOSE)),
        (LAST, responded(304, b"", b""), b"HTTP/1.1 304 Not Modified\r\n%b%b" % (TYPE, CLOSE)),
        (HEAD, responded(200, b"OK", b"hi"), b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n%b" % (TYPE, CLOSE)),
        (HEAD, started(b"hi", length=2), b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n%b" % (TYPE, CLOSE)),
        (HEAD, started(b"hi", length=None), b"HTTP/1.1 200 OK\r\n%b%b" % (TYPE, CLOSE)),
        (LAST, started(length=2, status=204), b"HTTP/1.1 204 OK\r\n%b%b" % (TYPE, CLOSE)),
        (
            LAST,
            started(length=2, status=304),
            b"HTTP/1.1 304 OK\r\n%bContent-Length: 2\r\n%b" % (TYPE, CLOSE),
        ),
        (
            LAST,
            started(b"h", b"", b"i", length=2),
            b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n%bhi" % (TYPE, CLOSE),
        ),
        (LAST, started(length=0), b"HTTP/1.1 200 OK\r\n%bContent-Length: 0\r\n%b" % (TYPE, CLOSE)),
        (
            LAST,
            started(b"h", b"ijklmnopqrs", length=None),
            b"HTTP/1.1 200 OK\r\n%bTransfer-Encoding: chunked\r\n%b1\r\nh\r\nb\r\nijklmnopqrs\r\n0\r\n\r\n"
            % (TYPE, CLOSE),
        ),
        (
            LAST,
            with_trailers,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b2\r\nab\r\n0\r\nChecksum: 1\r\n\r\n" % CLOSE,
        ),
        (OLD, started(b"h", b"i", length=None), b"HTTP/1.1 200 OK\r\n%b\r\nhi" % TYPE),
        (OLD, responded(200, b"OK", b"hi"), b"HTTP/1.1 200 OK\r\n%bContent-Length: 2\r\n\r\nhi" % TYPE),
        (
            LAST,
            hinted,
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n"
            + CLOSE,
        ),
    ],
)
async def test_response_has_these_bytes(request_: bytes, act: Act, bytes_: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        assert (exchange.route, exchange.status, exchange.finished) == ("", 0, False)
        act(exchange)
        assert exchange.finished

    async with serving(handler) as server:
        client = await server.client()
        client.raw(request_)
        assert await client.ended() == bytes_
        assert server.errors == []


def interim_after_the_response(exchange: Exchange) -> None:
    exchange.start(200, b"OK", [], length=1)
    exchange.interim(103, b"", [])


def write_after_the_end(exchange: Exchange) -> None:
    exchange.respond(200, b"OK", [], b"a")
    exchange.write(b"b")


def finish_after_the_end(exchange: Exchange) -> None:
    exchange.respond(200, b"OK", [], b"a")
    exchange.finish()


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (interim_after_the_response, RuntimeError, "interim response after"),
        *(
            (lambda exchange, status=status: exchange.interim(status, b"", []), ValueError, str(status))
            for status in (99, 101, 200)
        ),
        *(
            (lambda exchange, status=status: exchange.respond(status, b"", [], b""), ValueError, str(status))
            for status in (101, 199, 1000)
        ),
        *(
            (
                lambda exchange, status=status: exchange.start(status, b"", [], length=1),
                ValueError,
                str(status),
            )
            for status in (100, 101, 1000)
        ),
        (lambda exchange: exchange.write(b"a"), RuntimeError, "a body outside"),
        (write_after_the_end, RuntimeError, "a body outside"),
        (lambda exchange: exchange.finish(), RuntimeError, "the end of a body outside"),
        (finish_after_the_end, RuntimeError, "the end of a body outside"),
    ],
)
async def test_call_at_a_wrong_time_is_an_error_of_the_handler(
    act: Act, kind: type[Exception], text: str
) -> None:
    async def handler(exchange: Exchange) -> None:
        with pytest.raises(kind, match=text):
            act(exchange)
        if not exchange.status:
            exchange.respond(200, b"OK", [], b"after all")
        exchange.abort()

    async with serving(handler) as server:
        client = await server.client()
        client.get()
        await server.entered()
        await server.until_idle()
        assert server.errors == []


async def test_body_beyond_its_length_cuts_the_connection_off_at_once() -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.start(200, b"OK", [], length=0)
        exchange.write(b"")
        with pytest.raises(ValueError, match="longer"):
            exchange.write(b"a")
        assert exchange.finished
        assert not exchange.keep_alive

    async with serving(handler) as server:
        client = await server.client()
        client.get()
        with pytest.raises(ConnectionError):
            await client.ended()


async def test_nobody_is_told_of_a_client_that_leaves_after_its_response() -> None:
    told: list[str] = []

    async def handler(exchange: Exchange) -> None:
        exchange.on_disconnect(lambda: told.append(exchange.head.target))
        exchange.start(200, b"OK", [], length=None)
        exchange.finish(b"a")
        await exchange.drain()

    async with serving(handler) as server:
        client = await server.client()
        client.get()
        assert (await client.read()).body == b"a"
        client.reset()
        await server.until_idle()
    assert told == []
