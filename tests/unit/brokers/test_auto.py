"""Mode auto uses the server that answers at the default URL only if its owner is trusted."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NoReturn

import pytest

from msctl.amqp.probe import AmqpServer, amqp_server
from msctl.amqp.url import redact
from msctl.broker.server import BrokerServer
from msctl.brokers import port_owner
from msctl.brokers.modes import AutoBroker
from msctl.cli.messaging.broker_url import default_url
from msctl.clock import SystemClock
from msctl.errors import BrokerError, NotRunningError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import BrokerUrl
from msctl.model.snapshots import BrokerMode
from tests.support.ports import reserved_port

NOBODY = 65534
TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 12 1
   1: 00000000:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000   112        0 13 1
   2: 0100007F:1629 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 14 1
   3: 0100007F:1628 0100007F:AAAA 01 00000000:00000000 00:00000000 00000000  1003        0 15 1
   4: 0B00A8C0:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1004        0 16 1
"""


def no_embedded(*_args: object) -> NoReturn:
    raise AssertionError("an embedded broker was started")


def auto(port: int, *, url_given: bool, log: list[str] | None = None) -> AutoBroker:
    lines = [] if log is None else log
    spec = BrokerSpec(url=f"amqp://guest:guest@127.0.0.1:{port}/", url_given=url_given)
    return AutoBroker(
        spec,
        clock=SystemClock(asyncio.sleep),
        log=lambda _level, text: lines.append(text),
        embedded=no_embedded,
    )


@asynccontextmanager
async def server_of(uid: int) -> AsyncIterator[int]:
    """A server that answers the AMQP header, on a socket of the given user."""
    before = os.geteuid()
    if uid != before:
        os.seteuid(uid)
    try:
        sock = socket.create_server(("127.0.0.1", 0))
    finally:
        if uid != before:
            os.seteuid(before)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"\x01\x00\x00")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, sock=sock)
    try:
        yield sock.getsockname()[1]
    finally:
        server.close()
        await server.wait_closed()


async def test_own_server_is_used_and_its_owner_logged() -> None:
    log: list[str] = []
    async with server_of(os.geteuid()) as port:
        broker = auto(port, url_given=False, log=log)
        await broker.start()
        assert str(port) in broker.url
    assert port_owner.user_name(os.getuid()) in log[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to open a socket as another user")
async def test_server_of_another_user_at_the_default_url_is_refused() -> None:
    async with server_of(NOBODY) as port:
        with pytest.raises(BrokerError, match="run by user 'nobody'") as caught:
            await auto(port, url_given=False).start()
    assert "url in [broker]" in (caught.value.hint or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to open a socket as another user")
async def test_server_of_another_user_at_a_configured_url_is_used() -> None:
    async with server_of(NOBODY) as port:
        await auto(port, url_given=True).start()


async def test_server_of_an_unknown_owner_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_owner, "listener_uids", lambda _port: frozenset())
    async with server_of(os.geteuid()) as port:
        with pytest.raises(BrokerError, match="owner cannot be determined"):
            await auto(port, url_given=False).start()


def test_owners_are_the_listeners_on_loopback_and_wildcard_addresses() -> None:
    assert list(port_owner.uids_in_table(TABLE.splitlines(), 0x1628)) == [1001, 112]
    assert list(port_owner.uids_in_table(TABLE.splitlines(), 0x1629)) == [1002]
    assert list(port_owner.uids_in_table(TABLE.splitlines(), 1)) == []


@pytest.mark.parametrize(
    ("uid", "name", "trusted"),
    [(112, "rabbitmq", True), (1001, "rabbitmq", False), (112, "www-data", False), (0, "root", True)],
)
def test_system_account_of_rabbitmq_is_trusted(
    monkeypatch: pytest.MonkeyPatch, uid: int, name: str, trusted: bool
) -> None:
    monkeypatch.setattr(port_owner, "user_name", lambda _uid: name)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert port_owner.is_trusted(uid) is trusted


async def test_own_listener_is_found() -> None:
    async with server_of(os.geteuid()) as port:
        assert port_owner.listener_uids(port) == {os.getuid()}


def stack(port: int, log: list[str] | None = None) -> AutoBroker:
    """The broker of one stack, whose default URL has this port."""
    lines = [] if log is None else log
    clock = SystemClock(asyncio.sleep)

    def server(url: BrokerUrl) -> tuple[BrokerServer, BrokerUrl]:
        users = {url.user: url.password}
        made = BrokerServer(clock=clock, log=lambda _level, _text: None, users=users, vhosts=(url.vhost,))
        return made, url

    spec = BrokerSpec(url=f"amqp://guest:guest@127.0.0.1:{port}/")
    return AutoBroker(spec, clock=clock, log=lambda _level, text: lines.append(text), embedded=server)


async def test_the_embedded_broker_of_another_stack_is_not_shared() -> None:
    log: list[str] = []
    with reserved_port() as port:
        first, second = stack(port), stack(port, log)
        await first.start()
        await second.start()
        try:
            assert f":{port}/" in first.url
            assert second.url != first.url
            snapshot = await second.snapshot()
            assert snapshot.mode is BrokerMode.EMBEDDED
            assert str(port) in snapshot.reason
            assert redact(second.url) in log[-1]
            await first.stop()
            assert await amqp_server(second.url) is AmqpServer.EMBEDDED
        finally:
            await first.stop()
            await second.stop()


async def test_stacks_that_start_at_once_have_a_broker_each() -> None:
    with reserved_port() as port:
        brokers = [stack(port) for _ in range(3)]
        await asyncio.gather(*(broker.start() for broker in brokers))
        try:
            assert len({broker.url for broker in brokers}) == 3
        finally:
            for broker in brokers:
                await broker.stop()


async def test_a_given_url_is_used_whoever_answers_there() -> None:
    with reserved_port() as port:
        first = stack(port)
        await first.start()
        try:
            second = auto(port, url_given=True)
            await second.start()
            assert second.url == first.url
        finally:
            await first.stop()


@pytest.mark.parametrize("server", [AmqpServer.NONE, AmqpServer.EMBEDDED])
def test_without_a_stack_only_a_broker_of_no_project_is_used(server: AmqpServer) -> None:
    spec = BrokerSpec()
    assert default_url(spec, "shop", AmqpServer.OTHER) == spec.url
    with pytest.raises(NotRunningError, match="shop"):
        default_url(spec, "shop", server)
