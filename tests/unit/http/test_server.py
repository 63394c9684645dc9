"""The server on real sockets: requests in order, persistence, both kinds of end, errors of handlers."""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

import pytest

from msctl.http.limits import HttpLimits
from msctl.model.exchange import ClientGoneError, Exchange, RequestError
from tests.support.certificates import Certificates
from tests.unit.http.serving import PATIENCE, TEXT, Client, echo, hello, read_all, serving

pytestmark = pytest.mark.both_loops

MIB = 1024 * 1024


async def test_response_has_our_framing_and_nothing_else() -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.get()

        response = await client.read()

    assert (response.version, response.status, response.body) == (b"HTTP/1.1", 200, b"Hello\n")
    assert response.fields == {"content-type": "text/plain", "content-length": "6"}


async def test_connection_survives_a_task_of_the_handler_that_still_reads() -> None:
    reading: list[asyncio.Task[bytes]] = []

    async def answers_first(exchange: Exchange) -> None:
        if exchange.head.target == "/0":
            reading.append(asyncio.create_task(exchange.body.read()))
            await asyncio.sleep(0)
        exchange.respond(200, b"OK", TEXT, b"early")

    async with serving(answers_first) as server:
        client = await server.client()
        client.raw(b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        assert (await client.read()).body == b"early"
        client.raw(b"abcd")
        client.get(b"/1")
        assert (await client.read()).body == b"early"
        with pytest.raises(ClientGoneError):
            await reading[0]


async def test_connection_is_kept_for_the_next_request() -> None:
    async with serving(echo) as server:
        client = await server.client()
        for number in range(3):
            client.send(b"POST /%d HTTP/1.1" % number, b"Host: a", b"Content-Length: 2", body=b"ab")
            assert (await client.read()).body == b"/%d ab" % number
        assert server.server.connections == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    running = 0

    async def slow_first(exchange: Exchange) -> None:
        nonlocal running
        running += 1
        assert running == 1
        if exchange.head.target == "/0":
            await asyncio.sleep(0.02)
        running -= 1
        await echo(exchange)

    async with serving(slow_first) as server:
        client = await server.client()
        post = b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n%d\r\n0\r\n\r\n"
        client.raw(b"".join(post % (number, number) for number in range(9)))

        assert [(await client.read()).body for _ in range(9)] == [b"/%d %d" % (n, n) for n in range(9)]


async def test_what_is_pipelined_is_bounded() -> None:
    release = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        await release.wait()
        exchange.respond(204, b"", [], b"")

    async with serving(wait) as server:
        client = await server.client()
        request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 7000 + b"\r\n\r\n"
        sent, count = 0, 0
        sock = client.socket
        async with asyncio.timeout(PATIENCE):
            while client.writer.transport.get_write_buffer_size() < MIB and sent < 64 * MIB:
                client.raw(request * 100)
                sent, count = sent + 100 * len(request), count + 100
                await asyncio.sleep(0)
        assert sock.fileno() >= 0
        assert sent < 64 * MIB  # the server has stopped reading

        release.set()
        for _ in range(count):
            assert (await client.read()).status == 204


async def test_responses_that_nobody_reads_stop_the_next_request() -> None:
    served = 0

    async def large(exchange: Exchange) -> None:
        nonlocal served
        served += 1
        exchange.respond(200, b"", [], b"a" * MIB)

    async with serving(large) as server:
        client = await server.client()
        client.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 1000)
        before = -1
        while served != before or not served:
            before = served
            await asyncio.sleep(0.05)
        assert served < 100
        assert len((await client.read()).body) == MIB


async def test_malformed_request_after_good_ones_is_refused_in_its_turn() -> None:
    async with serving(echo) as server:
        client = await server.client()
        client.get(b"/1")
        client.raw(b"GET /2 HTTP/1.1\r\nHost : a\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n")

        assert (await client.read()).body == b"/1 "
        refused = await client.read()
        assert await client.ended() == b""

    assert (refused.version, refused.status) == (b"HTTP/1.1", 400)
    assert refused.fields["content-type"] == "application/problem+json"
    assert refused.fields["connection"] == "close"
    assert json.loads(refused.body)["status"] == 400
    assert [error.status for error in server.refusals] == [400]


@pytest.mark.parametrize(
    ("fields", "closes"), [([], True), ([b"Connection: keep-alive"], False), ([b"Connection: close"], True)]
)
async def test_http10_is_kept_only_when_asked_for(fields: list[bytes], closes: bool) -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.send(b"GET / HTTP/1.0", *fields)
        response = await client.read()

        assert (response.version, response.body) == (b"HTTP/1.1", b"Hello\n")
        assert response.fields.get("connection") == (None if closes else "keep-alive")
        if closes:
            assert await client.ended() == b""
        else:
            client.send(b"GET / HTTP/1.0")
            assert (await client.read()).status == 200


async def test_connection_close_of_the_client_is_honoured() -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.get(b"/", b"Connection: close")

        assert (await client.read()).fields["connection"] == "close"
        assert await client.ended() == b""


async def test_body_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    async def stream(exchange: Exchange) -> None:
        exchange.start(200, b"", TEXT, length=None)
        for piece in (b"one", b"", b"two"):
            exchange.write(piece)
        exchange.finish(b"!", [(b"X-Sum", b"7")])

    async with serving(stream) as server:
        client = await server.client()
        client.get()
        chunked = await client.read()
        client.send(b"GET / HTTP/1.0", b"Connection: keep-alive")
        ended = await client.read()

    assert (chunked.body, chunked.trailers) == (b"onetwo!", [b"X-Sum: 7"])
    assert ended.body == b"onetwo!"
    assert "transfer-encoding" not in ended.fields


@pytest.mark.parametrize("status", [200, 204, 304])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_no_body_where_http_has_none(method: str, status: int) -> None:
    async def whole(exchange: Exchange) -> None:
        exchange.respond(status, b"", [], b"abc")

    async def parts(exchange: Exchange) -> None:
        exchange.start(status, b"", [], length=3)
        exchange.write(b"ab")
        exchange.finish(b"c")

    for handler in (whole, parts):
        async with serving(handler) as server:
            client = await server.client()
            for _ in range(2):
                client.send(method.encode() + b" / HTTP/1.1", b"Host: a")
                response = await client.read(method)
                assert response.status == status
                assert response.body == (b"abc" if (method, status) == ("GET", 200) else b"")
                assert response.fields == ({} if status == 204 else {"content-length": "3"})


async def test_head_is_sent_with_the_first_piece_or_by_flush() -> None:
    release = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.start(200, b"", [], length=None)
        exchange.flush()
        await release.wait()
        exchange.finish(b"late")

    async with serving(stream) as server:
        client = await server.client()
        client.get()
        async with asyncio.timeout(PATIENCE):
            assert b"200" in await client.reader.readuntil(b"\r\n\r\n")
        release.set()
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readuntil(b"0\r\n\r\n") == b"4\r\nlate\r\n0\r\n\r\n"


async def test_interim_responses_reach_http11_alone() -> None:
    async def hints(exchange: Exchange) -> None:
        exchange.interim(103, b"Early Hints", [(b"Link", b"</a>")])
        await hello(exchange)

    async with serving(hints) as server:
        client = await server.client()
        client.get()
        assert [(await client.read()).status for _ in range(2)] == [103, 200]
        client.send(b"GET / HTTP/1.0")
        assert (await client.read()).status == 200


async def test_continue_is_sent_at_the_first_read() -> None:
    reads = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await reads.wait()
        await echo(exchange)

    async with serving(late) as server:
        client = await server.client()
        client.send(b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Expect: 100-continue")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await client.reader.readexactly(1)
        reads.set()
        assert (await client.read()).status == 100
        client.raw(b"abc")
        assert (await client.read()).body == b"/x abc"
        client.get()
        assert (await client.read()).status == 200


async def test_refusal_without_reading_sends_no_continue_and_closes() -> None:
    async def refuse(exchange: Exchange) -> None:
        raise RequestError(413, "too long")

    async with serving(refuse) as server:
        client = await server.client()
        client.send(b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: 3", b"Expect: 100-continue")

        response = await client.read()
        assert (response.status, response.fields["connection"]) == (413, "close")
        assert json.loads(response.body)["detail"] == "too long"
        assert await client.ended() == b""
    assert not server.errors


async def test_client_that_sends_on_reads_the_refusal_instead_of_a_reset() -> None:
    async def refuse(exchange: Exchange) -> None:
        raise RequestError(413, "too long")

    async with serving(refuse) as server:
        for framing in (b"Content-Length: %d" % (20 * MIB), b"Transfer-Encoding: chunked"):
            client = await server.client()
            client.send(b"POST /x HTTP/1.1", b"Host: a", framing)
            async with asyncio.timeout(PATIENCE):
                for _ in range(20):
                    client.raw(b"100000\r\n" + b"a" * MIB + b"\r\n")
                    await client.writer.drain()
            assert (await client.read()).status == 413
            assert await client.ended() == b""


async def test_unread_body_is_dropped_to_keep_the_connection() -> None:
    async with serving(hello) as server:
        client = await server.client()
        for framing, body in (
            (b"Content-Length: 5", b"abcde"),
            (b"Transfer-Encoding: chunked", b"5\r\nabcde\r\n0\r\n\r\n"),
        ):
            client.send(b"POST / HTTP/1.1", b"Host: a", framing)
            assert (await client.read()).status == 200
            client.raw(body)
        client.get()
        assert "connection" not in (await client.read()).fields


async def test_long_unread_body_closes_the_connection() -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.send(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % MIB)
        assert (await client.read()).fields["connection"] == "close"
        client.raw(b"a" * 1000)
        assert await client.ended() == b""


async def test_body_that_nobody_reads_stops_the_client() -> None:
    release = asyncio.Event()
    got = 0

    async def late(exchange: Exchange) -> None:
        nonlocal got
        await release.wait()
        while piece := await exchange.body.read():
            got += len(piece)
        assert exchange.body.received == got
        exchange.respond(200, b"", [], b"")

    async with serving(late) as server:
        client = await server.client()
        client.send(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % (64 * MIB))
        client.raw(b"a" * 64 * MIB)
        before = -1
        while (left := client.writer.transport.get_write_buffer_size()) != before:
            before = left
            await asyncio.sleep(0.05)
        assert left > 32 * MIB
        release.set()
        assert (await client.read()).status == 200
    assert got == 64 * MIB


async def test_response_that_nobody_reads_stops_the_handler() -> None:
    sent = 0

    async def flood(exchange: Exchange) -> None:
        nonlocal sent
        exchange.start(200, b"", [], length=64 * MIB)
        while sent < 64 * MIB:
            exchange.write(b"a" * MIB)
            sent += MIB
            if exchange.writing_paused:
                await exchange.drain()
        exchange.finish()

    async with serving(flood) as server:
        client = await server.client()
        client.get()
        async with asyncio.timeout(PATIENCE):
            await client.reader.readuntil(b"\r\n\r\n")
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.05)
            assert sent < 48 * MIB
            assert await client.reader.readexactly(64 * MIB) == b"a" * 64 * MIB


@pytest.mark.parametrize(
    "body", [b"xyz\r\n", b"3\r\nab", b"3\r\nabcd\r\n0\r\n\r\n"], ids=["no size", "short", "long"]
)
async def test_malformed_body_is_a_400_of_the_client(body: bytes) -> None:
    async with serving(echo) as server:
        client = await server.client()
        client.send(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", body=body)
        client.end()

        response = await client.read()
        assert (response.status, response.fields["connection"]) == (400, "close")
        assert await client.ended() == b""
    assert not server.errors


async def test_malformed_body_that_nobody_reads_ends_the_connection() -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.send(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked", body=b"x\r\n\r\n")
        client.get(b"/smuggled")
        assert (await client.read()).fields["connection"] == "close"
        assert await client.ended() == b""


async def test_half_closed_client_gets_every_response() -> None:
    async with serving(echo) as server:
        client = await server.client()
        client.get(b"/1")
        client.send(b"POST /2 HTTP/1.1", b"Host: a", b"Content-Length: 3", body=b"abc")
        client.end()

        assert (await client.read()).body == b"/1 "
        assert (await client.read()).body == b"/2 abc"
        assert await client.ended() == b""


async def test_half_closed_client_waits_for_a_slow_handler() -> None:
    async def slow(exchange: Exchange) -> None:
        exchange.on_disconnect(lambda: gone.append(1))
        await asyncio.sleep(0.3)
        await hello(exchange)

    gone: list[int] = []
    async with serving(slow) as server:
        for line in (b"GET / HTTP/1.1", b"GET / HTTP/1.0"):
            client = await server.client()
            client.send(line, b"Host: a")
            client.end()
            response = await client.read()
            while response.status == 100:
                response = await client.read()
            assert response.body == b"Hello\n"
    assert not gone


async def test_half_closed_client_reads_a_response_that_is_written_bit_by_bit() -> None:
    gone: list[int] = []

    async def stream(exchange: Exchange) -> None:
        exchange.on_disconnect(lambda: gone.append(1))
        exchange.start(200, b"", TEXT, length=None)
        exchange.flush()
        for _ in range(30):
            await asyncio.sleep(0.02)
            exchange.write(b"a")
        exchange.finish()

    async with serving(stream) as server:
        client = await server.client()
        client.get()
        await server.entered()
        client.end()
        assert (await client.read()).body == b"a" * 30
    assert not gone


async def test_handler_of_a_quiet_stream_is_told_of_a_client_that_ends() -> None:
    gone = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.on_disconnect(gone.set)
        exchange.start(200, b"", TEXT, length=None)
        exchange.flush()
        await gone.wait()
        exchange.finish(b"end")

    async with serving(stream) as server:
        client = await server.client()
        client.get()
        await server.entered()
        client.end()
        assert (await client.read()).body == b"end"


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_handler_is_told_of_a_client_that_leaves_and_runs_to_its_end(how: str) -> None:
    gone, ran = asyncio.Event(), asyncio.Event()

    async def long(exchange: Exchange) -> None:
        exchange.on_disconnect(gone.set)
        await gone.wait()
        assert exchange.disconnected
        await asyncio.sleep(0.02)
        exchange.respond(200, b"", [], b"nobody reads this")
        ran.set()

    async with serving(long) as server:
        client = await server.client()
        client.get()
        await server.entered()
        getattr(client, how)()
        async with asyncio.timeout(PATIENCE):
            await gone.wait()
            await ran.wait()
        await server.until_idle()
    assert not server.errors


async def test_read_and_drain_raise_when_the_client_leaves() -> None:
    raised: list[type[BaseException]] = []

    async def wait(exchange: Exchange) -> None:
        try:
            if exchange.head.length:
                await read_all(exchange)
            else:
                exchange.start(200, b"", [], length=None)
                while True:
                    exchange.write(b"a" * MIB)
                    await exchange.drain()
        except ConnectionError as error:
            raised.append(type(error))
            raise

    async with serving(wait) as server:
        for fields in ([b"Content-Length: 5"], []):
            client = await server.client()
            client.send(b"GET / HTTP/1.1", b"Host: a", *fields)
            await server.entered()
            client.reset()
            await server.until_idle()
    assert raised == [ClientGoneError, ClientGoneError]
    assert not server.errors


async def test_bug_of_a_handler_is_reported_and_gets_a_500() -> None:
    async def fail(exchange: Exchange) -> None:
        raise LookupError("secret")

    async with serving(fail) as server:
        client = await server.client()
        client.get()
        response = await client.read()
        assert await client.ended() == b""

    assert response.status == 500
    assert b"secret" not in response.body
    assert [type(error) for error in server.errors] == [LookupError]


async def test_handler_that_returns_early_is_reported() -> None:
    async def forget(exchange: Exchange) -> None:
        if exchange.head.target == "/started":
            exchange.start(200, b"", [], length=None)
            exchange.write(b"some")

    async with serving(forget) as server:
        client = await server.client()
        client.get()
        assert (await client.read()).status == 500
        client = await server.client()
        client.get(b"/started")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await client.read()
    assert len(server.errors) == 2


async def test_handler_that_awaits_something_cancelled_is_reported() -> None:
    async def cancelled(exchange: Exchange) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with serving(cancelled) as server:
        client = await server.client()
        client.get()
        assert (await client.read()).status == 500
    assert [type(error) for error in server.errors] == [asyncio.CancelledError]


@pytest.mark.parametrize("error", [LookupError("x"), ConnectionResetError("x"), RequestError(400, "x")])
async def test_response_that_breaks_off_is_reset(error: Exception) -> None:
    async def fail(exchange: Exchange) -> None:
        exchange.start(200, b"", [], length=None)
        exchange.write(b"some")
        raise error

    async with serving(fail) as server:
        client = await server.client()
        client.send(b"GET / HTTP/1.0")
        with pytest.raises(ConnectionError):
            await client.ended()


async def test_body_that_does_not_match_its_length_is_reset() -> None:
    async def wrong(exchange: Exchange) -> None:
        exchange.start(200, b"", [], length=3)
        exchange.finish(b"ab" if exchange.head.target == "/short" else b"abcd")

    async with serving(wrong) as server:
        for target in (b"/short", b"/long"):
            client = await server.client()
            client.get(target)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await client.read()
    assert [type(error) for error in server.errors] == [ValueError]


@pytest.mark.parametrize(
    "fields",
    [[(b"X", b"a\r\nY: b")], [(b"X\nY", b"a")], [(b"X", b"a\rb")], [(b"X", b"\r\n\r\nHTTP/1.1 200")]],
)
async def test_line_end_in_a_field_never_reaches_the_client(fields: list[tuple[bytes, bytes]]) -> None:
    async def split(exchange: Exchange) -> None:
        if exchange.head.target == "/whole":
            exchange.respond(200, b"", fields, b"")
        exchange.start(200, b"", fields, length=0)

    async with serving(split) as server:
        for target in (b"/whole", b"/parts"):
            client = await server.client()
            client.get(target)
            assert (await client.read()).status == 500
            assert await client.ended() == b""


async def test_second_response_is_an_error_of_the_handler() -> None:
    async def twice(exchange: Exchange) -> None:
        await hello(exchange)
        await hello(exchange)

    async with serving(twice) as server:
        client = await server.client()
        client.get()
        client.get()
        assert [(await client.read()).status for _ in range(2)] == [200, 200]
        assert len(server.errors) >= 1


async def test_handler_may_go_on_after_its_response() -> None:
    release = asyncio.Event()
    ran: list[str] = []

    async def background(exchange: Exchange) -> None:
        await hello(exchange)
        await release.wait()
        ran.append(exchange.head.target)

    async with serving(background) as server:
        client = await server.client()
        client.get(b"/", b"Connection: close")
        assert (await client.read()).body == b"Hello\n"
        assert await client.ended() == b""
        assert not ran
        release.set()
        await server.until_idle()
    assert ran == ["/"]


async def test_read_that_waits_ends_with_the_response() -> None:
    ended: list[BaseException] = []

    async def both(exchange: Exchange) -> None:
        async def reading() -> None:
            try:
                await read_all(exchange)
            except ConnectionError as error:
                ended.append(error)

        task = asyncio.create_task(reading())
        await asyncio.sleep(0)
        await hello(exchange)
        await task

    async with serving(both) as server:
        client = await server.client()
        client.send(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 5")
        assert (await client.read()).status == 200
        client.raw(b"abcde")
        client.get()
        assert (await client.read()).status == 200
    assert [type(error) for error in ended] == [ClientGoneError]


async def test_idle_connection_is_closed_and_slow_head_refused() -> None:
    async with serving(hello, limits=HttpLimits(keepalive=0.15)) as server:
        idle, slow, used, begun = [await server.client() for _ in range(4)]
        slow.raw(b"GET / HT")
        used.get()
        begun.get()
        begun.raw(b"GET / HTTP/1.1\r\nHost")
        assert await idle.ended() == b""
        assert (await slow.read()).status == 408
        assert await slow.ended() == b""
        assert (await used.read()).status == 200
        assert await used.ended() == b""
        assert [(await begun.read()).status for _ in range(2)] == [200, 408]


async def test_client_that_reads_nothing_is_aborted() -> None:
    async def flood(exchange: Exchange) -> None:
        exchange.respond(200, b"", [], b"a" * 64 * MIB)

    async with serving(flood, limits=HttpLimits(keepalive=0.2)) as server:
        client = await server.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.get()
        await server.entered()
        await server.until_idle()


async def test_slow_handler_is_not_idle() -> None:
    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(0.3)
        await hello(exchange)

    async with serving(slow, limits=HttpLimits(keepalive=0.1)) as server:
        client = await server.client()
        client.get()
        assert (await client.read()).status == 200


class Echo:
    """A receiver that echoes, and records the end."""

    def __init__(self) -> None:
        self.stream: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.got = b""
        self.ends = 0
        self.ended = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.stream.result().write(data)  # type: ignore[attr-defined]

    def eof_received(self) -> None:
        self.ends += 1
        self.ended.set()


async def test_upgrade_loses_no_byte_that_came_with_the_head() -> None:
    echoes: list[Echo] = []

    async def upgrade(exchange: Exchange) -> None:
        await asyncio.sleep(0.02)
        receiver = Echo()
        echoes.append(receiver)
        stream = exchange.upgrade([(b"X", b"y")], receiver)
        receiver.stream.set_result(stream)
        await receiver.ended.wait()
        stream.write(b"bye")

    async with serving(upgrade) as server:
        client = await server.client()
        client.send(b"GET / HTTP/1.1", b"Host: a", b"Upgrade: foo", b"Connection: upgrade", body=b"early")
        await asyncio.sleep(0)
        client.raw(b" late")
        response = await client.read()
        assert (response.status, response.fields) == (
            101,
            {"x": "y", "connection": "Upgrade", "upgrade": "foo"},
        )
        async with asyncio.timeout(PATIENCE):
            assert await client.reader.readexactly(10) == b"early late"
        client.raw(b"!")
        client.end()
        assert await client.ended() == b"!bye"
    assert [(echo.got, echo.ends) for echo in echoes] == [(b"early late!", 1)]


async def test_refused_upgrade_leaves_http() -> None:
    async with serving(hello) as server:
        client = await server.client()
        client.get(b"/", b"Upgrade: websocket", b"Connection: upgrade")
        client.get()
        assert [(await client.read()).body for _ in range(2)] == [b"Hello\n", b"Hello\n"]


async def test_receiver_is_told_of_a_lost_connection() -> None:
    ended = asyncio.Event()

    async def upgrade(exchange: Exchange) -> None:
        receiver = Echo()
        receiver.stream.set_result(exchange.upgrade([], receiver))
        await receiver.ended.wait()
        ended.set()

    async with serving(upgrade) as server:
        client = await server.client()
        client.get(b"/", b"Upgrade: websocket", b"Connection: upgrade")
        assert (await client.read()).status == 101
        client.reset()
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


async def test_receiver_is_told_of_a_client_that_had_left_before_the_upgrade() -> None:
    told: list[int] = []

    async def upgrade(exchange: Exchange) -> None:
        await asyncio.sleep(0.03)
        for _ in range(int(exchange.head.target[1:])):
            exchange.interim(
                102, b"", []
            )  # a write that fails: the connection is lost before the receiver starts
        receiver = Echo()
        receiver.stream.set_result(exchange.upgrade([], receiver))
        await receiver.ended.wait()
        told.append(receiver.ends)

    async with serving(upgrade) as server:
        for target in (b"/0", b"/1", b"/2", b"/3"):
            client = await server.client()
            client.get(target, b"Upgrade: x", b"Connection: upgrade")
            await client.writer.drain()
            client.close()
        await server.until_idle()
    assert told == [1, 1, 1, 1]


async def test_shutdown_lets_responses_finish_and_closes_the_rest() -> None:
    release = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        if exchange.head.target == "/wait":
            await release.wait()
        await hello(exchange)

    async with serving(wait) as server:
        idle, busy, half = [await server.client() for _ in range(3)]
        idle.get()
        assert (await idle.read()).status == 200
        half.raw(b"GET / HT")
        busy.get(b"/wait")
        for _ in (idle, busy):
            await server.entered()
        shutdown = asyncio.create_task(server.server.shutdown(PATIENCE))
        assert await idle.ended() == b""
        assert await half.ended() == b""
        release.set()
        response = await busy.read()
        assert (response.status, response.fields["connection"]) == (200, "close")
        await shutdown
        assert await busy.ended() == b""


async def test_shutdown_cancels_handlers_when_its_time_is_over() -> None:
    cancelled = asyncio.Event()

    async def wait(exchange: Exchange) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(wait) as server:
        client = await server.client()
        client.get()
        await server.entered()
        await server.server.shutdown(0.05)
        assert cancelled.is_set()
        with pytest.raises(ConnectionError):
            await client.ended()


async def test_shutdown_leaves_a_handler_that_ignores_its_cancellation() -> None:
    release = asyncio.Event()

    async def stubborn(exchange: Exchange) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                pass

    async with serving(stubborn) as server:
        client = await server.client()
        client.get()
        await server.entered()
        async with asyncio.timeout(PATIENCE):
            await server.server.shutdown(0.01)
        assert server.server.connections == 1
        release.set()
        await server.until_idle()


async def test_connection_that_started_before_shutdown_is_closed_after_its_response() -> None:
    release = asyncio.Event()

    async def stream(exchange: Exchange) -> None:
        exchange.start(200, b"", [], length=4)
        exchange.flush()
        await release.wait()
        exchange.finish(b"done")

    async with serving(stream) as server:
        client = await server.client()
        client.get()
        await server.entered()
        server.server.close_idle()
        release.set()
        assert (await client.read()).body == b"done"
        assert await client.ended() == b""


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    certificates = Certificates.of(tmp_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificates.make("one"))
    return server, certificates.trusting()


async def test_tls_serves_alike(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    schemes: list[str] = []

    async def handler(exchange: Exchange) -> None:
        schemes.append(exchange.scheme)
        if exchange.head.target == "/413":
            raise RequestError(413, "too long")
        await echo(exchange)

    async with serving(handler, tls=tls) as server:
        client = await server.client()
        for _ in range(2):
            client.send(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: %d" % MIB, body=b"a" * MIB)
            assert len((await client.read()).body) == MIB + 2
        client.send(b"POST /413 HTTP/1.1", b"Host: a", b"Content-Length: %d" % MIB, body=b"a" * MIB)
        assert (await client.read()).status == 413
        assert await client.ended() == b""
    assert schemes == ["https"] * 3


async def test_exchange_knows_both_ends() -> None:
    ends: list[tuple[tuple[str, int], tuple[str, int]]] = []

    async def note(exchange: Exchange) -> None:
        ends.append((exchange.client, exchange.server))
        await hello(exchange)

    async with serving(note) as server:
        client: Client = await server.client()
        client.get()
        await client.read()
        assert ends == [(client.socket.getsockname(), ("127.0.0.1", server.port))]
