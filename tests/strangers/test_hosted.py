"""Applications of web frameworks: hosted in the stack, isolated, and by the servers of their tutorials."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import urlencode

import aiohttp
import pytest

from tests.strangers.conftest import CACHE
from tests.support.cli import SOURCE, Msctl
from tests.support.http import Answer, request
from tests.support.ports import reserved_port
from tests.support.waiting import eventually

HERE = Path(__file__).parent / "hosted"
BIN = CACHE / "venv" / "bin"
APPS = {
    "shop": "shop:app",
    "board": "board:app",
    "stars": "site_of_stars:app",
    "planet": "planet:app",
    "polls-asgi": "mysite.asgi:application",
    "polls-wsgi": "mysite.wsgi:application",
}
COMMANDS = {
    "shop": f"{BIN}/uvicorn shop:app --host $HOST --port $PORT --root-path /shop-command",
    "board": f"{BIN}/gunicorn -k gthread --threads 4 -b $HOST:$PORT board:app",
    "stars": f"{BIN}/uvicorn site_of_stars:app --host $HOST --port $PORT --root-path /stars-command",
    "planet": f"{BIN}/uvicorn planet:app --host $HOST --port $PORT --root-path /planet-command",
    "polls-asgi": f"{BIN}/uvicorn mysite.asgi:application --host $HOST --port $PORT",
    "polls-wsgi": f"{BIN}/gunicorn -k gthread --threads 4 -b $HOST:$PORT mysite.wsgi:application",
}
WAYS = ("hosted", "isolated", "command")


class Site:
    """The stack with every application in every way, each below /NAME-WAY."""

    def __init__(self, msctl: Msctl, port: int) -> None:
        self.msctl = msctl
        self.port = port

    def url(self, name: str, way: str, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}-{way}{path}"

    def get(self, name: str, way: str, path: str, headers: dict[str, str] | None = None) -> Answer:
        return request(self.url(name, way, path), headers=headers)


def service(name: str, way: str) -> str:
    run = {
        "hosted": f'app = "{APPS[name]}"',
        "isolated": f'app = "{APPS[name]}"\nisolation = "process"',
        "command": f'command = "{COMMANDS[name]}"',
    }[way]
    return f"""
[services.{name}-{way}]
{run}
routes = [{{ path = "/{name}-{way}", strip_prefix = true }}]
env = {{ GREETING = "hello from {way}", PYTHONDONTWRITEBYTECODE = "1" }}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not (BIN / "litestar").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("CI must have it: tests/support/install-tools.sh installs it", pytrace=False)
        pytest.skip("the frameworks are not installed; tests/support/install-tools.sh does it")
    folder = tmp_path_factory.mktemp("site") / "project"
    shutil.copytree(HERE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    packages = next((CACHE / "venv" / "lib").glob("python*/site-packages"))
    with ExitStack() as stack:
        gateway, broker = (stack.enter_context(reserved_port()) for _ in range(2))
        subprocess.run([BIN / "python", "fill.py"], cwd=folder, check=True)
        services = "".join(service(name, way) for name in APPS for way in WAYS)
        (folder / "msctl.toml").write_text(
            f'[project]\nname = "site"\n[gateway]\nport = {gateway}\nopenapi = "/openapi.json"\n'
            f'[broker]\nurl = "amqp://guest:guest@127.0.0.1:{broker}/"\n{services}'
        )
        # A user has msctl and the framework in one environment; here they are in two.
        env = {"PYTHONPATH": f"{SOURCE}:{packages}"}
        msctl = Msctl(folder, tmp_path_factory.mktemp("run"), env)
        del msctl.env["PYTHONWARNINGS"]
        msctl.ok("up", "-d")
        yield Site(msctl, gateway)
        msctl.ok("down")


def field(answer: Answer, name: str) -> str:
    """A field of an answer; servers differ in how they spell its name."""
    return {found.lower(): value for found, value in answer.headers.items()}[name]


every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_fastapi_answers_as_in_its_tutorial(site: Site, way: str) -> None:
    assert json.loads(site.get("shop", way, "/").body) == {"message": "Hello World"}
    assert json.loads(site.get("shop", way, "/items/5?q=a").body) == {"item_id": 5, "q": "a"}
    assert site.get("shop", way, "/items/five").status == 422
    made = request(
        site.url("shop", way, "/items"),
        method="POST",
        body=b'{"name": "tea", "price": 1}',
        headers={"Content-Type": "application/json"},
    )
    assert (made.status, json.loads(made.body)) == (201, {"name": "tea", "price": 1.0})
    events = site.get("shop", way, "/events")
    assert (field(events, "content-type"), events.body) == (
        "text/event-stream; charset=utf-8",
        b"data: 0\n\ndata: 1\n\ndata: 2\n\n",
    )
    assert f"/shop-{way}/openapi.json".encode() in site.get("shop", way, "/docs").body


@every_way
def test_fastapi_reads_an_upload_and_its_environment(site: Site, way: str) -> None:
    content = b"--b\r\nContent-Disposition: form-data; name=file; filename=f\r\n\r\n" + b"x" * 1_000_000
    answer = request(
        site.url("shop", way, "/files"),
        method="POST",
        body=content + b"\r\n--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert json.loads(answer.body) == {"size": 1_000_000}
    assert json.loads(site.get("shop", way, "/env").body) == {"greeting": f"hello from {way}"}


@every_way
def test_background_task_runs_after_its_response(site: Site, way: str) -> None:
    assert request(site.url("shop", way, "/mail/ada"), method="POST").status == 202
    eventually(lambda: "ada" in json.loads(site.get("shop", way, "/mail").body))


@every_way
async def test_websocket_echoes_until_it_is_closed(site: Site, way: str) -> None:
    url = site.url("shop", way, "/chat")
    async with aiohttp.ClientSession() as session, session.ws_connect(url, protocols=["chat"]) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hi")
        assert await socket.receive_str() == "echo hi"
        await socket.close(code=4000)
    log = f"shop-{way}"
    await asyncio.to_thread(eventually, lambda: "chat closed with 4000" in site.msctl.ok("logs", log))


@every_way
def test_client_of_websockets_agrees_on_compression(site: Site, way: str) -> None:
    url = site.url("shop", way, "/chat").replace("http", "ws", 1)
    talk = subprocess.run(
        [BIN / "python", HERE / "talk.py", url], capture_output=True, text=True, check=False, timeout=60
    )
    assert talk.stdout == "permessage-deflate\n", talk.stderr


@pytest.mark.parametrize("name", ["shop", "board"])
@every_way
def test_failure_is_the_frameworks_500_and_its_traceback_in_the_log(site: Site, name: str, way: str) -> None:
    answer = site.get(name, way, "/fail")
    assert (answer.status, b"Internal Server Error" in answer.body) == (500, True)
    what = {"shop": "the shop burns", "board": "the board breaks"}[name]
    eventually(lambda: f"RuntimeError: {what}" in site.msctl.ok("logs", f"{name}-{way}"))


@every_way
def test_flask_keeps_a_session_reads_bodies_and_streams(site: Site, way: str) -> None:
    first = site.get("board", way, "/")
    cookie = SimpleCookie(field(first, "set-cookie"))["session"]
    again = site.get("board", way, "/", headers={"Cookie": f"session={cookie.value}"})
    assert (first.body, again.body) == (b"visit 1\n", b"visit 2\n")
    size = request(site.url("board", way, "/size"), method="POST", body=b"x" * 1_000_000)
    assert size.body == b"1000000\n"
    assert site.get("board", way, "/lines").body == b"0\n1\n2\n"
    assert json.loads(site.get("board", way, "/users/7").body) == {"id": 7}


@every_way
def test_starlette_knows_the_prefix_that_it_is_reached_by(site: Site, way: str) -> None:
    star = json.loads(site.get("stars", way, "/stars/sun").body)
    assert star["url"].endswith(f"/stars-{way}/stars/sun")
    assert b"Starlette with a mount" in site.get("stars", way, "/files/site_of_stars.py").body
    packed = site.get("stars", way, "/", headers={"Accept-Encoding": "gzip"})
    assert field(packed, "content-encoding") == "gzip"


@every_way
async def test_litestar_serves_http_and_websockets(site: Site, way: str) -> None:
    mars = await asyncio.to_thread(site.get, "planet", way, "/planets/mars?moons=2")
    assert json.loads(mars.body) == {"name": "mars", "moons": 2}
    async with aiohttp.ClientSession() as session:
        async with session.post(
            site.url("planet", way, "/moons"), json={"name": "io", "radius": 1821}
        ) as made:
            assert (made.status, await made.json()) == (201, {"name": "io", "radius": 1821})
        async with session.ws_connect(site.url("planet", way, "/talk")) as socket:
            await socket.send_str("hi")
            assert await socket.receive_str() == "HI"


@pytest.mark.parametrize("name", ["polls-asgi", "polls-wsgi"])
@every_way
def test_django_polls_take_a_vote(site: Site, name: str, way: str) -> None:
    assert site.get(name, way, "/polls/").body == b"What's new?"
    detail = site.get(name, way, "/polls/1/")
    choice = json.loads(detail.body)
    before = json.loads(site.get(name, way, "/polls/1/results/").body)["The sky"]
    token = SimpleCookie(field(detail, "set-cookie"))["csrftoken"].value
    form = {"choice": choice["choices"]["The sky"], "csrfmiddlewaretoken": choice["token"]}
    vote = request(
        site.url(name, way, "/polls/1/vote/"),
        method="POST",
        body=urlencode(form).encode(),
        headers={"Cookie": f"csrftoken={token}", "Content-Type": "application/x-www-form-urlencoded"},
    )
    assert vote.status == 302
    assert field(vote, "location").endswith("/polls/1/results/")
    assert json.loads(site.get(name, way, "/polls/1/results/").body)["The sky"] == before + 1
    assert request(site.url(name, way, "/polls/1/vote/"), method="POST", body=b"choice=1").status == 403


@pytest.mark.parametrize("way", ["hosted", "isolated"])
def test_lifespan_ends_with_the_service(site: Site, way: str) -> None:
    site.msctl.ok("restart", f"shop-{way}")
    log = site.msctl.ok("logs", f"shop-{way}", "-n", "1000")
    assert log.count("shop opens") == log.count("shop closes") + 1
    assert site.get("shop", way, "/").status == 200


def test_documents_of_all_services_are_one(site: Site) -> None:
    document = json.loads(request(f"http://127.0.0.1:{site.port}/openapi.json").body)
    for way in WAYS:
        assert set(document["paths"][f"/shop-{way}/items/{{item_id}}"]) == {"get"}
        assert f"shop-{way}.Item" in document["components"]["schemas"]
        assert "404" in document["x-msctl-left-out"][f"board-{way}"]
