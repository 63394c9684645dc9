"""The dashboard's server over real sockets: what it serves, pushes and refuses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

import pytest
from aiohttp import ClientSession, CookieJar, encode_basic_auth

from msctl.dashboard import event_streams, feed
from msctl.dashboard.app import Dashboard, DashboardViews
from msctl.errors import BrokerError, ConfigError, MsctlError, PortTakenError, UsageError
from msctl.model.events import Event, LogLine, LogQuery
from msctl.model.messaging import (
    Bind,
    BrokerChange,
    ChangeResult,
    Messaging,
    MoveMessages,
    OutgoingMessage,
)
from msctl.model.project import DashboardSpec
from msctl.model.queue_messages import PeekedMessage
from msctl.model.snapshots import (
    BrokerMode,
    BrokerSnapshot,
    InstanceSnapshot,
    Kind,
    ServiceSnapshot,
    Snapshot,
    State,
)
from msctl.model.traces import SpanKind, Trace
from msctl.model.views import ReloadResult
from msctl.secret import Secret
from msctl.telemetry.logs.broadcast import Broadcast
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.tracing.span import EndedSpan
from msctl.telemetry.tracing.tracer import Tracer
from tests.support.clock import FakeClock


class System:
    """A stack that does as it is told, at once. Implements SystemView and MessagingView."""

    def __init__(self) -> None:
        self.states = {"users": State.READY, "orders": State.STOPPED}
        self.done: list[str] = []
        self.hub = LogHub(FakeClock())
        self.published: list[OutgoingMessage] = []
        self.changes: list[BrokerChange] = []
        self.waiting: asyncio.Queue[PeekedMessage | MsctlError] = asyncio.Queue()
        self.watched: Broadcast[Event] = Broadcast()
        self.snapshots = 0

    async def snapshot(self) -> Snapshot:
        self.snapshots += 1
        services = tuple(
            ServiceSnapshot(name, Kind.HOSTED, state, instances=(InstanceSnapshot(f"{name}-1", state),))
            for name, state in self.states.items()
        )
        broker = BrokerSnapshot(BrokerMode.EMBEDDED, State.READY, "amqp://guest@x/")
        return Snapshot("shop", None, "1", 1, 5.0, services, broker)

    async def events(self) -> AsyncIterator[Event]:
        with self.watched.subscribe() as feed:
            while True:
                for event in (await feed.take())[0]:
                    yield event

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        return self.hub.follow(query)

    async def start(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        return await self._change("start", services, State.READY)

    async def stop(self, services: Sequence[str]) -> Snapshot:
        return await self._change("stop", services, State.STOPPED)

    async def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        return await self._change("restart", services, State.READY)

    async def scale(self, counts: Mapping[str, int]) -> Snapshot:
        if min(counts.values()) < 0:
            raise UsageError("less than none", hint="give a number from 0 up")
        self.done.append(f"scale {dict(counts)}")
        return await self.snapshot()

    async def reload(self) -> ReloadResult:
        return ReloadResult()

    async def apply(self, services: Sequence[str]) -> None:
        raise AssertionError

    async def peek_queue(self, name: str) -> Sequence[PeekedMessage]:
        raise AssertionError

    async def purge_queue(self, name: str) -> int:
        raise AssertionError

    async def delete_queue(self, name: str) -> int:
        raise AssertionError

    async def shutdown(self, timeout: float | None = None) -> None:
        raise AssertionError

    async def _change(self, verb: str, services: Sequence[str], state: State) -> Snapshot:
        for name in services:
            self.done.append(f"{verb} {name}")
            self.states[name] = state
            self.watched.publish(Event(1, 0.0, name, f"{name}-1", state))
        return await self.snapshot()

    async def messaging(self, find: str = "") -> Messaging:
        return Messaging("/", (), (), (), (), (), (), {"queues": len(find)})

    async def change(self, change: BrokerChange) -> ChangeResult:
        self.changes.append(change)
        return ChangeResult(7)

    async def publish(self, message: OutgoingMessage) -> None:
        if message.routing_key == "absent":
            raise BrokerError("there is no queue 'absent'")
        self.published.append(message)

    async def peek(self, queue: str) -> AsyncIterator[PeekedMessage]:
        while True:
            item = await self.waiting.get()
            if isinstance(item, MsctlError):
                raise item
            yield item


async def metrics(accept: str) -> tuple[bytes, str]:
    return b"up 1\n", f"text/plain; asked={accept.partition('/')[0]}"


class Page:
    """A client that does what the page does."""

    def __init__(self, url: str, session: ClientSession, dashboard: Dashboard) -> None:
        self.url = url.rstrip("/")
        self.dashboard = dashboard
        self.session = session

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers=headers) as response:
            text = await response.text()
        return response.status, json.loads(text) if text[:1] in "{[" else text

    async def post(self, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        _, found = await self.get("/api/session")
        given = {"X-Msctl-Token": found["token"], "Content-Type": "application/json", **headers}
        async with self.session.post(self.url + path, data=json.dumps(body or {}), headers=given) as response:
            text = await response.text()
        return response.status, json.loads(text) if text[:1] in "{[" else text

    @contextlib.asynccontextmanager
    async def stream(self, path: str) -> AsyncIterator[Stream]:
        async with self.session.get(self.url + path) as response:
            assert response.status == 200, await response.text()
            assert response.content_type == "text/event-stream"
            yield Stream(response.content)


class Stream:
    """Server-sent events as they come."""

    def __init__(self, content: Any) -> None:
        self.content = content

    async def next(self, *wanted: str) -> Any:
        """The data of the next event of one of these names."""
        async with asyncio.timeout(60):
            while True:
                name = ""
                while line := (await self.content.readline()).decode():
                    if line.startswith("event: "):
                        name = line[7:].strip()
                    elif line.startswith("data: ") and name in wanted:
                        return json.loads(line[6:])
                assert line, "the stream has ended"


@pytest.fixture
def system() -> System:
    return System()


@contextlib.asynccontextmanager
async def running(system: System, spec: DashboardSpec | None = None, **parts: Any) -> AsyncIterator[Page]:
    tracer = Tracer()
    for number in range(3):
        tracer.record(
            EndedSpan(
                f"{number:032x}", "a", None, f"GET /{number}", "users", SpanKind.SERVER, number, 0.1, False
            )
        )
    given = {"traces": tracer, "queues": system, **parts}
    dashboard = Dashboard(spec or DashboardSpec(port=0), system, DashboardViews(metrics, **given))
    url = await dashboard.start()
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        async with session.get(dashboard.link, allow_redirects=False):
            pass  # sets the cookie
        try:
            yield Page(url, session, dashboard)
        finally:
            await dashboard.stop()


async def test_the_page_is_small_and_loads_only_its_own_files(system: System) -> None:
    async with running(system) as page:
        size = 0
        static = [f"/static/{file.name}" for file in files("msctl.dashboard").joinpath("static").iterdir()]
        for path in ("/", *(path for path in static if not path.endswith("/index.html"))):
            async with page.session.get(page.url + path) as response:
                assert response.status == 200
                text = await response.text()
                size += len(text.encode())
                assert "default-src 'none'" in response.headers["Content-Security-Policy"]
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                tag = response.headers["ETag"]
            elsewhere = set(re.findall(r"""["'`(]((?:https?:)?//[^/"'`\s)]+)""", text))
            assert elsewhere <= {"http://www.w3.org", "http://${a}"}, path
            async with page.session.get(page.url + path, headers={"If-None-Match": tag}) as response:
                assert response.status == 304
        assert size < 250_000
        assert (await page.get("/static/nothing.js"))[0] == 404


def test_every_module_is_preloaded_so_that_imports_cost_no_round_trips() -> None:
    static = files("msctl.dashboard").joinpath("static")
    modules = {file.name for file in static.iterdir() if file.name.endswith(".js")}
    loaded = re.findall(r'(?:href|src)="/static/([a-z_]+\.js)"', static.joinpath("index.html").read_text())
    assert sorted(loaded) == sorted(modules)


async def test_the_state_is_pushed_at_once_and_on_change(system: System) -> None:
    async with running(system) as page, page.stream("/api/stream") as stream:
        first = await stream.next("state")
        assert [(s["name"], s["state"]) for s in first["services"]] == [
            ("users", "ready"),
            ("orders", "stopped"),
        ]
        assert await page.post("/api/services/orders/start") == (200, {})
        while (await stream.next("state"))["services"][1]["state"] != "ready":
            pass
        assert system.done == ["start orders"]


async def test_no_snapshot_is_taken_without_a_page(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "TICK_S", 0.1)
    monkeypatch.setattr(feed, "MIN_INTERVAL_S", 0.01)
    async with running(system) as page:
        async with page.stream("/api/stream") as one, page.stream("/api/stream") as other:
            for stream in (one, other):
                await stream.next("state")
                await stream.next("state")
        async with asyncio.timeout(60):
            while feeding := [task for task in asyncio.all_tasks() if task.get_name() == "dashboard-feed"]:
                await asyncio.wait(feeding)
        assert system.snapshots


async def test_log_lines_are_batched_and_resume_where_a_page_stopped(system: System) -> None:
    for number in range(1500):
        system.hub.append("users", f"line {number}")
    async with running(system) as page:
        _, session = await page.get("/api/session")
        async with page.stream("/api/stream") as stream:
            texts: list[str] = []
            while len(texts) < 1500:
                batch = await stream.next("lines")
                assert len(batch["lines"]) <= 1000
                texts += [line[4] for line in batch["lines"]]
                last = batch["lines"][-1][0]
            assert (texts[0], texts[-1]) == ("line 0", "line 1499")
        system.hub.append("orders", "new", "error", fields={"n": 1})
        async with page.stream(f"/api/stream?session={session['session']}&after={last}") as stream:
            (line,) = (await stream.next("lines"))["lines"]
            assert line[2:5] + line[7:] == ["orders", "error", "new", {"n": 1}]
        async with page.stream(f"/api/stream?session=another&after={last}") as stream:
            assert len((await stream.next("lines"))["lines"]) == 1000


async def test_unread_lines_do_not_accumulate(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "MAX_WAITING", 10)
    monkeypatch.setattr(feed, "FIRST_LINES", 10)
    monkeypatch.setattr(feed, "BATCH", 5)
    lines = feed.LogFeed(system, 0)
    task = asyncio.create_task(lines.collect())
    await asyncio.sleep(0)
    for number in range(100):
        system.hub.append("users", str(number))
    for _ in range(3):
        await asyncio.sleep(0)
    batches = lines.batches()
    first = json.loads(await anext(batches))
    assert first["missed"] == 80
    assert [line[4] for line in first["lines"]] == ["80", "81", "82", "83", "84"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_page_gets_an_event_when_the_stack_stops(system: System) -> None:
    async with running(system) as page:
        async with page.stream("/api/stream") as stream:
            await stream.next("state")
            ended = asyncio.create_task(stream.next("bye"))
            await asyncio.sleep(0)
            leaving = asyncio.create_task(page.dashboard.stop())
            assert await ended == {}
        await leaving


async def test_streams_are_limited(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_streams, "MAX_STREAMS", 1)
    async with running(system) as page, page.stream("/api/stream") as stream:
        await stream.next("state")
        assert (await page.get("/api/stream"))[0] == 503
        assert (await page.get("/api/peek?queue=hello"))[0] == 503


async def test_verbs_act_on_exactly_one_service(system: System) -> None:
    async with running(system) as page:
        assert await page.post("/api/services/users/stop") == (200, {})
        assert await page.post("/api/services/users/restart") == (200, {})
        assert await page.post("/api/services/users/scale", {"count": 3}) == (200, {})
        assert system.done == ["stop users", "restart users", "scale {'users': 3}"]
        for path in ("/api/services/*/stop", "/api/services/nobody/stop", "/api/services/nobody/scale"):
            status, problem = await page.post(path, {"count": 1})
            assert status == 409
            assert "does not exist" in problem["message"]
        assert (await page.post("/api/services/users/scale", {"count": -1}))[1] == {
            "message": "less than none",
            "hint": "give a number from 0 up",
        }
        wrong: list[object] = [{}, {"count": "x"}, {"count": 1, "more": 2}, []]
        for body in wrong:
            status, problem = await page.post("/api/services/users/scale", body)
            assert status == 409
            assert "malformed" in problem["message"]
        assert len(system.done) == 3


async def test_actions_need_the_token_and_the_own_origin(system: System) -> None:
    async with running(system) as page:
        for headers in (
            {"X-Msctl-Token": "guess"},
            {"Origin": "http://evil.example"},
            {"Host": "evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
        ):
            assert (await page.post("/api/services/users/stop", **headers))[0] == 403
        assert (await page.post("/api/services/users/stop", **{"Content-Type": "text/plain"}))[0] == 415
        for path in ("/", "/metrics", "/api/session", "/api/stream", "/static/page.js", "/api/traces"):
            assert (await page.get(path, Host="evil.example"))[0] == 403
            assert (await page.get(path, Origin="http://evil.example"))[0] == 403
        assert system.done == []


async def test_a_page_of_another_origin_gets_no_cors_headers(system: System) -> None:
    async with running(system) as page, page.session.get(page.url + "/api/session") as response:
        assert not [name for name in response.headers if name.startswith("Access-Control")]
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert response.headers["Cache-Control"] == "no-store"


async def test_every_path_needs_the_password(system: System) -> None:
    async with running(system, DashboardSpec(port=0, token=False, password=Secret("pw"))) as page:
        for path in ("/", "/metrics", "/api/stream"):
            async with page.session.get(page.url + path) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"].startswith("Basic")
        known = {"Authorization": encode_basic_auth("x", "pw")}
        async with page.session.get(page.url + "/metrics", headers=known) as response:
            assert await response.text() == "up 1\n"


def test_a_dashboard_beyond_loopback_needs_a_password(system: System) -> None:
    with pytest.raises(ConfigError, match="without a password"):
        Dashboard(DashboardSpec(host="0.0.0.0"), system, DashboardViews(metrics))
    Dashboard(DashboardSpec(host="0.0.0.0", password=Secret("pw")), system, DashboardViews(metrics))


async def test_a_taken_port_is_an_error(system: System) -> None:
    async with running(system) as page:
        port = int(page.url.rpartition(":")[2])
        with pytest.raises(PortTakenError, match=f"127.0.0.1:{port}"):
            await Dashboard(DashboardSpec(port=port), system, DashboardViews(metrics)).start()


async def test_metrics_follow_the_accept_header(system: System) -> None:
    async with running(system) as page, page.session.get(page.url + "/metrics") as response:
        assert await response.text() == "up 1\n"
        assert response.headers["Content-Type"] == "text/plain; asked=*"


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("br, GZIP;q=0.5", "gzip"),
        ("*", "gzip"),
        ("gzip;q=0", None),
        ("br", None),
        ("x;q=y", None),
    ],
)
async def test_metrics_are_compressed_where_that_is_accepted(
    system: System, accepted: str, coding: str | None
) -> None:
    headers = {"Accept-Encoding": accepted}
    async with running(system) as page, page.session.get(page.url + "/metrics", headers=headers) as response:
        assert response.headers.get("Content-Encoding") == coding
        assert await response.text() == "up 1\n"


async def test_traces_are_listed_filtered_and_shown(system: System) -> None:
    async with running(system) as page:
        _, found = await page.get("/api/traces?limit=2")
        assert [trace["name"] for trace in found] == ["GET /2", "GET /1"]
        assert await page.get("/api/traces?service=orders") == (200, [])
        assert await page.get("/api/traces?errors=1&min_ms=50") == (200, [])
        _, trace = await page.get(f"/api/traces/{1:032x}")
        assert [span["name"] for span in trace["spans"]] == ["GET /1"]
        status, problem = await page.get("/api/traces/ffff")
        assert (status, "not found" in problem["message"]) == (409, True)


async def test_traces_of_earlier_runs_are_read_from_their_view(system: System) -> None:
    class Runs:
        """An archive with one trace. Implements the part of RunView that is asked."""

        def __init__(self) -> None:
            self.asked: list[tuple[str, str]] = []

        async def trace_of(self, run: str, trace_id: str) -> Trace:
            self.asked.append((run, trace_id))
            return Trace(trace_id, ())

    runs = Runs()
    async with running(system, runs=runs, run="now") as page:
        assert (await page.get("/api/traces/abc?run=before"))[1]["trace_id"] == "abc"
        assert (await page.get("/api/traces/ffff"))[0] == 200, "one that is no longer in memory"
        assert (await page.get(f"/api/traces/{1:032x}?run=now"))[1]["spans"][0]["name"] == "GET /1"
        assert runs.asked == [("before", "abc"), ("now", "ffff")]
        assert (await page.get("/api/session"))[1]["run"] == "now"
        calls = (await page.get("/api/calls"))[1]
        assert (calls["traces"], calls["calls"]) == (3, [])


async def test_a_message_is_published_and_a_refusal_is_returned(system: System) -> None:
    async with running(system) as page:
        message = {
            "exchange": "amq.topic",
            "routing_key": "a.b",
            "body": "hé",
            "headers": {"retry": 2, "x": "é"},
            "properties": {"priority": 4, "correlation_id": "c"},
        }
        assert await page.post("/api/publish", message) == (200, {})
        assert system.published == [
            OutgoingMessage(
                "amq.topic",
                "a.b",
                "hé".encode(),
                headers={"retry": 2, "x": "é"},
                properties={"priority": 4, "correlation_id": "c"},
            )
        ]
        encoded = {"routing_key": "q", "body": "AP8=", "encoding": "base64"}
        assert await page.post("/api/publish", encoded) == (200, {})
        assert system.published[1].body == b"\x00\xff"
        assert (await page.post("/api/publish", {"routing_key": "absent", "body": ""}))[1]["message"] == (
            "there is no queue 'absent'"
        )
        refused = (
            {"routing_key": "", "body": ""},
            {"routing_key": "q"},
            {"routing_key": "q", "body": "", "headers": {"nested": {}}},
            {"routing_key": "q", "body": "%", "encoding": "base64"},
            {"routing_key": "q", "body": "", "encoding": "rot13"},
        )
        for body in refused:
            assert (await page.post("/api/publish", body))[0] == 409, body
        assert len(system.published) == 2


async def test_a_change_of_the_broker_is_read_and_its_result_returned(system: System) -> None:
    async with running(system) as page:
        body = {"exchange": "amq.topic", "to": "q", "routing_key": "a.#"}
        assert await page.post("/api/messaging/bind", body) == (200, {"messages": 7, "left": 0})
        assert (await page.post("/api/messaging/move", {"source": "a", "target": "b"}))[0] == 200
        assert system.changes == [Bind("amq.topic", "q", "a.#"), MoveMessages("a", "b")]
        assert (await page.post("/api/messaging/explode", {}))[0] == 404
        assert (await page.post("/api/messaging/move", {"source": 1, "target": "b"}))[0] == 409
        assert (await page.get("/api/messaging?find=abc"))[1]["totals"] == {"queues": 3}
        assert len(system.changes) == 2


async def test_a_queue_is_watched_until_it_fails(system: System) -> None:
    async with running(system) as page, page.stream("/api/peek?queue=hello") as stream:
        assert await stream.next("messages") == {"missed": 0, "messages": []}
        system.waiting.put_nowait(PeekedMessage("one", 3, routing_key="hello"))
        (message,) = (await stream.next("messages"))["messages"]
        assert (message["body"], message["routing_key"]) == ("one", "hello")
        system.waiting.put_nowait(BrokerError("the broker has gone"))
        assert (await stream.next("failed"))["message"] == "the broker has gone"


async def test_a_flood_of_messages_is_dropped_and_counted(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "PEEK_BATCH", 5)
    for number in range(50):
        system.waiting.put_nowait(PeekedMessage(str(number), 1))
    async with running(system) as page, page.stream("/api/peek?queue=hello") as stream:
        await stream.next("messages")
        batch = await stream.next("messages")
        assert batch["missed"] == 45
        assert [message["body"] for message in batch["messages"]] == ["45", "46", "47", "48", "49"]


async def test_missing_features_are_not_offered(system: System) -> None:
    async with running(system, traces=None, queues=None) as page:
        _, session = await page.get("/api/session")
        assert (session["traces"], session["queues"]) == (False, False)
        assert await page.get("/api/traces") == (200, [])
        assert (await page.get("/api/traces/1"))[0] == 404
        assert (await page.get("/api/peek?queue=x"))[0] == 404
        assert (await page.post("/api/publish", {"routing_key": "x", "body": ""}))[0] == 404
        assert (await page.get("/api/runs"))[0] == 404


async def test_unknown_paths_are_404_and_wrong_methods_405(system: System) -> None:
    async with running(system) as page:
        assert (await page.get("/nothing"))[0] == 404
        assert (await page.get("/api/peek"))[0] == 409
        async with page.session.get(page.url + "/api/publish") as response:
            assert response.status == 405
            assert response.headers["Allow"] == "POST"


TOKEN = Secret("a-start-up-token-that-is-long-enough-to-be-one")


@contextlib.asynccontextmanager
async def signed_out(
    system: System, spec: DashboardSpec | None = None
) -> AsyncIterator[tuple[ClientSession, str, Dashboard]]:
    """A browser that has not used the link."""
    dashboard = Dashboard(spec or DashboardSpec(port=0), system, DashboardViews(metrics), TOKEN)
    url = await dashboard.start()
    async with ClientSession(cookie_jar=CookieJar(unsafe=True)) as session:
        try:
            yield session, url, dashboard
        finally:
            await dashboard.stop()


async def test_without_the_link_nothing_is_shown_but_where_it_is(system: System) -> None:
    async with signed_out(system) as (session, url, _):
        async with session.get(url) as response:
            assert (response.status, response.content_type) == (401, "text/html")
            text = await response.text()
            assert "msctl open" in text
            assert "shop" not in text
            assert "Refresh" not in response.headers
        for path in ("api/session", "api/stream", "api/traces", "static/page.js"):
            async with session.get(url + path) as response:
                assert (response.status, response.content_type) == (401, "application/json")
                assert TOKEN.reveal() not in await response.text()
        async with session.get(url + "metrics") as response:
            assert response.status == 200


async def test_the_link_sets_a_cookie_and_leaves_the_address_bar(system: System) -> None:
    async with signed_out(system) as (session, url, dashboard):
        async with session.get(dashboard.link, allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (303, "/")
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Strict" in cookie
            assert TOKEN.reveal() not in cookie
        async with session.get(url) as response:
            assert response.status == 200
            assert "<title>msctl</title>" in await response.text()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_the_link_is_of_no_use_for_a_foreign_page(system: System, headers: dict[str, str]) -> None:
    async with signed_out(system) as (session, _, dashboard):
        async with session.get(dashboard.link, headers=headers, allow_redirects=False) as response:
            assert response.status == 403
            assert "Set-Cookie" not in response.headers
        async with session.post(dashboard.link, allow_redirects=False) as response:
            assert "Set-Cookie" not in response.headers


async def test_a_wrong_token_is_refused(system: System) -> None:
    async with signed_out(system) as (session, url, _), session.get(f"{url}?token=guess") as response:
        assert response.status == 401
        assert "Set-Cookie" not in response.headers


async def test_a_link_followed_from_another_site_reloads_the_page_once(system: System) -> None:
    """The browser does not send a SameSite=Strict cookie with a navigation that another site began."""
    async with signed_out(system) as (session, url, _):
        followed = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        async with session.get(url, headers=followed) as response:
            assert (response.status, response.headers["Refresh"]) == (401, "0")


async def test_two_dashboards_of_one_host_have_different_cookies(system: System) -> None:
    async with running(system) as one, running(system) as two:
        names = [{cookie.key for cookie in page.session.cookie_jar} for page in (one, two)]
        assert names[0] != names[1]


async def test_the_token_is_stable_over_restarts_and_can_be_switched_off(system: System) -> None:
    views = DashboardViews(metrics)
    one, two = (Dashboard(DashboardSpec(port=0), system, views, TOKEN) for _ in range(2))
    assert one._access.session == two._access.session
    off = Dashboard(DashboardSpec(port=0, token=False), system, views, TOKEN)
    url = await off.start()
    assert off.link == url
    await off.stop()


async def test_wrong_passwords_are_logged_and_delayed(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    spec = DashboardSpec(port=0, password=Secret("pw"))
    async with signed_out(system, spec) as (session, url, _):
        statuses = []
        for _ in range(5):
            async with session.get(
                url, headers={"Authorization": encode_basic_auth("x", "guess")}
            ) as response:
                statuses.append(response.status)
        assert statuses == [401, 401, 401, 429, 429]
        assert "wrong dashboard password from 127.0.0.1 (attempt 3)" in caplog.text
        right = {"Authorization": encode_basic_auth("x", "pw")}
        async with session.get(url, headers=right) as response:
            assert response.status == 429  # not even the right one is tried
            assert int(response.headers["Retry-After"]) >= 1


async def test_a_request_without_credentials_is_not_a_wrong_password(system: System) -> None:
    async with signed_out(system, DashboardSpec(port=0, password=Secret("pw"))) as (session, url, _):
        for _ in range(10):
            async with session.get(url) as response:
                assert response.status == 401
        async with session.get(url, headers={"Authorization": encode_basic_auth("x", "pw")}) as response:
            assert response.status == 200


@pytest.mark.parametrize("half", [b"", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_half_request_is_closed(system: System, half: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.http.head_timeout.HEAD_TIMEOUT_S", 0.1)
    async with signed_out(system) as (_, _, dashboard):
        reader, writer = await asyncio.open_connection("127.0.0.1", dashboard._port)
        writer.write(half)
        async with asyncio.timeout(60):
            assert await reader.read() == b""
        writer.close()


async def test_a_complete_request_is_not_closed(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.http.head_timeout.HEAD_TIMEOUT_S", 0.1)
    async with running(system) as page, page.stream("/api/stream") as stream:
        await stream.next("state")
        assert page.dashboard._head_timeout._timers == {}


async def test_a_body_that_does_not_arrive_is_refused(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.dashboard.responses.BODY_TIMEOUT_S", 0.1)
    async with running(system) as page:
        _, found = await page.get("/api/session")
        (cookie,) = page.session.cookie_jar
        reader, writer = await asyncio.open_connection("127.0.0.1", page.dashboard._port)
        writer.write(
            b"POST /api/services/users/scale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n"
            + f"Cookie: {cookie.key}={cookie.value}\r\nX-Msctl-Token: {found['token']}\r\n".encode()
            + b"Content-Type: application/json\r\n\r\n{"
        )
        async with asyncio.timeout(60):
            assert b" 408 " in await reader.readline()
        writer.close()
