"""Whatever answers in the place of a registry, the stack runs on, says what is wrong, and tries again."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from msctl.discovery import etcd
from msctl.discovery.record import Record
from tests.support.waiting import until
from tests.unit.discovery.harness import MINE, stack

JSON = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: %s\r\nContent-Length: %d\r\n\r\n%s"
)


def ok(body: bytes, index: bytes = b"7") -> bytes:
    return JSON % (index, len(body), body)


async def request(reader: asyncio.StreamReader) -> bytes:
    """Read one request, and return its head."""
    head = await reader.readuntil(b"\r\n\r\n")
    if found := re.search(rb"content-length: (\d+)", head, re.IGNORECASE):
        await reader.readexactly(int(found[1]))
    return head


@asynccontextmanager
async def answering(data: bytes | None, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server that answers every request with these bytes and closes, or with None never answers."""
    waiting = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        if data is None:
            await waiting.wait()
        else:
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        waiting.set()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("kind", ["etcd", "consul"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (None, "did not answer within"),
        (b"", "cannot be reached"),
        (b"\x00\xff rubbish\r\n\r\n", "cannot be reached"),
        (ok(b"<html>"), "something else than JSON"),
        (ok(b"[" * 100_000), "something else than JSON"),
        (ok(b"7"), "something else than"),
        (ok(b"[]"), "something else than"),
        (ok(b'{"ID": 7, "token": [], "TTL": {}}'), "something else than"),
        (b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nhelp", "answered 500: help"),
        (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", "answered 401"),
        (b"HTTP/1.1 302 F\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "broke off"),
    ],
)
async def test_what_is_no_registry_is_said_and_asked_again(
    kind: str, data: bytes | None, reason: str
) -> None:
    async with answering(data) as port, stack(f"{kind}://127.0.0.1:{port}", ttl=2) as one:
        one.registry.announce(MINE)
        await until(lambda: reason in one.reason)
        assert one.state == "backoff"
        assert one.urls() == [MINE.base_url]


@pytest.mark.parametrize("kind", ["etcd", "consul"])
async def test_nobody_at_the_address_is_said(kind: str) -> None:
    async with answering(b"") as port:
        pass
    async with stack(f"{kind}://127.0.0.1:{port}") as one:
        await until(lambda: "cannot be reached" in one.reason)


async def test_the_next_address_of_a_cluster_is_asked_where_one_is_silent() -> None:
    async with answering(b"") as port:
        pass
    answer = ok(b'{"ID": "7", "header": {"revision": "3"}, "result": {}}')
    async with answering(answer) as second, stack(f"etcd://127.0.0.1:{port},127.0.0.1:{second}") as one:
        await until(lambda: "watch" in one.reason)


async def test_listings_and_events_of_wrong_form_end_the_session_and_no_more() -> None:
    for body in (
        b'{"ID": "7", "kvs": {}, "header": {"revision": "3"}}',
        b'{"ID": "7", "kvs": [7], "header": {"revision": "3"}}',
        b'{"ID": "7", "kvs": [{"key": "%%", "value": ""}], "header": {"revision": "3"}}',
        b'{"ID": "7", "kvs": [], "header": {"revision": "x"}}',
        b'{"ID": "7", "header": {"revision": "3"}, "result": {"events": [{"kv": 7}]}}',
    ):
        async with answering(ok(body)) as port, stack(f"etcd://127.0.0.1:{port}") as one:
            await until(lambda: "something else than etcd does" in one.reason)


async def test_consuls_entries_of_wrong_form_end_the_session_and_no_more() -> None:
    for entry in (b"[7]", b'[{"Service": 7, "Node": {}}]', b'{"Service": 7}'):

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, entry: bytes = entry
        ) -> None:
            head = await request(reader)
            if b"/agent/self" in head:
                writer.write(ok(b'{"Member": 7}'))
            else:
                writer.write(ok(entry) if b"/health/" in head else ok(b'"127.0.0.1:8300"'))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with stack(f"consul://127.0.0.1:{server.sockets[0].getsockname()[1]}") as one:
            await until(lambda: "something else than Consul does" in one.reason)
        server.close()
        await server.wait_closed()


async def test_a_watch_that_is_silently_dead_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd, "RELIST_S", 0.1)
    listed = [ok(b'{"header": {"revision": "3"}}')]
    dead = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await request(reader)
        if b"/watch" in head:
            await dead.wait()
        writer.write(listed[0] if b"/range" in head else ok(b'{"ID": "7", "result": {"TTL": "2"}}'))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with stack(f"etcd://127.0.0.1:{server.sockets[0].getsockname()[1]}") as one:
        await until(lambda: one.state == "ready")
        theirs = Record("users", "users-1", "127.0.0.2", 8081, "b")
        key = base64.b64encode(f"/msctl/v1/shop/{theirs.key}".encode()).decode()
        value = base64.b64encode(json.dumps(theirs.fields()).encode()).decode()
        found = {"header": {"revision": "4"}, "kvs": [{"key": key, "value": value}]}
        listed[0] = ok(json.dumps(found).encode())
        await until(lambda: one.urls() == ["http://127.0.0.2:8081"])
        listed[0] = ok(b'{"header": {"revision": "5"}}')
        await until(lambda: one.urls() == [])
        dead.set()
    server.close()
    await server.wait_closed()


async def test_a_registry_at_an_ipv6_address_is_asked_there() -> None:
    answer = b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nsix!"
    async with answering(answer, "::1") as port, stack(f"etcd://[::1]:{port}") as one:
        await until(lambda: "answered 500: six!" in one.reason)


async def test_a_login_that_expires_is_done_again_at_once() -> None:
    logins = 0
    expired = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal logins
        head = await request(reader)
        logins += b"/authenticate" in head
        if b"/authenticate" not in head and b"Authorization: token-%d\r\n" % logins not in head:
            writer.write(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n")
        elif b"/keepalive" in head and logins == 1:
            writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        elif b"/watch" in head:
            await expired.wait()
        else:
            writer.write(ok(b'{"token": "token-%d", "ID": "7", "header": {"revision": "3"}}' % logins))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with stack(f"etcd://root:x@127.0.0.1:{server.sockets[0].getsockname()[1]}") as one:
        await until(lambda: logins == 2)
        await until(lambda: one.discovery.asked)
        assert one.state == "ready"
        expired.set()
    server.close()
    await server.wait_closed()
