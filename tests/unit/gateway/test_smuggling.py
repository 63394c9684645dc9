"""No byte stream makes the upstream see a request that the gateway does not believe it forwarded.

Each case is sent over a raw socket with a complete, innocent request behind it on the same connection.
Either it is refused and the connection ends before the second, or the upstream saw exactly the requests
that the client got answers for, each framed in one way.
"""

from __future__ import annotations

import asyncio
import re

import pytest

from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import Exchange, RecordingUpstream
from tests.unit.gateway.harness import PATIENCE, running

INNOCENT = b"GET /x/innocent HTTP/1.1\r\nHost: gateway.localhost\r\n\r\n"


def get(*lines: bytes, target: bytes = b"/x", host: bytes = b"Host: gateway.localhost") -> bytes:
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", host, *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join([b"POST /x " + version, b"Host: gateway.localhost", *lines, b"", b""]) + body


CHUNKED = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"

REFUSED = {
    "bare LF ends the request line": b"GET /x HTTP/1.1\nHost: gateway.localhost\r\n\r\n",
    "bare LF ends a field": b"GET /x HTTP/1.1\r\nHost: gateway.localhost\nX: y\r\n\r\n",
    "bare LF ends the head": b"GET /x HTTP/1.1\r\nHost: gateway.localhost\r\n\n",
    "bare CR in a field": get(b"X: a\rb"),
    "NUL in a value": get(b"X: a\x00b"),
    "NUL in a name": get(b"X\x00: b"),
    "control character in a value": get(b"X: a\x01b"),
    "delete in a value": get(b"X: a\x7fb"),
    "space before the colon": get(b"X : y"),
    "space before the colon of Transfer-Encoding": post(b"Transfer-Encoding : chunked", body=HELLO),
    "tab before the colon of Content-Length": post(b"Content-Length\t: 5", body=b"hello"),
    "folded field": get(b"X: y", b" z"),
    "folded first field": b"GET /x HTTP/1.1\r\n Host: gateway.localhost\r\n\r\n",
    "field without a colon": get(b"XY"),
    "field without a name": get(b": y"),
    "no Host": b"GET /x HTTP/1.1\r\n\r\n",
    "two Hosts": get(b"Host: other.test"),
    "two equal Hosts": get(b"Host: gateway.localhost"),
    "empty Host": get(host=b"Host:"),
    "Host with a space": get(host=b"Host: a b"),
    "Host with a path": get(host=b"Host: a/b"),
    "Host with user information": get(host=b"Host: u@a"),
    "Host with a list": get(host=b"Host: a, b"),
    "Content-Length and Transfer-Encoding": post(b"Content-Length: 5", CHUNKED, body=HELLO),
    "Transfer-Encoding and Content-Length": post(CHUNKED, b"Content-Length: 5", body=HELLO),
    "two Content-Lengths": post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
    "two equal Content-Lengths": post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
    "list of Content-Lengths": post(b"Content-Length: 5, 5", body=b"hello"),
    "signed Content-Length": post(b"Content-Length: +5", body=b"hello"),
    "negative Content-Length": post(b"Content-Length: -5", body=b"hello"),
    "hexadecimal Content-Length": post(b"Content-Length: 0x5", body=b"hello"),
    "Content-Length with a space in it": post(b"Content-Length: 5 5", body=b"hello"),
    "Content-Length with an underscore": post(b"Content-Length: 1_0", body=b"hello"),
    "empty Content-Length": post(b"Content-Length:", body=b"hello"),
    "Content-Length beyond 64 bits": post(b"Content-Length: 99999999999999999999999", body=b"hello"),
    "Content_Length": post(b"Content_Length: 5", body=b"hello"),
    "chunked not last": post(b"Transfer-Encoding: chunked, gzip", body=HELLO),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked", body=HELLO),
    "chunked on two lines": post(CHUNKED, CHUNKED, body=HELLO),
    "chunked and identity": post(CHUNKED, b"Transfer-Encoding: identity", body=HELLO),
    "a coding before chunked": post(b"Transfer-Encoding: gzip, chunked", body=HELLO),
    "only another coding": post(b"Transfer-Encoding: gzip", body=HELLO),
    "identity": post(b"Transfer-Encoding: identity"),
    "empty Transfer-Encoding": post(b"Transfer-Encoding:"),
    "not quite chunked": post(b"Transfer-Encoding: xchunked", body=HELLO),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"', body=HELLO),
    "chunked with a parameter": post(b"Transfer-Encoding: chunked;q=1", body=HELLO),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked", body=HELLO),
    "chunked in HTTP/1.0": post(CHUNKED, body=HELLO, version=b"HTTP/1.0"),
    "HTTP/1.2": b"GET /x HTTP/1.2\r\nHost: gateway.localhost\r\n\r\n",
    "HTTP/2.0": b"GET /x HTTP/2.0\r\nHost: gateway.localhost\r\n\r\n",
    "HTTP/01.1": b"GET /x HTTP/01.1\r\nHost: gateway.localhost\r\n\r\n",
    "HTTP in lower case": b"GET /x http/1.1\r\nHost: gateway.localhost\r\n\r\n",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tab in the request line": b"GET\t/x HTTP/1.1\r\nHost: gateway.localhost\r\n\r\n",
    "space after the version": b"GET /x HTTP/1.1 \r\nHost: gateway.localhost\r\n\r\n",
    "space in the target": get(target=b"/x y"),
    "NUL in the target": get(target=b"/x\x00"),
    "control character in the target": get(target=b"/x\x01"),
    "encoded NUL in the target": get(target=b"/x/%00"),
    "broken escape in the target": get(target=b"/x/%zz"),
    "fragment in the target": get(target=b"/x#y"),
    "relative target": get(target=b"x"),
    "asterisk for GET": get(target=b"*"),
    "user information in the target": get(target=b"http://u:p@gateway.localhost/x"),
    "another scheme in the target": get(target=b"ftp://gateway.localhost/x"),
    "dot segment": get(target=b"/x/../y"),
    "encoded dot segment": get(target=b"/x/%2e%2E/y"),
    "half encoded dot segment": get(target=b"/x/.%2e/y"),
    "dot segment behind an encoded slash": get(target=b"/x/..%2fy"),
    "dot segment behind a backslash": get(target=b"/x/..\\y"),
    "dot segment behind an encoded backslash": get(target=b"/x/..%5Cy"),
    "dot segment with a parameter": get(target=b"/x/..;a=b/y"),
    "dot segment at the end": get(target=b"/x/.."),
    "CONNECT": b"CONNECT gateway.localhost:80 HTTP/1.1\r\nHost: gateway.localhost\r\n\r\n",
    "chunk size ended by LF": post(CHUNKED, body=b"5\nhello\r\n0\r\n\r\n"),
    "chunk ended by LF": post(CHUNKED, body=b"5\r\nhello\n0\r\n\r\n"),
    "chunk not ended": post(CHUNKED, body=b"5\r\nhello0\r\n\r\n"),
    "chunk size 0x5": post(CHUNKED, body=b"0x5\r\nhello\r\n0\r\n\r\n"),
    "chunk size +5": post(CHUNKED, body=b"+5\r\nhello\r\n0\r\n\r\n"),
    "chunk size -5": post(CHUNKED, body=b"-5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with an underscore": post(CHUNKED, body=b"0_5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a space before": post(CHUNKED, body=b" 5\r\nhello\r\n0\r\n\r\n"),
    "chunk size with a space after": post(CHUNKED, body=b"5 \r\nhello\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": post(CHUNKED, body=b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    "empty chunk size": post(CHUNKED, body=b"\r\nhello\r\n0\r\n\r\n"),
    "chunk extension with LF": post(CHUNKED, body=b"5;a\nhello\r\n0\r\n\r\n"),
    "chunk extension with a control character": post(CHUNKED, body=b"5;\x01\r\nhello\r\n0\r\n\r\n"),
    "Content-Length in the trailer": post(CHUNKED, body=b"0\r\nContent-Length: 5\r\n\r\n"),
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a request line that is too long": get(target=b"/x/" + b"y" * 16_400),
    "a field that is too long": get(b"X: " + b"y" * 66_000),
    "too many fields": get(*[b"X: y"] * 300),
}

FORWARDED = {
    "chunked in any case": post(b"Transfer-Encoding: cHuNkEd", body=HELLO),
    "chunk extension": post(CHUNKED, body=b"5;a=b\r\nhello\r\n0\r\n\r\n"),
    "chunk size with zeros": post(CHUNKED, body=b"0005\r\nhello\r\n000\r\n\r\n"),
    "trailer": post(CHUNKED, body=b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"),
    "Content-Length with zeros": post(b"Content-Length: 0005", body=b"hello"),
    "Content-Length with a space after": post(b"Content-Length: 5 ", body=b"hello"),
    "GET with a body": get(b"Content-Length: 5") + b"hello",
    "GET with chunks": get(CHUNKED) + HELLO,
    "empty line before the request": b"\r\n" + get(),
    "absolute form": get(target=b"http://other.test/x?y=1"),
    "Connection names Content-Length": post(
        b"Connection: content-length", b"Content-Length: 5", body=b"hello"
    ),
    "Connection names Host": get(b"Connection: host"),
    "Connection names Transfer-Encoding": post(b"Connection: transfer-encoding", CHUNKED, body=HELLO),
    "bytes above 127 in a value": get(b"X: caf\xe9"),
}


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    received = b""
    try:
        async with asyncio.timeout(PATIENCE):
            while data := await reader.read(65536):
                received += data
    except ConnectionError:
        pass
    return received


def heads(received: bytes) -> list[bytes]:
    """The request lines that an upstream would see in these bytes, read to the letter of RFC 9112."""
    found: list[bytes] = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert end, f"an unfinished head went out: {head!r}"
        assert b"\n" not in head.replace(b"\r\n", b"") and b"\x00" not in head
        lines = head.split(b"\r\n")
        found.append(lines[0])
        fields = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines[1:])
        ]
        assert [name for name, _ in fields].count(b"host") == 1
        lengths = [value for name, value in fields if name == b"content-length"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        assert len(lengths) + len(codings) <= 1, f"two framings went out: {head!r}"
        if codings:
            assert codings == [b"chunked"]
            received = after_chunks(received)
        elif lengths:
            assert re.fullmatch(rb"[0-9]+", lengths[0])
            received = received[int(lengths[0]) :]
    return found


def after_chunks(received: bytes) -> bytes:
    while True:
        size, end, received = received.partition(b"\r\n")
        assert end
        assert re.fullmatch(rb"[0-9a-fA-F]+", size)
        length = int(size, 16)
        if not length:
            while line := received.partition(b"\r\n")[0]:
                assert line.startswith(b"X-Trailer: ")
                received = received[len(line) + 2 :]
            assert received.startswith(b"\r\n")
            return received[2:]
        assert received[length : length + 2] == b"\r\n"
        received = received[length + 2 :]


@pytest.mark.parametrize("case", REFUSED)
async def test_a_malformed_request_is_refused_and_the_connection_closed(case: str) -> None:
    upstream = await RecordingUpstream().start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(REFUSED[case] + INNOCENT)
        received = await read_to_end(client.reader)
    await upstream.stop()
    assert re.match(rb"HTTP/1\.[01] (400|405|414|431|501|505) ", received), received[:200]
    assert received.count(b"HTTP/1.") - received.count(b"HTTP/1.1.") <= 3
    assert b"application/problem+json" in received
    assert b"innocent" not in upstream.received
    assert b"\r\n\r\n" not in upstream.received or heads(upstream.received) == []


@pytest.mark.parametrize("case", FORWARDED)
async def test_an_unusual_request_arrives_as_exactly_one(case: str) -> None:
    upstream = await RecordingUpstream(answer_each).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(FORWARDED[case] + INNOCENT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = await read_to_end(client.reader)
    await upstream.stop()
    assert received.count(b"HTTP/1.1 200 OK") == 2, received
    seen = [line for exchange in upstream.exchanges for line in heads(exchange.received)]
    assert len(seen) == 2
    assert seen[1] == b"GET /x/innocent HTTP/1.1"


async def answer_each(exchange: Exchange) -> None:
    """Answer whole requests only, read as strictly as above."""
    answered = 0
    while True:
        try:
            count = len(heads(exchange.received))
        except AssertionError:
            count = answered
        if count > answered:
            answered += 1
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        elif not await exchange.more():
            return


async def test_a_malformed_body_never_looks_complete() -> None:
    upstream = await RecordingUpstream(Exchange.wait_for_end).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(post(CHUNKED, body=b"5\r\nhello\r\n"))
        exchange = await upstream.connection()
        await exchange.until_seen(b"hello")
        await client.send(b"zz\r\n" + INNOCENT)
        received = await read_to_end(client.reader)
        await exchange.closed.wait()
    await upstream.stop()
    assert received.startswith(b"HTTP/1.1 400 ")
    assert b"0\r\n\r\n" not in upstream.received
    assert b"innocent" not in upstream.received


async def test_a_pipelined_request_waits_for_its_turn() -> None:
    upstream = await RecordingUpstream(answer_each).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(get(target=b"/x/1") + get(target=b"/x/2") + get(target=b"/x/3"))
        for _ in range(3):
            assert (await client.reply()).body == b"ok"
    await upstream.stop()
    assert [line.split()[1] for line in heads(upstream.received)] == [b"/x/1", b"/x/2", b"/x/3"]


async def test_a_request_behind_an_unsupported_upgrade_is_one_of_its_own() -> None:
    upstream = await RecordingUpstream(answer_each).start()
    async with running(RouteSpec("/x", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        fields = b"Connection: Upgrade, HTTP2-RouteSettings", b"Upgrade: h2c", b"HTTP2-RouteSettings: x"
        await client.send(get(*fields) + INNOCENT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = await read_to_end(client.reader)
    await upstream.stop()
    assert received.count(b"HTTP/1.1 200 OK") == 2
    seen = [line for exchange in upstream.exchanges for line in heads(exchange.received)]
    assert seen == [b"GET /x HTTP/1.1", b"GET /x/innocent HTTP/1.1"]
    assert b"upgrade" not in upstream.received.lower()
    assert b"http2-settings" not in upstream.received.lower()
