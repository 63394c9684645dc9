"""Hosted services under the supervisor: over real sockets, with applications written to a folder."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from msctl.errors import ConfigError, MsctlError, PortTakenError
from msctl.model.exchange import Exchange
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_context import ServiceContext
from msctl.model.service_policies import Dependency
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import State
from msctl.telemetry.logs.hub import HubHandler
from tests.support.supervisor import MakeRig, Rig, free_port

pytestmark = pytest.mark.both_loops

Write = Callable[[str, str], Path]

HELLO = """
from aiohttp import web
async def hello(request):
    return web.Response(text="hello")
def create_app():
    app = web.Application()
    app.router.add_get("/hello", hello)
    return app
"""


async def get(url: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


def url(rig: Rig, service: str, path: str) -> str:
    return f"http://{rig.service(service).addresses[0]}{path}"


async def test_a_hosted_service_is_ready_serves_and_stops(rig: MakeRig, write: Write) -> None:
    write("hosted_a.py", HELLO)
    one = rig(ServiceSpec("hello", app="hosted_a:create_app", port=0))
    await one.supervisor.start(["hello"])
    assert one.service("hello").state is State.READY
    assert await get(url(one, "hello", "/hello")) == (200, "hello")
    assert one.registry.endpoints("hello")[0].handler is not None
    address = url(one, "hello", "/hello")
    await one.supervisor.stop(["hello"])
    assert one.service("hello").state is State.STOPPED
    assert one.registry.endpoints("hello") == ()
    assert one.registry.absence("hello") == "is stopped"
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(address)
    await one.supervisor.start(["hello"])
    assert await get(address) == (200, "hello")
    assert one.states("hello") == [
        State.WAITING, State.STARTING, State.RUNNING, State.READY, State.STOPPING, State.STOPPED,
        State.WAITING, State.STARTING, State.RUNNING, State.READY,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        "from aiohttp import web\napp = web.Application()\n",
        "from aiohttp import web\ndef app():\n    return web.Application()\n",
        "from aiohttp import web\nasync def app():\n    return web.Application()\n",
        "from aiohttp import web\ndef app(a=None):\n    assert a is None\n    return web.Application()\n",
        "from aiohttp import web\nasync def app(context):\n    assert context.env['WHO'] == 'me'\n"
        "    assert context.amqp_url.startswith('amqp:')\n    return web.Application()\n",
    ],
    ids=["application", "factory", "async factory", "optional argument", "context"],
)
async def test_an_application_or_any_factory_of_one_will_do(
    rig: MakeRig, write: Write, source: str, request: pytest.FixtureRequest
) -> None:
    module = f"forms_{abs(hash(request.node.name))}"
    write(f"{module}.py", source)
    one = rig(ServiceSpec("a", app=f"{module}:app", env={"WHO": "me"}))
    await one.supervisor.start()
    assert one.service("a").state is State.READY, one.text("a")


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("raise ValueError('no database')", "broken:app", "ValueError: no database"),
        ("import sys\nsys.exit(3)", "broken:app", "SystemExit: 3"),
        ("def app(:", "broken:app", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("x = 1", "broken:app", "the module broken has no app"),
        (
            "app = 7",
            "broken:app",
            "broken:app is an int; expected an aiohttp.web.Application, an ASGI 3 or WSGI application, or a "
            "function that returns one",
        ),
        ("", "missing_one:app", "there is no module missing_one"),
        ("", "broken", "'broken' does not have the form 'package.module:attribute'"),
        (
            "from aiohttp import web\napp = web.Application()\n"
            "async def boom(app):\n    raise OSError('disk is full')\napp.on_startup.append(boom)",
            "broken:app",
            "OSError: disk is full",
        ),
    ],
    ids=["raise", "exit", "syntax", "attribute", "type", "module", "form", "startup"],
)
async def test_an_application_that_cannot_start_is_fatal_with_its_reason_and_takes_nothing_else_down(
    rig: MakeRig, write: Write, source: str, target: str, reason: str
) -> None:
    module = f"broken_{abs(hash(source + target))}"
    write(f"{module}.py", source)
    write("hosted_b.py", HELLO)
    one = rig(
        ServiceSpec("bad", app=target.replace("broken", module)),
        ServiceSpec("late", app="hosted_b:create_app", depends_on=(Dependency("bad"),)),
        ServiceSpec("later", app="hosted_b:create_app", depends_on=(Dependency("late"),)),
        ServiceSpec("good", app="hosted_b:create_app", port=0),
    )
    await one.supervisor.start()
    assert one.service("bad").state is State.FATAL
    found = one.service("bad").reason.replace(module, "broken")
    assert found.partition(" in /")[0] == reason  # where it was looked for differs
    if "Error: " in reason or "Exit: " in reason:  # a failure of the service's code
        assert reason.split(":")[0] in one.text("bad")
    else:
        assert "Traceback" not in one.text("bad")
    assert one.service("late").state is State.SKIPPED
    assert one.service("late").reason.replace(module, "broken") == f"bad failed: {found}"
    assert one.service("later").state is State.SKIPPED
    assert await get(url(one, "good", "/hello")) == (200, "hello")


async def test_a_failed_service_starts_once_its_source_is_mended(rig: MakeRig, write: Write) -> None:
    write("mended.py", "raise ValueError('not yet')")
    one = rig(ServiceSpec("a", app="mended:create_app", port=0))
    await one.supervisor.start()
    assert one.service("a").state is State.FATAL
    write("mended.py", HELLO)
    await one.supervisor.restart(["a"])
    assert await get(url(one, "a", "/hello")) == (200, "hello")


async def test_an_edit_is_there_after_a_restart_and_the_other_service_keeps_what_it_has(
    rig: MakeRig, write: Write
) -> None:
    write("shared_shop/__init__.py", "")
    write("shared_shop/common.py", "WORD = 'old'\n")
    source = """
from aiohttp import web
from shared_shop.common import WORD
async def word(request):
    return web.Response(text=WORD)
def create_app():
    app = web.Application()
    app.router.add_get("/", word)
    return app
"""
    write("shared_shop/one.py", source)
    write("shared_shop/two.py", source)
    one = rig(
        ServiceSpec("one", app="shared_shop.one:create_app", port=0),
        ServiceSpec("two", app="shared_shop.two:create_app", port=0),
    )
    await one.supervisor.start()
    write("shared_shop/common.py", "WORD = 'new'\n")
    await one.supervisor.restart(["one"])
    assert await get(url(one, "one", "/")) == (200, "new")
    assert await get(url(one, "two", "/")) == (200, "old")


FAULTY = """
import logging
from aiohttp import web

async def boom(request):
    raise RuntimeError("kaboom")
async def leave(request):
    raise SystemExit(1)
async def nothing(request):
    pass
async def teapot(request):
    answer = web.HTTPConflict(text="conflict", headers={"X-Kind": "raised"})
    answer.set_cookie("a", "b")
    raise answer
async def half(request):
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"half")
    raise RuntimeError("broke off")
async def log(request):
    logging.getLogger("shop").warning("a word")
    return web.Response(text="ok")
async def size(request):
    return web.Response(text=str(len(await request.read())))
async def mark(request, response):
    response.headers["X-Marked"] = "yes"

def create_app():
    app = web.Application(client_max_size=10)
    app.on_response_prepare.append(mark)
    for handler in (boom, leave, nothing, teapot, half, log):
        app.router.add_get(f"/{handler.__name__}", handler)
    app.router.add_post("/size", size)
    return app
"""


@pytest.fixture
async def faulty(rig: MakeRig, write: Write) -> Rig:
    write("faulty.py", FAULTY)
    one = rig(ServiceSpec("faulty", app="faulty:create_app", port=0))
    await one.supervisor.start()
    return one


@pytest.mark.parametrize(
    ("path", "trace"), [("boom", "kaboom"), ("leave", "SystemExit"), ("nothing", "TypeError")]
)
async def test_a_handler_that_raises_is_a_500_for_that_request_alone(
    faulty: Rig, path: str, trace: str
) -> None:
    assert (await get(url(faulty, "faulty", f"/{path}")))[0] == 500
    assert trace in faulty.text("faulty")
    assert faulty.service("faulty").state is State.READY
    assert await get(url(faulty, "faulty", "/log")) == (200, "ok")


async def test_a_raised_answer_is_sent_with_its_headers_and_cookies(faulty: Rig) -> None:
    async with aiohttp.ClientSession() as session, session.get(url(faulty, "faulty", "/teapot")) as answer:
        assert (answer.status, await answer.text()) == (409, "conflict")
        assert answer.headers["X-Kind"] == "raised"
        assert answer.headers["X-Marked"] == "yes"
        assert answer.cookies["a"].value == "b"


async def test_the_applications_own_404_and_its_prepare_signal_apply(faulty: Rig) -> None:
    async with aiohttp.ClientSession() as session, session.get(url(faulty, "faulty", "/absent")) as answer:
        assert answer.status == 404
        assert answer.headers["X-Marked"] == "yes"


async def test_an_answer_that_breaks_off_is_never_ended_cleanly(faulty: Rig) -> None:
    with pytest.raises(aiohttp.ClientError):
        await get(url(faulty, "faulty", "/half"))
    # Without a length or chunks, only a reset tells the client.
    host, _, port = faulty.service("faulty").addresses[0].partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /half HTTP/1.0\r\n\r\n")
    try:
        with pytest.raises(ConnectionResetError):
            await reader.read()
    finally:
        writer.close()
    assert "broke off" in faulty.text("faulty")


async def test_the_applications_own_limit_on_bodies_applies(faulty: Rig) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.post(url(faulty, "faulty", "/size"), data=b"x" * 10) as answer:
            assert (answer.status, await answer.text()) == (200, "10")
        async with session.post(url(faulty, "faulty", "/size"), data=b"x" * 11) as answer:
            assert answer.status == 413


class StubGateway:
    """Answers everything itself."""

    async def startup(self) -> None:
        pass

    async def handle(self, exchange: Exchange) -> None:
        exchange.respond(200, b"OK", [], f"gateway {exchange.head.target}".encode())

    async def drain(self, timeout: float) -> None:
        pass

    async def cleanup(self) -> None:
        pass


async def test_a_service_on_the_gateways_port_serves_while_the_gateway_is_not_running(
    rig: MakeRig, write: Write
) -> None:
    write("hosted_c.py", HELLO)
    port = free_port()
    one = rig(
        ServiceSpec("hello", app="hosted_c:create_app", port=port, routes=(RouteSpec("/hello", "hello"),)),
        ServiceSpec("other", app="hosted_c:create_app", port=port, routes=(RouteSpec("/other", "other"),)),
        ServiceSpec("gateway", port=port),
        gateway=GatewaySpec(port=port),
        builtin={"gateway": lambda context: StubGateway()},
    )
    await one.supervisor.start()
    base = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession() as session:  # one connection, kept alive throughout

        async def fetch(path: str) -> tuple[int, str]:
            async with session.get(base + path) as answer:
                return answer.status, await answer.text()

        assert await fetch("/hello") == (200, "gateway /hello")
        await one.supervisor.stop(["gateway"])
        assert await fetch("/hello") == (200, "hello")
        assert (await fetch("/other/x"))[0] == 404
        missing = (404, "404 no service for /elsewhere; known paths: /hello, /other\n")
        assert await fetch("/elsewhere") == missing
        await one.supervisor.stop(["other"])
        assert await fetch("/hello") == (200, "hello")
        await one.supervisor.start(["gateway"])
        assert await fetch("/x") == (200, "gateway /x")
        await one.supervisor.stop(["gateway", "hello"])
        with pytest.raises(aiohttp.ClientConnectorError):
            await fetch("/hello")


async def test_the_last_may_leave_a_shared_port_while_another_comes(rig: MakeRig, write: Write) -> None:
    write("hosted_f.py", HELLO)
    port = free_port()
    one = rig(
        ServiceSpec("hello", app="hosted_f:create_app", port=port, routes=(RouteSpec("/hello", "hello"),)),
        ServiceSpec("gateway", port=port),
        gateway=GatewaySpec(port=port),
        builtin={"gateway": lambda context: StubGateway()},
    )
    await one.supervisor.start(["hello"])
    for going, coming in (("hello", "gateway"), ("gateway", "hello")) * 3:
        await asyncio.gather(one.supervisor.stop([going]), one.supervisor.start([coming]))
        assert one.service(coming).state is State.READY, one.service(coming).reason
        assert (await get(f"http://127.0.0.1:{port}/hello"))[0] == 200


def test_two_services_on_one_address_are_refused(rig: MakeRig) -> None:
    one, two = ServiceSpec("one", app="x:y", port=8082), ServiceSpec("two", app="x:y", port=8082)
    with pytest.raises(ConfigError, match=r"'one' and 'two' both listen on 127\.0\.0\.1:8082"):
        rig(one, two)


@pytest.mark.parametrize(
    ("first", "second", "clash"),
    [
        (ServiceSpec("a", app="x:y", host="0.0.0.0", port=9), ServiceSpec("b", app="x:y", port=9), True),
        (ServiceSpec("a", app="x:y", host="127.0.0.2", port=9), ServiceSpec("b", app="x:y", port=9), False),
        (ServiceSpec("a", app="x:y", port=0), ServiceSpec("b", app="x:y", port=0), False),
        (ServiceSpec("a", app="x:y", port=7000), ServiceSpec("gateway", port=7000), False),
        (ServiceSpec("a", command=("x",), port=7000), ServiceSpec("gateway", port=7000), True),
    ],
    ids=["wildcard", "other host", "any port", "hosted with gateway", "command with gateway"],
)
def test_what_is_a_clash(rig: MakeRig, first: ServiceSpec, second: ServiceSpec, clash: bool) -> None:
    gateway = GatewaySpec(port=7000)
    if clash:
        with pytest.raises(ConfigError):
            rig(first, second, gateway=gateway)
    else:
        rig(first, second, gateway=gateway)


async def test_a_taken_port_is_named_with_its_holder_before_anything_starts(
    rig: MakeRig, write: Write
) -> None:
    write("hosted_d.py", HELLO)
    holder = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = holder.sockets[0].getsockname()[1]
    free = free_port()
    one = rig(
        ServiceSpec("free", app="hosted_d:create_app", port=free),
        ServiceSpec("hello", app="hosted_d:create_app", port=port),
    )
    with pytest.raises(PortTakenError) as caught:
        one.supervisor.reserve(["free", "hello"])
    assert f"127.0.0.1:{port} is taken by pid {os.getpid()} (" in caught.value.message
    assert "'hello' needs it" in caught.value.message
    with pytest.raises(PortTakenError):
        await one.supervisor.start()
    assert one.events == []
    holder.close()
    await holder.wait_closed()
    # The half that had been bound was let go, and now both can be had.
    await one.supervisor.start()
    assert {s.state for s in one.supervisor.snapshot()} == {State.READY}


async def test_a_host_that_is_not_ours_is_a_plain_error(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("a", app="x:y", host="192.0.2.1", port=0),
        ServiceSpec("b", app="x:y", host="no.such.invalid", port=0),
    )
    with pytest.raises(MsctlError, match=r"'a' cannot listen on 192\.0\.2\.1:0"):
        one.supervisor.reserve(["a"])
    with pytest.raises(MsctlError, match="the host name does not resolve"):
        one.supervisor.reserve(["b"])


SLOW = """
import asyncio
from aiohttp import web
entered = asyncio.Event()
release = asyncio.Event()
async def slow(request):
    entered.set()
    await release.wait()
    return web.Response(text="done")
async def stubborn(request):
    entered.set()
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(b"x")
    await asyncio.Event().wait()
def create_app():
    app = web.Application()
    app.router.add_get("/slow", slow)
    app.router.add_get("/stubborn", stubborn)
    return app
"""


async def test_a_request_under_way_is_finished_before_the_service_stops(rig: MakeRig, write: Write) -> None:
    write("slow_a.py", SLOW)
    one = rig(ServiceSpec("slow", app="slow_a:create_app", port=0))
    await one.supervisor.start()
    module = sys.modules["slow_a"]
    request = asyncio.create_task(get(url(one, "slow", "/slow")))
    await module.entered.wait()
    stopping = asyncio.create_task(one.supervisor.stop(["slow"]))
    await one.until_state("slow", State.STOPPING)
    assert not stopping.done()
    module.release.set()
    assert await request == (200, "done")
    await stopping


async def test_a_request_that_outlasts_the_drain_is_told_503_and_a_begun_answer_is_cut(
    rig: MakeRig, write: Write
) -> None:
    write("slow_b.py", SLOW)
    one = rig(ServiceSpec("slow", app="slow_b:create_app", port=0))
    await one.supervisor.start()
    module = sys.modules["slow_b"]
    for path in ("/slow", "/stubborn"):
        module.entered.clear()
        request = asyncio.create_task(get(url(one, "slow", path)))
        await module.entered.wait()
        await one.supervisor.stop(["slow"], timeout=0.0)
        if path == "/slow":
            assert (await request)[0] == 503
        else:
            with pytest.raises(aiohttp.ClientError):
                await request
        await one.supervisor.start(["slow"])


async def test_independent_services_start_side_by_side_and_dependents_after(
    rig: MakeRig, write: Write
) -> None:
    one_started = asyncio.Event()
    two_started = asyncio.Event()

    class Meets(StubGateway):
        def __init__(self, mine: asyncio.Event, theirs: asyncio.Event) -> None:
            self.mine, self.theirs = mine, theirs

        async def startup(self) -> None:
            self.mine.set()
            await self.theirs.wait()

    one = rig(
        ServiceSpec("one", app="-"),
        ServiceSpec("two", app="-"),
        ServiceSpec("three", app="-", depends_on=(Dependency("one"), Dependency("two"))),
        builtin={
            "one": lambda c: Meets(one_started, two_started),
            "two": lambda c: Meets(two_started, one_started),
            "three": lambda c: StubGateway(),
        },
    )
    await asyncio.wait_for(one.supervisor.start(["three"]), 60)
    order = [(e.service, e.state) for e in one.events]
    assert order.index(("three", State.STARTING)) > max(
        order.index(("one", State.READY)), order.index(("two", State.READY))
    )
    assert any(e.service == "three" and e.reason.startswith("waiting on ") for e in one.events)
    await one.supervisor.shutdown()
    order = [(e.service, e.state) for e in one.events]
    assert order.index(("one", State.STOPPING)) > order.index(("three", State.STOPPED))


async def test_a_stop_interrupts_a_start_and_leaves_nothing(rig: MakeRig) -> None:
    cleaned: list[str] = []

    class Stuck(StubGateway):
        async def startup(self) -> None:
            await asyncio.Event().wait()

        async def cleanup(self) -> None:
            cleaned.append("yes")

    def factory(context: ServiceContext) -> Stuck:
        return Stuck()

    one = rig(
        ServiceSpec("stuck", app="-"),
        ServiceSpec("after", app="-", depends_on=(Dependency("stuck"),)),
        builtin={"stuck": factory},
    )
    starting = asyncio.create_task(one.supervisor.start())
    await one.until(lambda: one.service("after").reason.startswith("waiting on stuck ("))
    await one.until_state("stuck", State.STARTING)
    await one.supervisor.stop(["stuck"])
    await starting
    assert cleaned == ["yes"]
    assert one.service("stuck").state is State.STOPPED
    assert (one.service("after").state, one.service("after").reason) == (State.SKIPPED, "stuck is stopped")


async def test_without_deps_a_service_starts_alone(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("base", app="-"),
        ServiceSpec("top", app="-", depends_on=(Dependency("base"),)),
        builtin={"base": lambda c: StubGateway(), "top": lambda c: StubGateway()},
    )
    await one.supervisor.start(["top"], deps=False)
    assert one.service("top").state is State.READY
    assert one.service("base").state is State.STOPPED


async def test_only_services_with_autostart_start_by_themselves(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("base", app="-"),
        ServiceSpec("extra", app="-", autostart=False),
        builtin={"base": lambda c: StubGateway(), "extra": lambda c: StubGateway()},
    )
    await one.supervisor.start()
    assert one.service("extra").state is State.STOPPED
    await one.supervisor.start(["extra"])
    assert one.service("extra").state is State.READY


async def test_after_a_shutdown_nothing_starts_again(rig: MakeRig) -> None:
    one = rig(ServiceSpec("base", app="-"), builtin={"base": lambda c: StubGateway()})
    await one.supervisor.start()
    await asyncio.gather(one.supervisor.shutdown(5), one.supervisor.shutdown(3))
    with pytest.raises(MsctlError, match="stopping"):
        await one.supervisor.start()


async def test_a_shutdown_with_less_time_hurries_the_one_under_way(rig: MakeRig) -> None:
    draining = asyncio.Event()

    class Slow(StubGateway):
        async def drain(self, timeout: float) -> None:
            draining.set()
            await asyncio.Event().wait()

    one = rig(ServiceSpec("slow", app="-", stop_timeout=600), builtin={"slow": lambda c: Slow()})
    await one.supervisor.start()
    first = asyncio.create_task(one.supervisor.shutdown(600))
    await draining.wait()
    await asyncio.wait_for(one.supervisor.shutdown(0), 60)
    await asyncio.wait_for(first, 60)
    assert one.service("slow").state is State.STOPPED


async def test_what_an_application_logs_is_its_own(rig: MakeRig, write: Write) -> None:
    write("faulty_log.py", FAULTY + "\nlogging.getLogger('shop').warning('at import')\n")
    one = rig(ServiceSpec("talker", app="faulty_log:create_app", port=0))
    handler = HubHandler(one.logs)
    logging.getLogger().addHandler(handler)
    try:
        await one.supervisor.start()
        await get(url(one, "talker", "/log"))
        logging.getLogger("shop").warning("from outside")
    finally:
        logging.getLogger().removeHandler(handler)
    assert one.text("talker") == "at import\na word"
    assert "from outside" in one.text("msctl")


async def test_a_service_with_no_application_is_fatal(rig: MakeRig) -> None:
    one = rig(ServiceSpec("void"))
    await one.supervisor.start()
    assert one.service("void").reason == "service 'void' has neither an app nor a command"


async def test_a_port_that_is_taken_between_reservation_and_start_is_that_services_failure(
    rig: MakeRig, write: Write
) -> None:
    write("hosted_e.py", HELLO)
    port = free_port()
    one = rig(ServiceSpec("hello", app="hosted_e:create_app", port=port))
    one.supervisor.reserve(["hello"])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        await one.supervisor.start()
    assert one.service("hello").state is State.FATAL
    assert one.service("hello").reason.startswith(f"127.0.0.1:{port} is taken by pid {os.getpid()} (")


UNCLEAN = """
from aiohttp import web
async def boom(app):
    raise RuntimeError("at " + app["when"])
def create_app():
    app = web.Application()
    app["when"] = "the end"
    app.on_shutdown.append(boom)
    app.on_cleanup.append(boom)
    return app
"""


@pytest.mark.filterwarnings("ignore:It is recommended to use web.AppKey")
async def test_an_application_that_fails_to_clean_up_is_stopped_all_the_same(
    rig: MakeRig, write: Write
) -> None:
    write("unclean.py", UNCLEAN)
    one = rig(ServiceSpec("a", app="unclean:create_app", port=0))
    await one.supervisor.start()
    assert one.service("a").state is State.READY
    await one.supervisor.stop()
    assert one.service("a").state is State.STOPPED
    assert one.text("a").count("RuntimeError: at the end") == 2


async def test_what_a_built_in_service_raises_at_its_end_is_logged(rig: MakeRig) -> None:
    class Faulty(StubGateway):
        async def drain(self, timeout: float) -> None:
            raise RuntimeError("no drain")

        async def cleanup(self) -> None:
            raise RuntimeError("no cleanup")

    one = rig(ServiceSpec("a", app="-"), builtin={"a": lambda c: Faulty()})
    await one.supervisor.start()
    await one.supervisor.stop()
    assert "no drain" in one.text("a")
    assert "no cleanup" in one.text("a")


async def test_a_cleanup_without_end_is_cut_short(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.hosting.hosted_worker.CLEANUP_S", 0.01)

    class Endless(StubGateway):
        async def cleanup(self) -> None:
            await asyncio.Event().wait()

    one = rig(ServiceSpec("a", app="-"), builtin={"a": lambda c: Endless()})
    await one.supervisor.start()
    await one.supervisor.stop()
    assert one.text("a") == "its cleanup was cancelled after 0.01 s"


async def test_a_long_traceback_keeps_its_end(rig: MakeRig, write: Write) -> None:
    calls = "".join(f"def f{n}(): return f{n + 1}()\n" for n in range(60))
    write("deep.py", f"{calls}def f60(): raise ValueError('deep')\nf0()\n")
    one = rig(ServiceSpec("a", app="deep:app"))
    await one.supervisor.start()
    lines = one.text("a").splitlines()
    assert lines[0].endswith("lines omitted)")
    assert lines[-1] == "ValueError: deep"
    assert len(lines) < 60


async def test_a_start_that_comes_while_it_stops_begins_when_that_is_over(rig: MakeRig) -> None:
    release = asyncio.Event()

    class Slow(StubGateway):
        async def drain(self, timeout: float) -> None:
            await release.wait()

    one = rig(ServiceSpec("a", app="-", stop_timeout=60), builtin={"a": lambda c: Slow()})
    await one.supervisor.start()
    stopping = asyncio.create_task(one.supervisor.stop(["a"]))
    await one.until_state("a", State.STOPPING)
    starting = asyncio.create_task(one.supervisor.start(["a"]))
    await asyncio.sleep(0)
    assert one.service("a").state is State.STOPPING
    release.set()
    await asyncio.gather(stopping, starting)
    assert one.service("a").state is State.READY


async def test_restarting_nothing_in_particular_restarts_what_was_started(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("a", app="-"),
        ServiceSpec("b", app="-"),
        builtin={n: lambda c: StubGateway() for n in "ab"},
    )
    await one.supervisor.restart()
    assert one.events == []
    await one.supervisor.start(["a"])
    await one.supervisor.restart()
    assert one.states("a").count(State.READY) == 2
    assert one.service("b").state is State.STOPPED
