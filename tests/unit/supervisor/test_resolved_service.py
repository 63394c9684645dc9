"""External services with several URLs, or a name that is looked up again: each address is an instance."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from msctl.discovery import dns
from msctl.discovery.registry import Registry
from msctl.model.endpoint import Endpoint, Target
from msctl.model.route_policies import HostHeader, UpstreamTlsSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import upstream_host
from msctl.model.snapshots import State
from msctl.model.worker import StartError
from msctl.supervisor.external_service import ExternalWorker
from tests.support.clock import FakeClock
from tests.support.supervisor import MakeRig, free_port


@asynccontextmanager
async def listening(port: int, *hosts: str) -> AsyncIterator[None]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(answer, list(hosts), port)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


class Names:
    """A resolver that the test answers for."""

    def __init__(self, *addresses: str) -> None:
        self.answer: tuple[str | Target, ...] | OSError = addresses
        self.asked = 0

    async def resolve(self, host: str, port: int) -> tuple[Target, ...]:
        self.asked += 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return tuple(one if isinstance(one, Target) else Target(one, port) for one in self.answer)


class Heard:
    """What the checks report."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[str] = asyncio.Queue()

    def passed(self) -> None:
        self.news.put_nowait("passed")

    def moved(self) -> None:
        self.news.put_nowait("moved")

    def failed(self, reason: str, *, unhealthy: bool) -> None:
        self.news.put_nowait(reason)

    async def next(self) -> str:
        return await asyncio.wait_for(self.news.get(), 60)


@asynccontextmanager
async def checked(names: Names, port: int) -> AsyncIterator[tuple[ExternalWorker, Heard, FakeClock]]:
    clock, heard = FakeClock(), Heard()
    spec = ServiceSpec("api", url=f"http://api.test:{port}", resolve=30)
    worker = ExternalWorker(spec, "api-1", clock=clock, resolve=names.resolve)
    assert worker.checks is not None
    task = asyncio.create_task(worker.checks.run(heard))
    try:
        yield worker, heard, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def addresses(worker: ExternalWorker) -> list[str]:
    assert worker.endpoint is not None
    return [endpoint.base_url or "" for endpoint in worker.endpoint.split()]


async def test_each_address_that_answers_is_an_instance_and_follows_the_name() -> None:
    port = free_port()
    names = Names("127.0.0.1", "127.0.0.2", "127.0.0.3")
    async with (
        listening(port, "127.0.0.1", "127.0.0.2", "127.0.0.4"),
        checked(names, port) as (worker, heard, clock),
    ):
        assert [await heard.next(), await heard.next()] == ["passed", "moved"]
        assert addresses(worker) == [f"http://127.0.0.1:{port}", f"http://127.0.0.2:{port}"]
        names.answer = ("127.0.0.2", "127.0.0.4")
        await clock.advance(29)
        assert names.asked == 1
        await clock.advance(2)
        while await heard.next() != "moved":
            pass
        assert addresses(worker) == [f"http://127.0.0.2:{port}", f"http://127.0.0.4:{port}"]


async def test_a_name_without_an_address_is_unhealthy_and_keeps_those_it_had() -> None:
    port = free_port()
    names = Names()
    async with listening(port, "127.0.0.1"), checked(names, port) as (worker, heard, clock):
        assert "has no address" in await heard.next()
        names.answer = OSError(-2, "Name or service not known")
        await clock.advance(1)
        assert "api.test does not resolve: Name or service not known" in await heard.next()
        names.answer = ("127.0.0.1",)
        await clock.advance(1)
        assert [await heard.next(), await heard.next()] == ["passed", "moved"]
        names.answer = OSError(-3, "Temporary failure in name resolution")
        await clock.advance(40)
        assert await heard.next() == "passed"
        assert addresses(worker) == [f"http://127.0.0.1:{port}"]


async def test_fifty_addresses_are_used_and_more_than_the_limit_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    port = free_port()
    fifty = tuple(f"127.0.1.{number}" for number in range(1, 51))
    async with listening(port, *fifty), checked(Names(*fifty), port) as (worker, heard, _):
        assert await heard.next() == "passed"
        assert len(addresses(worker)) == 50
    loop = asyncio.get_running_loop()

    async def many(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (f"10.0.{n // 256}.{n % 256}", 0)) for n in range(300)]

    monkeypatch.setattr(type(loop), "getaddrinfo", many, raising=False)
    assert len(await dns.resolve("many.test", 80)) == dns.MAX_ADDRESSES


async def test_a_higher_priority_is_used_while_no_lower_one_answers() -> None:
    port = free_port()
    names = Names(Target("127.0.0.1", port, 3.0, 10), Target("127.0.0.2", port, 1.0, 20))  # type: ignore[arg-type]
    async with listening(port, "127.0.0.2"), checked(names, port) as (worker, heard, clock):
        assert [await heard.next(), await heard.next()] == ["passed", "moved"]
        assert addresses(worker) == [f"http://127.0.0.2:{port}"]
        async with listening(port, "127.0.0.1"):
            await clock.advance(31)
            while await heard.next() != "moved":
                pass
            assert worker.endpoint is not None
            assert [(e.base_url, e.weight) for e in worker.endpoint.split()] == [
                (f"http://127.0.0.1:{port}", 3.0)
            ]


def test_the_registry_replaces_the_addresses_of_an_instance() -> None:
    registry = Registry()
    named = Endpoint(
        "api", "api-1", base_url="https://api.test", addresses=(Target("10.0.0.1", 443), Target("::1", 8443))
    )
    registry.announce(Endpoint("api", "api-10", base_url="http://other.test"))
    registry.announce(named)
    found = registry.endpoints("api")
    assert [(e.instance, e.base_url, e.server_name) for e in found] == [
        ("api-10", "http://other.test", None),
        ("api-1@10.0.0.1", "https://10.0.0.1:443", "api.test"),
        ("api-1@::1", "https://[::1]:8443", "api.test"),
    ]
    registry.announce(named)
    assert registry.endpoints("api") is found
    registry.withdraw("api", "api-1", "is unhealthy")
    assert [e.instance for e in registry.endpoints("api")] == ["api-10"]


async def test_each_url_of_a_service_is_an_instance_and_one_that_fails_is_withdrawn(rig: MakeRig) -> None:
    ports = free_port(), free_port()
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    async with listening(ports[0], "127.0.0.1"):
        r = rig(ServiceSpec("api", url=",".join(urls)))
        await r.supervisor.start()
        await r.until(lambda: [i.state for i in r.service("api").instances] == [State.READY, State.UNHEALTHY])
        assert r.service("api").addresses == tuple(urls)
        assert [e.base_url for e in r.registry.endpoints("api")] == urls[:1]


@pytest.mark.parametrize(
    ("url", "key", "host"),
    [
        ("https://api.test:8443", None, "api.test:8443"),
        ("http://127.0.0.1:9000", None, None),
        ("http://localhost:9000", None, None),
        ("http://10.0.0.1", None, None),
        ("http://[::1]:9000", None, None),
        ("http://10.0.0.1:1", HostHeader.UPSTREAM, "10.0.0.1:1"),
        ("https://api.test", HostHeader.CLIENT, None),
        ("srv+http://_http._tcp.api.test", None, None),
    ],
)
def test_a_name_gets_its_own_host_field_by_default(
    url: str, key: HostHeader | None, host: str | None
) -> None:
    assert upstream_host(ServiceSpec("api", url=url, host_header=key), url) == host


async def test_unusable_certificates_are_named_when_the_service_starts(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    for tls, message in (
        (UpstreamTlsSpec(ca=tmp_path / "none.pem"), "tls.ca"),
        (UpstreamTlsSpec(ca=tmp_path / "bad.pem"), "tls.ca"),
        (UpstreamTlsSpec(cert=tmp_path / "bad.pem", key=tmp_path / "bad.pem"), "tls.cert"),
    ):
        worker = ExternalWorker(
            ServiceSpec("api", url="https://api.test", tls=tls), "api-1", clock=FakeClock()
        )
        with pytest.raises(StartError, match=message):
            await worker.start()
