"""Upstreams and clients that misbehave: every failure is named, ends in time, and leaves nothing behind.

`running` fails a test that leaves a task or a descriptor.
"""

from __future__ import annotations

import asyncio
import socket

import pytest

from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import OK, Exchange, RecordingUpstream, Script
from tests.unit.gateway.harness import Reply, TruncatedError, running

QUICK = GatewaySpec(connect_timeout=0.5, response_timeout=0.3, idle_timeout=0.3, retries=0)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ask(
    script: Script, *, method: str = "GET", spec: GatewaySpec = QUICK, body: bytes | None = None
) -> Reply:
    upstream = await RecordingUpstream(script).start()
    try:
        async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
            gateway.announce("x", upstream.url)
            return await gateway.ask(method, "/x", body=body)
    finally:
        await upstream.stop()


def answering(data: bytes, *, then: str = "close") -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(data)
        if then == "reset":
            exchange.reset()
        elif then == "stay":
            await exchange.eof()

    return script


# --- before a response has begun ------------------------------------------------------------------

SILENT = {
    "accepts and is silent": b"",
    "half a status line": b"HTTP/1.1 2",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "interim responses only": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
}


@pytest.mark.parametrize("case", SILENT)
async def test_a_silent_upstream_is_504(case: str) -> None:
    reply = await ask(answering(SILENT[case], then="stay"))
    assert reply.status == 504
    assert reply.json()["reason"] == "http_response_timeout"


GONE = {
    "closes without a word": (b"", "close"),
    "resets": (b"", "reset"),
    "closes within the head": (b"HTTP/1.1 200 OK\r\nContent-Le", "close"),
    "resets within the head": (b"HTTP/1.1 200 OK\r\nContent-Le", "reset"),
}


@pytest.mark.parametrize("case", GONE)
async def test_an_upstream_that_closes_is_502(case: str) -> None:
    data, then = GONE[case]
    reply = await ask(answering(data, then=then))
    assert reply.status == 502
    assert reply.json()["reason"] == "connection_terminated"
    document = reply.json()
    assert (document["service"], document["service_instance"], document["attempt"]) == ("x", "x-1", 1)
    assert document["hop"].startswith("msctl-")


MALFORMED = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "a bare LF": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
    "a folded field": b"HTTP/1.1 200 OK\r\nX: y\r\n z\r\n\r\n",
    "a NUL in a field": b"HTTP/1.1 200 OK\r\nX: y\x00z\r\n\r\n",
    "a bare CR in a field": b"HTTP/1.1 200 OK\r\nX: y\rz\r\n\r\n",
    "a field without a colon": b"HTTP/1.1 200 OK\r\nXY\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    "a signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
    "length and chunks": CHUNKED[:-2] + b"Content-Length: 2\r\n\r\n0\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a head without end": b"HTTP/1.1 200 OK\r\n"
    + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 2000,
    "a field that is too long": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n",
    "too many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1100 + b"\r\n",
    "too many interim responses": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20,
    "an upgrade nobody asked for": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
async def test_a_malformed_response_is_502(case: str) -> None:
    reply = await ask(answering(MALFORMED[case]))
    assert reply.status == 502
    assert reply.json()["reason"] == "http_protocol_error"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\n\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\n",
    ],
)
async def test_a_service_that_ends_lines_with_lf_alone_is_told_so_at_once(data: bytes) -> None:
    """It neither ends its head nor closes the connection: nobody else would say what it lacks."""
    reply = await ask(answering(data, then="stay"))
    assert reply.status == 502
    assert "LF alone" in reply.json()["detail"]


async def test_a_refused_connection_is_502_and_says_so() -> None:
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", "http://127.0.0.1:1")
        reply = await gateway.get("/x")
    assert reply.status == 502
    assert reply.json()["reason"] == "connection_refused"
    assert "refused the connection" in reply.json()["detail"]
    assert (reply.get("Proxy-Status") or "").startswith("msctl-")


async def test_an_upstream_that_does_not_accept_is_504() -> None:
    # A listener whose queue is full drops what comes: the connection is neither made nor refused.
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
            gateway.announce("x", f"http://127.0.0.1:{full.getsockname()[1]}")
            reply = await gateway.get("/x")
    assert reply.status == 504
    assert reply.json()["reason"] == "connection_timeout"


async def test_a_pool_that_is_full_is_503() -> None:
    upstream = await RecordingUpstream(Exchange.wait_for_end).start()
    spec = GatewaySpec(pool_size=1, connect_timeout=0.2, response_timeout=5)
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await upstream.connection()
        reply = await gateway.get("/x")
        assert reply.status == 503
        assert reply.get("Retry-After") == "1"
        assert gateway.gateway.targets()[0].pool_open == 1
    await upstream.stop()


# --- after a response has begun -------------------------------------------------------------------

BROKEN = {
    "half a body, then closes": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "close"),
    "half a body, then resets": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "reset"),
    "half a body, then is silent": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "stay"),
    "no last chunk": (CHUNKED + b"4\r\nhalf\r\n", "close"),
    "half a chunk": (CHUNKED + b"8\r\nhalf", "close"),
    "a chunk that is longer than it says": (CHUNKED + b"4\r\nhalfmore\r\n", "stay"),
    "a chunk size that is none": (CHUNKED + b"4\r\nhalf\r\nxx\r\n", "stay"),
    "a trailer that is none": (CHUNKED + b"4\r\nhalf\r\n0\r\nno colon\r\n\r\n", "stay"),
    "a chunk line without end": (CHUNKED + b"4\r\nhalf\r\n" + b"1" * 400, "stay"),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_truncated_response_is_aborted(case: str) -> None:
    data, then = BROKEN[case]
    head, _, body = data.partition(b"\r\n\r\n")

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(head + b"\r\n\r\n")
        await exchange.send(body)
        if then == "reset":
            exchange.reset()
        elif then == "stay":
            await exchange.eof()

    with pytest.raises((TruncatedError, ConnectionError)):
        await ask(script)


async def test_bytes_after_a_response_are_never_the_next_response() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await exchange.eof()

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        for _ in range(2):
            assert (await client.request("GET", "/x")).body == b"ok"
        assert len(upstream.exchanges) == 2
    await upstream.stop()


async def test_bytes_between_two_exchanges_are_never_a_response() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(OK)
        await poisoned.wait()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await exchange.eof()

    poisoned = asyncio.Event()
    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        assert (await client.request("GET", "/x")).body == b"ok"
        poisoned.set()
        await upstream.exchanges[0].closed.wait()
        assert (await client.request("GET", "/x")).body == b"ok"
    await upstream.stop()


async def test_a_response_sent_byte_by_byte_is_complete() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        for byte in CHUNKED + b"5;ext=1\r\nhello\r\n3\r\n-ho\r\n0\r\nX-Trailer: 1\r\n\r\n":
            await exchange.send(bytes([byte]))
            await asyncio.sleep(0)

    reply = await ask(script)
    assert (reply.status, reply.body) == (200, b"hello-ho")


async def test_an_interim_response_is_passed_on() -> None:
    upstream = await RecordingUpstream(
        answering(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x\r\n\r\n" + OK)
    ).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        hints = await client.head()
        assert (hints.status, hints.get("Link"), hints.get("Connection")) == (103, "</a.css>", None)
        assert (await client.reply()).body == b"ok"
    await upstream.stop()


async def test_content_type_and_server_are_not_invented() -> None:
    reply = await ask(answering(OK))
    assert {name.lower() for name, _ in reply.fields} == {"content-length", "date", "x-request-id"}


async def test_a_body_that_ends_with_the_connection_arrives() -> None:
    reply = await ask(answering(b"HTTP/1.0 200 OK\r\n\r\nto the end"))
    assert (reply.body, reply.get("Transfer-Encoding")) == (b"to the end", "chunked")


async def test_field_bytes_pass_unchanged() -> None:
    upstream = await RecordingUpstream(
        answering(b"HTTP/1.1 200 Fine thanks\r\nContent-Length: 0\r\nX-Name: caf\xe9\r\nx-lower: 1\r\n\r\n")
    ).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\nx-weird-CASE: caf\xe9\r\n\r\n")
        raw = await client.reader.readuntil(b"\r\n\r\n")
    await upstream.stop()
    assert raw.startswith(b"HTTP/1.1 200 Fine thanks\r\n")
    assert b"\r\nX-Name: caf\xe9\r\nx-lower: 1\r\n" in raw
    assert b"\r\nx-weird-CASE: caf\xe9\r\n" in upstream.received


# --- retries --------------------------------------------------------------------------------------


class Failing:
    """Closes the first connections without a word, then answers."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.head()
        if self.times > 0:
            self.times -= 1
            return
        await exchange.send(OK)
        await exchange.eof()


RETRY = GatewaySpec(retries=1, backoff_min=0.001, backoff_max=0.002)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_an_idempotent_request_is_retried_once(method: str) -> None:
    body = b"again" if method == "PUT" else None
    upstream = await RecordingUpstream(Failing(1)).start()
    async with running(RouteSpec("/x", "x"), spec=RETRY) as gateway:
        gateway.announce("x", upstream.url)
        assert (await gateway.ask(method, "/x", body=body)).status == 200
    await upstream.stop()
    assert len(upstream.exchanges) == 2
    # The body follows its head, perhaps in a packet of its own, both times.
    assert upstream.received.count(b"again") == (2 if body else 0)


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_non_idempotent_request_is_never_retried(method: str) -> None:
    upstream = await RecordingUpstream(Failing(1)).start()
    async with running(RouteSpec("/x", "x"), spec=RETRY) as gateway:
        gateway.announce("x", upstream.url)
        assert (await gateway.ask(method, "/x", body=b"once")).status == 502
    await upstream.stop()
    assert len(upstream.exchanges) == 1


async def test_nothing_is_retried_after_a_byte_of_the_response() -> None:
    upstream = await RecordingUpstream(answering(b"HTTP/1.1")).start()
    async with running(RouteSpec("/x", "x"), spec=RETRY) as gateway:
        gateway.announce("x", upstream.url)
        assert (await gateway.get("/x")).status == 502
    await upstream.stop()
    assert len(upstream.exchanges) == 1


async def test_a_streamed_body_is_not_retried() -> None:
    spec = GatewaySpec(retries=1, retry_body=4, backoff_min=0.001, backoff_max=0.002)
    upstream = await RecordingUpstream(Failing(1)).start()
    async with running(RouteSpec("/x", "x"), spec=spec) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
        await (await upstream.connection()).until_seen(b"\r\n\r\n")
        assert (await client.head()).status == 502
    await upstream.stop()
    assert len(upstream.exchanges) == 1


async def test_a_second_failure_names_its_attempt() -> None:
    reply = await ask(Failing(5), spec=RETRY)
    assert (reply.status, reply.json()["attempt"]) == (502, 2)


async def test_another_instance_is_tried_when_one_refuses() -> None:
    upstream = await RecordingUpstream().start()
    async with running(RouteSpec("/x", "x"), spec=RETRY) as gateway:
        gateway.announce("x", "http://127.0.0.1:1", "x-1")
        gateway.announce("x", upstream.url, "x-2")
        # Even a POST: the instance that refused never saw it.
        statuses = {(await gateway.ask("POST", "/x", body=b"p")).status for _ in range(10)}
    await upstream.stop()
    assert statuses == {200}


async def test_a_stale_pooled_connection_is_retried_transparently() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(OK)

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x"), spec=RETRY) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        for _ in range(5):
            assert (await client.request("GET", "/x")).status == 200
    await upstream.stop()


async def test_connections_are_reused() -> None:
    upstream = await RecordingUpstream().start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        for _ in range(5):
            assert (await client.request("GET", "/x")).status == 200
    await upstream.stop()
    assert len(upstream.exchanges) == 1


# --- clients --------------------------------------------------------------------------------------


async def test_a_client_that_leaves_before_the_answer_cancels_the_upstream() -> None:
    upstream = await RecordingUpstream(Exchange.wait_for_end).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        exchange = await upstream.connection()
        client.close()
        async with asyncio.timeout(60):
            await exchange.closed.wait()
        assert gateway.gateway.targets()[0].in_flight == 0
    await upstream.stop()


async def test_a_client_that_leaves_during_its_body_never_completes_it() -> None:
    upstream = await RecordingUpstream(Exchange.wait_for_end).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        exchange = await upstream.connection()
        await exchange.until_seen(b"hello")
        client.close()
        async with asyncio.timeout(60):
            await exchange.closed.wait()
    await upstream.stop()
    assert b"0\r\n\r\n" not in upstream.received


async def test_a_client_that_leaves_during_the_response_cancels_the_upstream() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(CHUNKED + b"5\r\nhello\r\n")
        await exchange.eof()

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.reader.readuntil(b"hello")
        client.reset()
        async with asyncio.timeout(60):
            await upstream.exchanges[0].closed.wait()
    await upstream.stop()


async def test_a_client_that_sends_no_body_is_408() -> None:
    upstream = await RecordingUpstream(Exchange.wait_for_end).start()
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        reply = await client.reply()
        assert (reply.status, reply.get("Connection")) == (408, "close")
        # The client was slow, not the upstream.
        assert gateway.gateway.targets()[0].breaker == "closed"
    await upstream.stop()


@pytest.mark.parametrize("rest", [b"1\r\nb\r\n0\r\n\r\n", b"1\r\nb\r\n"], ids=["complete", "open"])
async def test_a_body_that_follows_the_response_sets_no_time_limit_for_it(rest: bytes) -> None:
    """A server that answers early with an event stream may then be silent, as any event stream."""
    quiet = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.until(b"1\r\na\r\n")
        await exchange.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        await exchange.until(rest)
        await quiet.wait()
        await exchange.send(b"4\r\nlate\r\n0\r\n\r\n")

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert (await client.head()).status == 200
        await client.send(rest)
        await (await upstream.connection()).until_seen(rest)
        with pytest.raises(TimeoutError):  # longer than any limit of QUICK
            async with asyncio.timeout(0.6):
                await client.reader.read(1)
        quiet.set()
        assert [piece async for piece in client.chunks()] == [b"late"]
    await upstream.stop()


async def test_a_client_that_does_not_read_pauses_the_upstream_and_is_dropped() -> None:
    block = b"x" * 65536
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.head()
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
        for _ in range(16384):
            await exchange.send(block)
            sent += len(block)

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x"), spec=QUICK) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
        exchange = await upstream.connection()
        async with asyncio.timeout(60):
            while not gateway.gateway.targets() or gateway.gateway.targets()[0].in_flight or not sent:
                await asyncio.sleep(0.02)
        # What lies between the two ends is socket buffers and a bounded rest.
        assert sent < 32 * 1024 * 1024
        exchange.reset()
    await upstream.stop()


async def test_an_early_response_ends_an_upload() -> None:
    upstream = await RecordingUpstream(
        answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
    ).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nstart")
        reply = await client.reply()
        assert (reply.status, reply.body) == (403, b"no")
    await upstream.stop()


async def test_another_route_is_not_slowed_by_one_that_hangs() -> None:
    hanging = await RecordingUpstream(Exchange.wait_for_end).start()
    healthy = await RecordingUpstream().start()
    async with running(RouteSpec("/hang", "hang"), RouteSpec("/x", "x")) as gateway:
        gateway.announce("hang", hanging.url)
        gateway.announce("x", healthy.url)
        for _ in range(20):
            client = await gateway.client()
            await client.send(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n")
        await hanging.connection(20)
        assert [(await gateway.get("/x")).status for _ in range(10)] == [200] * 10
        for client in gateway.clients:
            client.reset()
    await hanging.stop()
    await healthy.stop()


EXPECT = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_an_instance_may_refuse_a_body_that_its_client_holds_back() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
        await exchange.eof()

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(EXPECT)
        assert (await client.head()).status == 403  # and no 100 before it
        assert await client.closed()
    await upstream.stop()
    assert b"Expect: 100-continue" in upstream.received
    assert upstream.received.endswith(b"\r\n\r\n")


async def test_an_instance_that_wants_the_body_gets_it() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await exchange.until(b"hello")
        await exchange.send(OK)

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(EXPECT)
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.reply()).status == 200
    await upstream.stop()
