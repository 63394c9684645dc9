"""`msctl reload` and `up --watch`: an edited project is taken up by the stack that runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.course import Course
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.support.waiting import eventually

APP = """
import os
from aiohttp import web
from words import WORD

async def say(request):
    return web.Response(text=WORD + os.environ.get("NOTHING", ""))

def create_app():
    app = web.Application()
    app.router.add_get("/{{name}}", say)
    return app
"""
SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        # In one write: a program that is ended by SIGTERM between two would break its answer off.
        body = os.environ["WORD"]
        head = f"HTTP/1.1 200 OK\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
        self.wfile.write((head + body).encode())
        self.close_connection = True
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
def own(course: Course) -> Course:
    """The course's fixture for a test that writes a project of its own."""
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    put(course, "app.py", APP.replace("{{", "{").replace("}}", "}"))
    put(course, "words.py", 'WORD = "old"\n')
    put(course, "server.py", SERVER)
    return course


def put(course: Course, name: str, text: str) -> None:
    (course.msctl.folder / name).write_text(text)


def write(course: Course, *services: str) -> None:
    put(course, "msctl.toml", "\n".join(services))


def hosted(name: str, *more: str) -> str:
    return "\n".join([f"[services.{name}]", 'app = "app:create_app"', f'routes = ["/{name}"]', *more])


def command(name: str, word: str, *more: str) -> str:
    argv = 'command = ["python3", "server.py"]'
    return "\n".join(
        [f"[services.{name}]", argv, f'env = {{ WORD = "{word}" }}', f'routes = ["/{name}"]', *more]
    )


def said(course: Course, path: str) -> tuple[int, bytes]:
    answer = request(course.url(path))
    return answer.status, answer.body


def instances(course: Course) -> dict[str, tuple[Any, ...]]:
    """What tells one start of a service from another."""
    return {
        s["name"]: (s["state"], [(i["pid"], i["restarts"]) for i in s["instances"]])
        for s in course.msctl.status()["services"]
    }


@contextmanager
def asking(course: Course, path: str) -> Iterator[list[tuple[int, bytes]]]:
    """Ask again and again, until the end; what was answered."""
    answers: list[tuple[int, bytes]] = []
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answers.append(said(course, path))
            except OSError as error:
                answers.append((0, repr(error).encode()))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def test_an_edited_route_is_taken_up_and_nothing_restarts(own: Course) -> None:
    write(own, hosted("a"), command("b", "b"))
    own.msctl.ok("up", "-d")
    before = instances(own)
    assert own.msctl.ok("reload") == "nothing has changed\n"
    write(own, hosted("a").replace('"/a"', '"/other"'), command("b", "b"))
    assert own.msctl.ok("reload") == "updated a, the gateway\n"
    assert said(own, "/other") == (200, b"old")
    assert said(own, "/a")[0] == 404
    assert instances(own) == before


def test_a_typo_changes_nothing_and_is_told_with_its_line(own: Course) -> None:
    write(own, hosted("a"))
    own.msctl.ok("up", "-d")
    write(own, hosted("a", "prot = 1"), hosted("b"))
    refused = own.msctl.run("reload")
    assert refused.returncode == 2
    assert "msctl.toml:4: services.a.prot" in refused.stderr
    assert set(own.msctl.states()) == {"a", "gateway"}
    assert said(own, "/a") == (200, b"old")


def test_services_come_and_go_and_one_may_take_the_others_port(own: Course) -> None:
    with reserved_port() as port:
        write(own, hosted("a"), command("b", "b", f"port = {port}"))
        own.msctl.ok("up", "-d")
        before = instances(own)["a"]
        write(own, hosted("a"), command("c", "c", f"port = {port}"), hosted("d"))
        done = json.loads(own.msctl.ok("reload", "--json"))["data"]
        assert (done["added"], done["removed"], done["restarted"]) == (["c", "d"], ["b"], [])
        assert said(own, "/c") == (200, b"c")
        assert said(own, "/d") == (200, b"old")
        assert said(own, "/b")[0] == 404
        assert own.msctl.states() == dict.fromkeys(("a", "c", "d", "gateway"), "ready")
        assert instances(own)["a"] == before


def test_new_code_takes_over_without_a_failed_request_and_broken_code_does_not(own: Course) -> None:
    write(own, hosted("a"), hosted("b", 'isolation = "process"'), command("c", "old"))
    own.msctl.ok("up", "-d")
    with asking(own, "/a") as hosted_answers, asking(own, "/b") as isolated_answers:
        put(own, "words.py", "raise RuntimeError('broken words')\n")
        failed = own.msctl.run("reload")
        assert failed.returncode == 1
        assert "a was not updated: RuntimeError: broken words" in failed.stderr
        assert "b was not updated" in failed.stderr
        assert own.msctl.states() == dict.fromkeys(("a", "b", "c", "gateway"), "ready")
        assert set(hosted_answers) == {(200, b"old")}
        put(own, "words.py", 'WORD = "new"\n')
        assert own.msctl.ok("reload") == "restarted a, b\n"
        assert said(own, "/a") == said(own, "/b") == (200, b"new")
    for answers in (hosted_answers, isolated_answers):
        assert set(answers) <= {(200, b"old"), (200, b"new")}
        assert answers[0] == (200, b"old")


def test_a_command_is_succeeded_beside_where_its_port_is_free_to_choose(own: Course) -> None:
    write(own, command("c", "old"))
    own.msctl.ok("up", "-d")
    with asking(own, "/c") as answers:
        write(own, command("c", "new"))
        assert own.msctl.ok("reload") == "restarted c\n"
        assert said(own, "/c") == (200, b"new")
        write(own, command("c", "newer").replace("server.py", "nowhere.py"))
        failed = own.msctl.run("reload")
        assert failed.returncode == 1
        assert "c was not updated" in failed.stderr
        assert said(own, "/c") == (200, b"new")
    assert set(answers) == {(200, b"old"), (200, b"new")}
    assert own.msctl.states()["c"] == "ready"


def test_a_replaced_command_first_answers_the_request_it_has(own: Course) -> None:
    """Also a program that ends at once when it is told to stop."""
    asked = "print('asked', self.path, flush=True)\n        self.path == '/c/slow' and open('go').read()"
    put(own, "server.py", SERVER.replace("do_GET(self):", f"do_GET(self):\n        {asked}"))
    os.mkfifo(own.msctl.folder / "go")
    go = os.open(own.msctl.folder / "go", os.O_RDWR)
    write(own, command("c", "old"))
    own.msctl.ok("up", "-d")
    answers: list[tuple[int, bytes]] = []
    slow = threading.Thread(target=lambda: answers.append(said(own, "/c/slow")))
    slow.start()
    with own.msctl.process("logs", "-f", "c") as logs:
        logs.line("stdout", "asked /c/slow")
    write(own, command("c", "new"))
    with own.msctl.process("reload") as reload:
        eventually(lambda: said(own, "/c") == (200, b"new"))
        os.close(go)
        assert reload.wait() == 0
    slow.join()
    assert answers == [(200, b"old")]


@pytest.mark.parametrize("verb", ["reload", "restart"])
def test_connections_that_replaced_modules_opened_are_closed(own: Course, verb: str) -> None:
    """A consumer among them would go on taking messages that nobody handles."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(30)
        opened = "import socket\nclass Client: pass\nclient = Client()\nclient.me = client\n"
        opened += f"client.connection = socket.create_connection({server.getsockname()})\nWORD = "
        put(own, "words.py", opened + "'old'\n")
        write(own, hosted("a"))
        own.msctl.ok("up", "-d")
        first, _ = server.accept()
        with first:
            put(own, "words.py", opened + "'new'\n")
            own.msctl.ok(verb)
            assert said(own, "/a") == (200, b"new")
            first.settimeout(30)
            assert first.recv(1) == b""
            second, _ = server.accept()
            with second:
                second.setblocking(False)
                with pytest.raises(BlockingIOError):
                    second.recv(1)


def test_a_command_with_a_declared_port_is_started_again_as_it_was_if_the_new_one_fails(own: Course) -> None:
    with reserved_port() as port:
        write(own, command("c", "old", f"port = {port}"))
        own.msctl.ok("up", "-d")
        write(own, command("c", "new", f"port = {port}").replace("server.py", "nowhere.py"))
        assert own.msctl.run("reload").returncode == 1
        own.msctl.ok("wait", "c", "--timeout", "30s")
        assert said(own, "/c") == (200, b"old")
        write(own, command("c", "new", f"port = {port}"))
        assert own.msctl.ok("reload") == "restarted c\n"
        assert said(own, "/c") == (200, b"new")


def test_a_stack_can_be_stopped_while_a_reload_waits_for_what_never_becomes_ready(own: Course) -> None:
    write(own, hosted("a", 'isolation = "process"'), command("c", "c"))
    own.msctl.ok("up", "-d")
    never = 'command = ["sleep", "600"]\nroutes = ["/c"]\n'
    write(own, hosted("a", 'isolation = "process"', 'health = "/nothing/here"'), "[services.c]", never)
    with own.msctl.process("logs", "-f", "a", "-n", "0") as logs, own.msctl.process("reload") as reload:
        put(own, "words.py", 'print("begun", flush=True)\nWORD = "new"\n')
        with own.msctl.process("reload") as second:
            logs.line("stdout", "begun")
            assert said(own, "/a") == (200, b"old")
            own.msctl.ok("stop", "c")
            assert own.msctl.states()["c"] == "stopped"
            own.msctl.ok("down", "--timeout", "5s")
            assert reload.wait() == 3
            assert second.wait() == 3


def test_reloads_wait_for_each_other(own: Course) -> None:
    write(own, hosted("a"), command("c", "c"))
    own.msctl.ok("up", "-d")
    put(own, "words.py", 'WORD = "new"\n')
    with own.msctl.process("reload") as one, own.msctl.process("reload") as two:
        outputs = sorted(process.child.communicate(timeout=60)[0] for process in (one, two))
    assert outputs == [b"nothing has changed\n", b"restarted a\n"]


def test_what_had_failed_is_started_once_it_is_right(own: Course) -> None:
    write(own, hosted("a").replace("app:", "nowhere:"), hosted("b", 'depends_on = ["a"]'))
    with own.msctl.process("up") as up:
        up.line("stderr", "b ")
        assert own.msctl.states() == {"a": "fatal", "b": "skipped", "gateway": "ready"}
        write(own, hosted("a"), hosted("b", 'depends_on = ["a"]'))
        assert "restarted a" in own.msctl.ok("reload")
        assert said(own, "/b") == (200, b"old")
        up.signal()
        assert up.wait() == 0


def test_the_gateway_moves_and_a_taken_port_is_refused_before_anything_changes(own: Course) -> None:
    gateway = "[gateway]\nport = {}\n"
    del own.msctl.env["MSCTL_GATEWAY_PORT"]
    with reserved_port() as other:
        write(own, hosted("a"), gateway.format(own.gateway))
        own.msctl.ok("up", "-d")
        write(own, hosted("a"), hosted("b"), gateway.format(other))
        with socket.socket() as holder:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            holder.bind(("127.0.0.1", other))
            holder.listen()
            assert own.msctl.run("reload").returncode == 5
            assert set(own.msctl.states()) == {"a", "gateway"}
            assert said(own, "/a") == (200, b"old")
        assert own.msctl.ok("reload").splitlines() == ["added b", "restarted gateway", "updated the gateway"]
        assert request(f"http://127.0.0.1:{other}/b").status == 200
        with pytest.raises(OSError, match="refused"):
            said(own, "/a")


def test_an_edited_broker_or_name_is_refused_whole(own: Course) -> None:
    del own.msctl.env["MSCTL_BROKER_MODE"]
    broker = '[broker]\nmode = "{}"'
    first = (hosted("a"), broker.format("external"))
    write(own, *first)
    own.msctl.ok("up", "-d")
    write(own, hosted("a"), hosted("b"), broker.format("embedded"))
    refused = own.msctl.run("reload")
    assert refused.returncode == 2
    assert "broker.mode was edited" in refused.stderr
    assert "msctl down" in refused.stderr
    assert set(own.msctl.states()) == {"a", "gateway"}
    write(own, *first, '[project]\nname = "other"')
    refused = own.msctl.run("--project", own.msctl.folder.name, "reload")
    assert refused.returncode == 2
    assert "project 'other'" in refused.stderr
    write(own, *first)


def test_measures_and_the_access_log_follow_a_reload(own: Course) -> None:
    write(own, hosted("a"), "[gateway]\naccess_log_sample = 0\n")
    own.msctl.ok("up", "-d")

    def metrics() -> list[str]:
        return request(f"{own.msctl.status()['dashboard'].rstrip('/')}/metrics").body.decode().splitlines()

    limited = 'msctl_gateway_ratelimited_total{http_route="/new"} 0.0'
    assert said(own, "/a") == (200, b"old")
    assert limited not in metrics()
    assert "GET /a 200" not in own.msctl.ok("logs", "gateway")
    route = '{ path = "/new", rewrite = "/a", rate_limit = { requests = 1000 } }'
    write(own, hosted("a").replace('"/a"', route), "[gateway]\naccess_log_sample = 1\n")
    assert own.msctl.ok("reload") == "updated a, the gateway\n"
    assert limited in metrics()
    assert said(own, "/new") == (200, b"old")
    served = [line for line in metrics() if line.startswith("http_server_request_duration_seconds_count")]
    assert [line for line in served if 'http_route="/new"' in line and 'service="a"' in line]
    assert [line for line in served if 'http_route="/a"' in line]
    assert "GET /new 200" in own.msctl.ok("logs", "gateway")


def test_keys_of_a_route_are_found_in_the_env_file_and_exchanged_by_a_reload(own: Course) -> None:
    secret, other = "s3cret-of-16-bytes", "an0ther-one-as-long"
    write(own, hosted("a").replace('"/a"', '{ path = "/a", api_key = { env = "SHOP_KEYS" } }'))
    for unusable in ("", "SHOP_KEYS=me=\n", "SHOP_KEYS=me=sh0rt\n"):
        put(own, ".env", unusable)
        refused = own.msctl.run("up", "-d")
        assert refused.returncode == 2
        assert "SHOP_KEYS" in refused.stderr
        assert "api_key.env" in refused.stderr
        assert "sh0rt" not in refused.stderr

    def statuses() -> list[int]:
        keys = ({}, *({"X-API-Key": key} for key in (secret, other)))
        return [request(own.url("/a"), headers=headers).status for headers in keys]

    put(own, ".env", f"SHOP_KEYS=me={secret}\n")
    own.msctl.ok("up", "-d")
    assert statuses() == [401, 200, 401]
    put(own, ".env", f"SHOP_KEYS=me={other}\n")
    assert own.msctl.ok("reload") == "updated the gateway\n"
    assert statuses() == [401, 401, 200]
    put(own, ".env", "")
    refused = own.msctl.run("reload")
    assert refused.returncode == 2
    assert "SHOP_KEYS" in refused.stderr
    assert statuses() == [401, 401, 200]
    put(own, ".env", f"SHOP_KEYS=me={other}\n")
    for arguments in (
        ("config",),
        ("config", "--json"),
        ("config", "--explain"),
        ("status", "--json"),
        ("routes", "--json"),
        ("route", "GET", "/a", "--json"),
        ("graph", "--format", "json"),
        ("doctor",),
        ("logs",),
        *(("export", kind, "--stdout") for kind in ("compose", "kubernetes", "nginx", "procfile")),
    ):
        done = own.msctl.run(*arguments)
        assert done.stdout, arguments
        assert other not in done.stdout + done.stderr, arguments


def test_a_gateway_alone_finds_its_keys_in_the_env_file(own: Course) -> None:
    write(own, hosted("a").replace('"/a"', '{ path = "/a", api_key = { env = "SHOP_KEYS" } }'))
    put(own, ".env", "SHOP_KEYS=k3y-of-at-least-16-bytes\n")
    with_key = {"X-API-Key": "k3y-of-at-least-16-bytes"}
    with own.msctl.process("serve", "gateway", "--port", str(own.gateway)) as serving:
        while serving.child.poll() is None:
            try:
                answers = [request(own.url("/a"), headers=headers).status for headers in ({}, with_key)]
            except OSError:
                continue
            assert answers == [401, 503]
            serving.signal(signal.SIGTERM)
            assert serving.wait() == 0
            break
        else:
            raise AssertionError("the gateway ended by itself")


def test_watching_takes_up_edits_by_itself_and_says_what_is_wrong(own: Course) -> None:
    write(own, hosted("a"))
    with own.msctl.process("up", "--watch") as up:
        up.line("stderr", "gateway")
        put(own, "words.py", 'WORD = "newer"\n')
        up.line("stdout", "reloaded: restarted a")
        assert said(own, "/a") == (200, b"newer")
        write(own, hosted("a", "prot = 1"))
        up.line("stdout", "not reloaded: msctl.toml:4: services.a.prot")
        write(own, hosted("a"), hosted("b"))
        up.line("stdout", "reloaded: added b")
        assert said(own, "/b") == (200, b"newer")
        put(own, "words.py", "WORD = (\n")
        up.line("stdout", "reload of a failed: SyntaxError")
        assert said(own, "/a") == (200, b"newer")
        up.signal()
        assert up.wait() == 0
