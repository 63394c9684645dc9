"""SRV records: the bytes of question and answer, and a name server that answers, lies or is silent."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.discovery import dns, srv
from msctl.discovery.srv import Record, SrvError
from msctl.model.endpoint import Target
from msctl.model.service_spec import ServiceSpec
from msctl.supervisor.external_service import ExternalWorker
from tests.support.clock import FakeClock

NAME = "_http._tcp.api.test"


def encoded(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode() for label in name.split(".")) + b"\0"


def reply(asked: bytes, *records: Record, code: int = 0) -> bytes:
    """Answer `asked` as a name server does, with a pointer to the question's name."""
    (number,) = struct.unpack_from("!H", asked)
    end = asked.index(b"\0", 12) + 5
    out = struct.pack("!HHHHHH", number, 0x8180 | code, 1, len(records), 0, 0) + asked[12:end]
    for record in records:
        data = struct.pack("!HHH", record.priority, record.weight, record.port) + encoded(record.target)
        out += b"\xc0\x0c" + struct.pack("!HHIH", srv.SRV, srv.IN, 60, len(data)) + data
    return out


ONE, TWO = Record(1, 5, 8080, "a.test"), Record(1, 5, 8081, "b.test")
BACKUP = Record(2, 5, 9090, "c.test")


def test_the_records_of_lowest_priority_come_first() -> None:
    asked = srv.question(NAME, 7)
    assert srv.answer(reply(asked, BACKUP, TWO, ONE), NAME, 7) == (ONE, TWO, BACKUP)
    assert srv.answer(reply(asked, ONE), NAME.upper(), 7) == (ONE,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (reply, "no SRV records"),
        (lambda asked: reply(asked, code=3), "no such name"),
        (lambda asked: reply(asked, code=2), "failed"),
        (lambda asked: b"\0\1" + reply(asked, ONE)[2:], "another question"),
        (lambda asked: reply(srv.question("_x._tcp.b.test", 7), ONE), "another question"),
        (lambda asked: reply(asked, Record(1, 1, 0, "a.test")), "no SRV records"),
        (lambda asked: asked, "another question"),
        (lambda asked: reply(asked, ONE)[:-3], "malformed"),
        (lambda asked: reply(asked, ONE).replace(b"\xc0\x0c", b"\xc0\xff"), "malformed"),
    ],
)
def test_other_answers_are_refused(change: Callable[[bytes], bytes], message: str) -> None:
    with pytest.raises(SrvError, match=message):
        srv.answer(change(srv.question(NAME, 7)), NAME, 7)


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_a_refusal(data: bytes) -> None:
    asked = srv.question(NAME, 7)
    for junk in (data, reply(asked, ONE)[:60] + data, asked[:12] + data):
        try:
            srv.answer(junk, NAME, 7)
        except SrvError:
            pass


@pytest.mark.parametrize("name", ["", "a..b", "a" * 64 + ".test", "a." * 200 + "test"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    with pytest.raises(SrvError):
        srv.question(name, 1)


class NameServer(asyncio.DatagramProtocol):
    """Answers with what `answer` makes of a question; None is silence."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self._answer = answer
        self.asked = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        made = self._answer(data)
        if made is not None:
            self._transport.sendto(made, addr)


@asynccontextmanager
async def name_server(
    answer: Callable[[bytes], bytes | None],
) -> AsyncIterator[tuple[NameServer, tuple[str, int]]]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(
        lambda: NameServer(answer), local_addr=("127.0.0.1", 0)
    )
    try:
        yield server, transport.get_extra_info("sockname")[:2]
    finally:
        transport.close()


async def test_the_next_name_server_is_asked_where_one_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srv, "TRY_S", 0.05)
    async with (
        name_server(lambda _: None) as (silent, first),
        name_server(lambda asked: reply(asked, ONE)) as (_, second),
    ):
        assert await srv.ask(NAME, [first, second]) == (ONE,)
        assert silent.asked == srv.TRIES
        with pytest.raises(SrvError, match="did not answer"):
            await srv.ask(NAME, [first])
    with pytest.raises(SrvError, match="no name server"):
        await srv.ask(NAME, [])


async def test_a_record_is_a_target_with_its_weight_and_priority(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(*_: object) -> tuple[Record, ...]:
        return (
            Record(1, 30, 80, "127.0.0.1"),
            Record(1, 0, 80, "127.0.0.2"),
            Record(2, 0, 80, "127.0.0.3"),
            Record(3, 5, 80, "no name"),
        )

    monkeypatch.setattr(srv, "ask", ask)
    assert await dns.resolve_srv("_http._tcp.api.test", 80) == (
        Target("127.0.0.1", 80, 30, 1),
        Target("127.0.0.2", 80, dns.LIGHTEST, 1),
        Target("127.0.0.3", 80, 1.0, 2),
    )


def test_name_servers_are_those_of_resolv_conf() -> None:
    text = "# one\nnameserver 10.0.0.2\nsearch test\nnameserver fe80::1%eth0\nnameserver none\nnameserver"
    assert srv.name_servers(text) == ["10.0.0.2", "fe80::1%eth0"]


def test_a_service_by_srv_records_is_verified_for_its_domain() -> None:
    worker = ExternalWorker(
        ServiceSpec("api", url="srv+https://_https._tcp.api.test"), "api-1", clock=FakeClock()
    )
    endpoint = worker.endpoint
    assert endpoint is not None
    assert (endpoint.server_name, endpoint.addresses, endpoint.host_header) == ("api.test", (), None)
