"""Any headers, paths and chunk sizes arrive as sent, without the hop-by-hop fields."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from msctl.gateway.message.headers import HOP_BY_HOP, IDENTITY, describes_client
from msctl.gateway.message.http1 import chunk
from msctl.model.route_spec import RouteSpec
from tests.support.recording_upstream import Exchange, RecordingUpstream
from tests.unit.gateway.harness import running

TOKEN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"
OURS = (
    HOP_BY_HOP | IDENTITY | {b"host", b"content-length", b"expect", b"via", b"x-request-id", b"traceparent"}
)
OURS |= {b"tracestate", b"upgrade", b"date", b"sec-websocket-key1"}
OURS |= {b"x-forwarded-" + name for name in (b"for", b"proto", b"host", b"port", b"prefix")}
SINGLE = {
    b"content-type",
    b"content-location",
    b"content-range",
    b"etag",
    b"max-forwards",
    b"server",
    b"user-agent",
}
"""aiohttp's parser refuses these when repeated."""

names = (
    st.text(TOKEN, min_size=1, max_size=20)
    .map(str.encode)
    .filter(lambda name: name.lower() not in OURS and not describes_client(name.lower()))
)
visible = st.binary(max_size=30).map(
    lambda raw: bytes(b for b in raw if b == 9 or 32 <= b != 127).strip(b" \t")
)
fields = st.lists(st.tuples(names, visible), max_size=12).map(
    lambda pairs: [
        pair
        for index, pair in enumerate(pairs)
        if pair[0].lower() not in SINGLE or pair[0].lower() not in [p[0].lower() for p in pairs[:index]]
    ]
)
PATH = "abcXYZ019-._~!$&'()*+,;=:@%/"
paths = st.text(PATH, max_size=30).filter(
    lambda path: "%" not in path and not any(part.split(";")[0] in (".", "..") for part in path.split("/"))
)
escapes = st.lists(st.sampled_from(["%2F", "%3B", "%20", "%e9", "%41", "a"]), max_size=5).map("".join)
queries = st.one_of(st.just(""), st.text(PATH.replace("%", "") + "?", max_size=20).map("?".__add__))
bodies = st.lists(st.binary(min_size=1, max_size=200), max_size=6)

quick = settings(
    max_examples=settings().max_examples * 3 // 5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def split(head: bytes) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    line, *rest = head.split(b"\r\n")
    return line, [(name, value.strip(b" \t")) for name, _, value in (row.partition(b":") for row in rest)]


def lowered(pairs: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in pairs]


def dechunked(data: bytes) -> bytes:
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            assert data == b"\r\n"
            return body
        body, data = body + data[:length], data[length + 2 :]


async def exchange_of(request: bytes, response: bytes, end: bytes) -> tuple[bytes, bytes]:
    """What an upstream got of `request`, and a client of `response`."""

    async def script(exchange: Exchange) -> None:
        await exchange.head()
        await exchange.until(end)
        await exchange.send(response)

    upstream = await RecordingUpstream(script).start()
    async with running(RouteSpec("/", "x")) as gateway:
        gateway.announce("x", upstream.url)
        client = await gateway.client()
        await client.send(request)
        received = await asyncio.wait_for(client.reader.read(), 60)
    await upstream.stop()
    return upstream.received, received


@quick
@given(fields, paths, escapes, queries)
def test_requests_arrive_as_they_were_sent(
    sent: list[tuple[bytes, bytes]], path: str, escaped: str, query: str
) -> None:
    target = f"/{path}{escaped}{query}".encode()
    head = b"GET " + target + b" HTTP/1.1\r\nHost: gateway.localhost\r\nConnection: close\r\n"
    request = head + b"".join(name + b": " + value + b"\r\n" for name, value in sent) + b"\r\n"
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    got, received = asyncio.run(exchange_of(request, ok, b"\r\n\r\n"))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), received
    line, fields = split(got[:-4])
    assert line == b"GET " + target + b" HTTP/1.1"
    assert [pair for pair in fields if pair[0].lower() not in OURS] == sent


@quick
@given(fields, bodies, st.booleans())
def test_responses_arrive_as_they_were_sent(
    sent: list[tuple[bytes, bytes]], pieces: list[bytes], chunked: bool
) -> None:
    body = b"".join(pieces)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    data = b"".join(map(chunk, pieces)) + b"0\r\n\r\n" if chunked else body
    head = b"HTTP/1.1 200 As sent\r\n" + framing + b"\r\n"
    response = head + b"".join(name + b": " + value + b"\r\n" for name, value in sent) + b"\r\n" + data
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    _, received = asyncio.run(exchange_of(request, response, b"\r\n\r\n"))
    head, _, rest = received.partition(b"\r\n\r\n")
    line, fields = split(head)
    assert line == b"HTTP/1.1 200 As sent"
    assert [pair for pair in fields if pair[0].lower() not in OURS] == sent
    assert (dechunked(rest) if chunked else rest) == body


@quick
@given(bodies, st.booleans())
def test_request_bodies_arrive_as_they_were_sent(pieces: list[bytes], chunked: bool) -> None:
    body = b"".join(pieces)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % len(body)
    data = b"".join(map(chunk, pieces)) + b"0\r\n\r\n" if chunked else body
    request = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + framing + b"\r\n\r\n" + data
    end = b"0\r\n\r\n" if chunked else body[-8:]
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    got, received = asyncio.run(exchange_of(request, ok, end))
    assert received.startswith(b"HTTP/1.1 200 OK\r\n"), received
    head, _, rest = got.partition(b"\r\n\r\n")
    assert (dechunked(rest) if chunked else rest) == body
    assert lowered(split(head)[1]).count((b"transfer-encoding", b"chunked")) == chunked
