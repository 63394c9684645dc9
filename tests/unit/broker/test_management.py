"""The management API's own server: who is let in, what is bounded, and how it shares the loop."""

from __future__ import annotations

import asyncio
import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from msctl.broker.core.broker import Alarm
from msctl.broker.core.users import PasswordHash, User
from msctl.broker.management.documents import queue_counters
from msctl.broker.management.pace import Pace
from msctl.broker.management.rates import Rates
from msctl.broker.management.server import MAX_BODY, ManagementServer
from msctl.broker.server import BrokerServer
from msctl.clock import SystemClock
from msctl.secret import Secret
from tests.support.clock import FakeClock

GUEST = {"Authorization": "Basic " + b64encode(b"guest:guest").decode()}


class Stage:
    """A broker with its management API, and a client of it."""

    def __init__(self, server: BrokerServer, management: ManagementServer, log: list[str]) -> None:
        self.server = server
        self.management = management
        self.log = log
        self.page: str | None = "http://127.0.0.1:8090/"
        self.session = aiohttp.ClientSession()

    async def ask(
        self, path: str, method: str = "GET", headers: dict[str, str] | None = None, **options: Any
    ) -> tuple[int, Any, dict[str, str]]:
        url = (self.management.url or "").rstrip("/") + path
        async with self.session.request(
            method, url, headers=GUEST | (headers or {}), allow_redirects=False, **options
        ) as response:
            text = await response.read()
            is_json = response.headers.get("Content-Type", "").startswith("application/json")
            return response.status, json.loads(text) if is_json else text, dict(response.headers)

    def fill(self, count: int) -> None:
        vhost = self.server.broker.vhosts["/"]
        for number in range(count):
            vhost.declare_queue(
                f"q{number:06}", None, durable=False, exclusive=False, auto_delete=False, arguments={}
            )


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    log: list[str] = []
    server = BrokerServer(clock=SystemClock(), log=lambda _level, text: log.append(text))
    management = ManagementServer(server, clock=SystemClock(asyncio.sleep), port=0, page=lambda: made.page)
    server.management = management
    made = Stage(server, management, log)
    await server.start("127.0.0.1", 0)
    yield made
    await made.session.close()
    await server.stop()


async def test_browser_at_the_root_is_sent_to_the_page(stage: Stage) -> None:
    status, _, headers = await stage.ask("/")
    assert (status, headers["Location"]) == (302, "http://127.0.0.1:8090/")
    stage.page = None
    assert (await stage.ask("/"))[0] == 200


async def test_without_credentials_a_browser_is_asked_for_them(stage: Stage) -> None:
    status, _, headers = await stage.ask("/api/overview", headers={"Authorization": ""})
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="RabbitMQ Management"')
    for bad in ("Basic !!", "Bearer x", "Basic"):
        assert (await stage.ask("/api/overview", headers={"Authorization": bad}))[0] == 401


async def test_user_without_a_management_tag_is_refused(stage: Stage) -> None:
    stage.server.broker.users.put(User("app", PasswordHash.make(Secret("app"))))
    credentials = {"Authorization": "Basic " + b64encode(b"app:app").decode()}
    status, found, _ = await stage.ask("/api/overview", headers=credentials)
    assert (status, found["reason"]) == (401, "Not management user")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_foreign_page_is_refused_before_its_credentials_count(
    stage: Stage, headers: dict[str, str]
) -> None:
    for method in ("GET", "DELETE"):
        status, found, _ = await stage.ask("/api/queues/%2F/q", method, headers)
        assert (status, found["error"]) == (403, "forbidden")


async def test_link_from_elsewhere_to_the_root_is_followed(stage: Stage) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert (await stage.ask("/", headers=headers))[0] == 302
    assert (await stage.ask("/api/overview", headers=headers))[0] == 403


async def test_unknown_path_and_method_answer_as_rabbitmq(stage: Stage) -> None:
    assert (await stage.ask("/api/nothing"))[:2] == (
        404,
        {"error": "Object Not Found", "reason": "Not Found"},
    )
    status, _, headers = await stage.ask("/api/overview", "POST")
    assert (status, headers["Allow"]) == (405, "GET,HEAD")


async def test_body_above_the_limit_is_refused(stage: Stage) -> None:
    status, found, _ = await stage.ask("/api/definitions", "POST", data=io.BytesIO(b" " * (MAX_BODY + 1)))
    assert (status, found["error"]) == (413, "too_large")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"{", b"\xff", b"[" * 100_000])
async def test_body_that_is_no_object_is_refused(stage: Stage, body: bytes) -> None:
    status, found, _ = await stage.ask("/api/queues/%2F/q", "PUT", data=body)
    assert (status, found["reason"]) == (400, "not_json")


async def test_alarm_fails_the_health_checks(stage: Stage) -> None:
    stage.server.broker.raise_alarm(Alarm.DISK, "no space left")
    status, found, _ = await stage.ask("/api/health/checks/alarms")
    assert (status, found["status"], found["alarms"][0]["resource"]) == (503, "failed", "disk")
    _, (node,), _ = await stage.ask("/api/nodes")
    assert (node["disk_free_alarm"], node["mem_alarm"]) == (True, False)


async def test_taken_port_is_said_and_the_broker_runs_without() -> None:
    said: list[str] = []
    first, second = (
        BrokerServer(clock=SystemClock(), log=lambda _level, text: said.append(text)) for _ in range(2)
    )
    first.management = ManagementServer(first, clock=SystemClock(asyncio.sleep), port=0)
    await first.start("127.0.0.1", 0)
    port = int((first.management.url or "").rstrip("/").rpartition(":")[2])
    second.management = ManagementServer(second, clock=SystemClock(asyncio.sleep), port=port)
    await second.start("127.0.0.1", 0)
    assert (second.management.url, second.stats().management) == (None, None)
    assert f"no management API: port {port} is taken by pid" in said[-1]
    await second.stop()
    await first.stop()


# --- sharing the loop ---


async def test_a_long_list_is_made_in_slices_of_the_loop(stage: Stage) -> None:
    """No turn of the loop makes all of 5,000 documents."""
    stage.fill(5_000)
    loop = asyncio.get_running_loop()
    turns = 0

    def count() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(count)

    loop.call_soon(count)
    status, found, _ = await stage.ask("/api/queues?columns=name")
    assert (status, len(found)) == (200, 5_000)
    assert turns > 5
    assert found[-1] == {"name": "q004999"}


async def test_a_page_of_a_long_list_is_short(stage: Stage) -> None:
    stage.fill(5_000)
    _, found, headers = await stage.ask("/api/queues?page=3&page_size=2&columns=name")
    assert (found["total_count"], found["page_count"]) == (5_000, 2_500)
    assert found["items"] == [{"name": "q000004"}, {"name": "q000005"}]
    assert int(headers["Content-Length"]) < 300


async def test_pattern_that_explodes_is_bounded(stage: Stage) -> None:
    stage.fill(1)
    vhost = stage.server.broker.vhosts["/"]
    vhost.declare_queue("a" * 200, None, durable=False, exclusive=False, auto_delete=False, arguments={})
    async with asyncio.timeout(60):
        status, _, _ = await stage.ask("/api/queues?page=1&use_regex=true&name=%28a%2B%29%2B%24b")
    assert status in (200, 400)


async def test_requests_above_the_rate_wait_and_too_many_are_refused() -> None:
    clock = FakeClock()
    pace = Pace(clock, rate=10, burst=2, waiting=3)
    waiting = [asyncio.create_task(pace.enter()) for _ in range(6)]
    await clock.advance(0)
    assert [task.done() for task in waiting] == [True, True, False, False, False, True]
    assert waiting[5].result() is False
    await clock.advance(0.1)
    assert waiting[2].result() is True
    await clock.advance(0.2)
    assert [await task for task in waiting[3:5]] == [True, True]
    await clock.advance(10)
    assert await pace.enter()


def test_rate_is_of_the_last_seconds() -> None:
    class Thing:
        pass

    rates, thing = Rates(), Thing()
    assert rates.of(thing, {"publish": 5}, 0) == {"publish": 0.0}
    rates.sample(thing, {"publish": 0}, 0)
    rates.sample(thing, {"publish": 10}, 5)
    rates.sample(thing, {"publish": 60}, 10)
    assert rates.of(thing, {"publish": 70}, 11) == {"publish": 10.0}
    for now in (15, 20):
        rates.sample(thing, {"publish": 70}, now)
    assert rates.of(thing, {"publish": 70}, 21) == {"publish": 0.0}


def test_first_sample_gives_no_rate_over_a_moment() -> None:
    class Thing:
        pass

    rates, thing = Rates(), Thing()
    rates.sample(thing, {"publish": 50}, 100)
    assert rates.of(thing, {"publish": 54}, 103) == {"publish": 6.75}


async def test_samples_of_deleted_queues_are_dropped(stage: Stage) -> None:
    stage.fill(1)
    queue = stage.server.broker.vhosts["/"].queues["q000000"]
    queue.published = 5
    await stage.management.sample()
    rates = stage.management._api.rates
    assert queue_counters(queue)["publish"] == 5
    assert queue in rates._samples
    stage.server.broker.vhosts["/"].delete_queue(queue)
    del queue
    await stage.management.sample()
    assert not any(type(thing).__name__ == "Queue" for thing in rates._samples)
