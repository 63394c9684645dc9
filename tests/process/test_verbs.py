"""The verbs beside up and down, each as its user runs it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.course import Course
from tests.support.http import Answer, request


@pytest.fixture
def own(course: Course) -> Course:
    """The course's fixture for a test that writes a msctl.toml of its own."""
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    return course


def write(course: Course, text: str) -> None:
    (course.msctl.folder / "msctl.toml").write_text(text)


def test_wait_returns_when_the_services_are_ready_and_when_they_have_stopped(running: Course) -> None:
    running.msctl.ok("wait", "hello", "users", "--timeout", "30s")
    with running.msctl.process("wait", "users", "--for", "stopped") as waiting:
        running.msctl.ok("stop", "users")
        assert waiting.wait() == 0


def test_wait_gives_up_in_time_and_says_who_is_missing(running: Course) -> None:
    running.msctl.ok("stop", "users")
    late = running.msctl.run("wait", "users", "hello", "--timeout", "200ms")
    assert late.returncode == 124
    assert "users" in late.stderr
    assert "hello" not in late.stderr


def test_wait_ends_at_once_when_a_service_cannot_become_ready(own: Course) -> None:
    write(own, '[services.broken]\napp = "nowhere:app"\n[gateway]\nenabled = false\n')
    with own.msctl.process("up") as up:
        up.line("stderr", "broken")
        lost = own.msctl.run("wait", "broken")
        assert lost.returncode == 3
        assert "nowhere" in lost.stderr
        up.signal()
        assert up.wait() == 0


def test_wait_for_a_stopped_service_is_an_error_that_says_how_to_start_it(running: Course) -> None:
    lost = running.msctl.run("wait", "consumer")
    assert lost.returncode == 3
    assert "'consumer' is stopped" in lost.stderr
    assert "msctl start consumer" in lost.stderr
    late = running.msctl.run("wait", "consumer", "--timeout", "100ms")
    assert late.returncode == 124
    assert "msctl start consumer" in late.stderr


def test_wait_without_a_limit_outlasts_the_start_of_the_stack(course: Course) -> None:
    course.msctl.ok("up", "-d", "--no-wait")
    course.msctl.ok("wait", "users", "hello")


def test_events_begin_with_what_is_and_go_on_with_what_changes(running: Course) -> None:
    with running.msctl.process("events", "--json") as events:
        first = json.loads(events.line("stdout", '"users"'))
        assert (first["schema"], first["kind"]) == (1, "event")
        assert (first["data"]["service"], first["data"]["state"]) == ("users", "ready")
        running.msctl.ok("stop", "users")
        events.line("stdout", '"stopped"')
        events.signal()
        assert events.wait() == 0


def test_events_are_text_for_people_and_end_with_the_stack(course: Course) -> None:
    course.msctl.ok("up", "-d")
    with course.msctl.process("events") as events:
        events.line("stdout", "hello-1 ready")
        course.msctl.ok("down")
        assert events.wait() == 0


def test_graph_shows_routes_and_dependencies_in_three_forms(own: Course) -> None:
    write(
        own,
        '[services.a]\ncommand = "sleep 1"\nroutes = ["/a"]\ndepends_on = ["b"]\n'
        '[services.b]\ncommand = "sleep 1"\n',
    )
    tree = own.msctl.ok("graph")
    assert "/a → a" in tree
    assert "needs b ready" in tree
    assert own.msctl.ok("graph", "--format", "mermaid").startswith("flowchart LR\n")
    data = json.loads(own.msctl.ok("graph", "--format", "json"))["data"]
    assert {"source": "a", "target": "b", "kind": "depends_on", "label": "ready"} in data["edges"]


def test_ls_lists_the_stacks_that_run_and_an_isolated_copy_stands_beside_the_first(course: Course) -> None:
    assert course.msctl.ok("ls", "-q") == ""
    course.msctl.env["MSCTL_BROKER_MODE"] = "auto"
    course.msctl.ok("up", "-d")
    course.msctl.ok("up", "-d", "--isolated")
    names = course.msctl.ok("ls", "-q").split()
    assert names[0] == "course"
    assert len(names) == 2
    copy = names[1]
    try:
        records = json.loads(course.msctl.ok("ls", "--json"))["data"]
        assert [record["project"] for record in records] == names
        assert "guest:guest" not in course.msctl.ok("ls", "--json")
        assert not set(records[0]["addresses"]) & set(records[1]["addresses"])
        assert "127.0.0.1" in course.msctl.ok("ls")
        course.msctl.ok("--project", copy, "send", "for the copy")
        assert (
            course.msctl.ok("--project", copy, "consume", "-n", "1") == "Received a message: for the copy\n"
        )
    finally:
        course.msctl.ok("--project", copy, "down")
    assert course.msctl.ok("ls", "-q").split() == ["course"]


def test_doctor_finds_what_keeps_the_project_from_running(course: Course) -> None:
    checks = {f["check"]: f for f in json.loads(course.msctl.ok("doctor", "--json"))["data"]}
    assert checks["configuration"]["verdict"] == "ok"
    assert checks["broker"]["verdict"] == "note"
    assert "python" in course.msctl.ok("doctor")

    import socket

    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", course.users))
        holder.listen()
        failed = course.msctl.run("doctor")
        assert failed.returncode == 1
        assert f"pid {os.getpid()}" in failed.stdout


def test_doctor_finds_missing_programs(own: Course) -> None:
    (own.msctl.folder / "tool").write_text("#!/bin/sh\n")
    write(
        own,
        '[services.a]\ncommand = "no-such-program-here --port $PORT"\n'
        '[services.b]\ncommand = "./tool"\n[services.c]\ncommand = "sh -c true"\n'
        '[services.d]\ncommand = "neither-this"\nautostart = false\n[services.e]\ncommand = "$TOOL x"\n',
    )
    failed = own.msctl.run("doctor", "--json")
    assert failed.returncode == 1
    checks = {f["check"]: f for f in json.loads(failed.stdout)["data"]}
    verdicts = {name.split()[-1]: f["verdict"] for name, f in checks.items() if name.startswith("program")}
    assert verdicts == {"no-such-program-here": "fail", "./tool": "fail", "sh": "ok", "neither-this": "note"}
    assert "'a'" in checks["program no-such-program-here"]["detail"]


def test_programs_of_an_environment_that_is_not_activated_are_pointed_to(own: Course) -> None:
    folder = own.msctl.folder / ".venv/bin"
    folder.mkdir(parents=True)
    (own.msctl.folder / "web").mkdir()
    for name in ("no-such-server", "sh"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    write(
        own,
        '[services.a]\ncommand = "no-such-server"\ncwd = "web"\n[services.b]\ncommand = "sh -c true"\n'
        '[services.c]\ncommand = ".venv/bin/sh"\n',
    )
    checks = {f["check"]: f for f in json.loads(own.msctl.run("doctor", "--json").stdout)["data"]}
    missing, other, right = (checks[f"program {name}"] for name in ("no-such-server", "sh", ".venv/bin/sh"))
    assert (missing["verdict"], other["verdict"], right["verdict"]) == ("fail", "note", "ok")
    assert "../.venv/bin/no-such-server" in missing["detail"]
    assert ".venv/bin/sh" in other["advice"]


def test_doctor_names_an_error_in_the_file(own: Course) -> None:
    write(own, "[services.x]\nprot = 1\n")
    failed = own.msctl.run("doctor", "--json")
    assert failed.returncode == 1
    checks = {f["check"]: f for f in json.loads(failed.stdout)["data"]}
    assert "msctl.toml:2" in checks["configuration"]["detail"]


def test_init_writes_a_project_that_runs_and_overwrites_nothing(own: Course) -> None:
    own.msctl.ok("init")
    assert "[services.hello]" in (own.msctl.folder / "msctl.toml").read_text()
    refused = own.msctl.run("init")
    assert refused.returncode == 2
    assert "msctl.toml" in refused.stderr
    own.msctl.ok("init", "--force")
    inner = own.msctl.folder / "a" / "b"
    inner.mkdir(parents=True)
    own.msctl.env["MSCTL_HELLO_PORT"] = str(own.gateway)
    own.msctl.env["MSCTL_USERS_PORT"] = str(own.users)
    own.msctl.folder = inner
    own.msctl.ok("up", "-d")
    assert request(own.url("/hello")).status == 200
    assert own.msctl.status()["root"] == str(inner.parents[1])


def test_init_of_an_unknown_example_writes_nothing(own: Course) -> None:
    refused = own.msctl.run("init", "new", "--example", "shpo")
    assert refused.returncode == 2
    assert "shop" in refused.stderr
    assert not (own.msctl.folder / "new").exists()


def test_config_explains_where_each_value_came_from(course: Course) -> None:
    lines = course.msctl.ok("config", "--explain").splitlines()
    line = next(line for line in lines if line.startswith("services.users.port"))
    assert "MSCTL_USERS_PORT" in line
    assert json.loads(course.msctl.ok("config", "--explain", "--json"))["data"]


def test_the_embedded_brokers_queues_are_listed_purged_and_deleted(course: Course) -> None:
    course.msctl.env["MSCTL_BROKER_MODE"] = "auto"
    course.msctl.ok("up", "-d")
    course.msctl.ok("send", "--queue", "q", "-n", "3", "x")
    listed = json.loads(course.msctl.ok("queues", "--json"))["data"]
    assert [(q["name"], q["ready"]) for q in listed if q["name"] == "q"] == [("q", 3)]
    assert "q" in course.msctl.ok("queues")
    assert "q" in course.msctl.ok("status")
    assert "3 messages" in course.msctl.ok("queues", "purge", "q")
    course.msctl.ok("queues", "delete", "q")
    assert course.msctl.run("queues", "purge", "q").returncode == 6


def test_queues_of_a_broker_that_is_away_are_exit_code_6(running: Course) -> None:
    for arguments in (("purge", "q"), ("delete", "q"), ("move", "q", "r"), ("peek", "q"), ("declare", "q")):
        refused = running.msctl.run("queues", *arguments)
        assert refused.returncode == 6, arguments
        assert str(running.broker) in refused.stderr
    # Whatever answers on port 15672 of this machine is no broker of this project's.
    assert running.msctl.run("queues").returncode == 6


def test_an_operator_looks_into_queues_and_moves_messages(course: Course) -> None:
    msctl = course.msctl
    msctl.env |= {"MSCTL_BROKER_MODE": "auto", "MSCTL_BROKER_MANAGEMENT_PORT": "0"}
    msctl.ok("up", "-d")
    dead = ("--argument", "x-dead-letter-exchange=", "--argument", "x-dead-letter-routing-key=dead")
    msctl.ok("queues", "declare", "a", *dead)
    msctl.ok("queues", "declare", "dead", "--durable", "--bind", "amq.topic:orders.*")
    for text in ("one", "two"):
        msctl.ok("send", text, "--queue", "a", "--property", "correlation-id=7")
    peeked = json.loads(msctl.ok("queues", "peek", "a", "--json"))["data"]
    assert [one["body"] for one in peeked] == ["one", "two"]
    assert "one" in msctl.ok("queues", "peek", "a", "-n", "1")
    bound = json.loads(msctl.ok("queues", "bindings", "dead", "--json"))["data"]
    assert {"queue": "dead", "exchange": "amq.topic", "routing_key": "orders.*", "arguments": {}} in bound

    msctl.ok("consume", "--queue", "a", "-n", "2", "--ack", "reject")
    assert "2 messages to queue 'a'" in msctl.ok("queues", "requeue", "dead")
    assert "1 message to queue 'dead'" in msctl.ok("queues", "move", "a", "dead", "-n", "1")
    moved = json.loads(msctl.ok("consume", "--queue", "dead", "-n", "1", "-o", "json"))
    assert moved["body"] == "one"
    assert moved["properties"]["correlation_id"] == "7"
    assert "x-death" not in str(moved)
    assert "1 message stayed" in msctl.ok("queues", "requeue", "a")
    assert msctl.run("queues", "move", "a", "nowhere").returncode == 6
    assert msctl.run("queues", "move", "a", "a").returncode == 2
    assert msctl.run("queues", "declare", "a", "--durable").returncode == 6


def test_a_port_that_the_broker_needs_is_named_with_its_holder(course: Course) -> None:
    import socket

    course.msctl.env["MSCTL_BROKER_MODE"] = "embedded"
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", course.broker))
        holder.listen()
        refused = course.msctl.run("up", "-d")
        assert refused.returncode == 5
        assert f"pid {os.getpid()}" in refused.stderr
    assert course.msctl.run("status").returncode == 3


def test_stack_without_services_and_gateway_starts(own: Course) -> None:
    write(own, "[gateway]\nenabled = false\n")
    assert "broker" in own.msctl.ok("up", "-d")
    assert "Traceback" not in own.msctl.run("up", "-d").stderr


def test_without_a_container_engine_the_docker_broker_is_refused_with_a_way_out(course: Course) -> None:
    course.msctl.env["MSCTL_BROKER_MODE"] = "docker"
    course.msctl.env["PATH"] = "/nonexistent"
    refused = course.msctl.run("up", "-d")
    assert refused.returncode == 6
    assert "auto" in refused.stderr
    assert course.msctl.run("status").returncode == 3


def test_logs_are_filtered_by_time_and_text_and_written_as_json(running: Course) -> None:
    line = json.loads(running.msctl.ok("logs", "producer", "-n", "1", "--json"))
    assert line["data"]["service"] == "producer"
    running.msctl.ok("stop", "producer")  # it would go on to say that there is no broker
    assert running.msctl.ok("logs", "--grep", "no such text anywhere") == ""
    assert running.msctl.ok("logs", "--since", "1h") == running.msctl.ok("logs")
    assert running.msctl.run("logs", "--grep", "(").returncode == 2
    assert running.msctl.run("logs", "--since", "yesterday").returncode == 2
    assert running.msctl.run("logs", "-n", "-1").returncode == 2


def test_an_isolated_service_is_scaled_over_processes_that_share_its_route(own: Course) -> None:
    (own.msctl.folder / "app.py").write_text(
        "import os\nfrom aiohttp import web\n"
        "async def pid(request):\n    return web.Response(text=str(os.getpid()))\n"
        "def create_app():\n    app = web.Application()\n"
        "    app.router.add_get('/pid', pid)\n    return app\n"
    )
    write(
        own,
        '[services.pid]\napp = "app:create_app"\nisolation = "process"\nroutes = ["/pid"]\n'
        f"[gateway]\nport = {own.gateway}\n",
    )
    own.msctl.ok("up", "-d")
    own.msctl.ok("scale", "pid=2")
    seen: set[bytes] = set()
    while len(seen) < 2:
        seen.add(request(own.url("/pid")).body)
    assert str(own.msctl.status()["pid"]).encode() not in seen
    own.msctl.ok("scale", "pid=1")
    assert len(own.msctl.status()["services"][0]["instances"]) == 1
    for wrong in ("pid", "pid=-1", "=2", "pid=x"):
        assert own.msctl.run("scale", wrong).returncode == 2
    assert own.msctl.run("scale", "pdi=2").returncode == 4


def test_serve_runs_one_service_alone_until_sigterm(course: Course) -> None:
    with course.msctl.process("serve", "users", "--port", str(course.users)) as serving:
        address = f"http://127.0.0.1:{course.users}/users"
        answered = _until_answered(address, serving.child)
        assert answered.status == 200
        serving.signal(signal.SIGTERM)
        assert serving.wait() == 0


def test_serve_runs_the_gateway_in_front_of_services_elsewhere(course: Course) -> None:
    course.msctl.env["MSCTL_USERS_URL"] = f"http://127.0.0.1:{course.users}"
    del course.msctl.env["MSCTL_HELLO_PORT"]
    with course.msctl.process("serve", "users", "--port", str(course.users)) as users:
        _until_answered(f"http://127.0.0.1:{course.users}/users", users.child)
        with course.msctl.process("serve", "gateway", "--port", str(course.gateway)) as gateway:
            assert _until_answered(course.url("/users"), gateway.child).body.startswith(b'[{"id":1')
            assert request(course.url("/hello")).status == 503


def test_a_service_elsewhere_is_used_and_shown_and_its_absence_does_not_keep_the_rest_down(
    own: Course,
) -> None:
    write(own, "[services.far]\n" + f'routes = ["/users"]\nurl = "http://127.0.0.1:{own.users}"\n')
    own.msctl.env["MSCTL_GATEWAY_PORT"] = str(own.gateway)
    started = own.msctl.ok("up", "-d")
    assert f"unhealthy  http://127.0.0.1:{own.users}: connection refused" in started
    assert request(own.url("/users")).status == 503
    refused = own.msctl.run("serve", "far", "--port", "0")
    assert refused.returncode == 1
    assert "elsewhere" in refused.stderr
    elsewhere = own.msctl.folder / "elsewhere"
    elsewhere.mkdir()
    script = "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(elsewhere), str(own.users)
    (elsewhere / "users").write_text("here")
    with subprocess.Popen([sys.executable, *script], stderr=subprocess.DEVNULL) as server:
        try:
            own.msctl.ok("wait", "far", "--timeout", "30s")
            assert request(own.url("/users")).body == b"here"
            assert own.msctl.states()["far"] == "ready"
            assert "far: stopped" in own.msctl.ok("stop", "far")
            assert request(own.url("/users")).status == 503
        finally:
            server.kill()


def test_serve_says_what_it_cannot_run(own: Course) -> None:
    assert own.msctl.run("serve", "nobody", "--port", "0").returncode == 4
    assert own.msctl.run("serve", "producer").returncode == 2
    write(own, '[services.broken]\napp = "nowhere:app"\n[services.cmd]\ncommand = "no-such-program-here"\n')
    failed = own.msctl.run("serve", "broken", "--port", "0")
    assert failed.returncode == 2
    assert "nowhere" in failed.stderr
    assert own.msctl.run("serve", "cmd").returncode == 2
    write(
        own,
        '[services.cmd]\ncommand = ["sh", "-c", "echo $PORT $GREETING; exit 7"]\nenv = { GREETING = "hi" }\n',
    )
    told = own.msctl.run("serve", "cmd", "--port", "123")
    assert (told.returncode, told.stdout) == (7, "123 hi\n")


def test_serve_fills_in_the_words_of_a_command(own: Course) -> None:
    write(
        own,
        '[services.cmd]\ncommand = "echo $PORT $${PORT}0 $GREETING $NOBODY $$$$PORT"\nenv.GREETING = "a b"\n',
    )
    assert own.msctl.ok("serve", "cmd", "--port", "123") == "123 1230 a b $NOBODY $PORT\n"


def test_status_watch_redraws_until_ctrl_c(running: Course) -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        running.msctl.command("status", "--watch", "users", "gateway"),
        cwd=running.msctl.folder,
        env={**running.msctl.env, "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as watching:
        os.close(theirs)
        _read_until(ours, b"users-1")
        running.msctl.ok("stop", "users")
        _read_until(ours, b"stopped")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 0
    os.close(ours)


FAILING = """
from aiohttp import web

async def fail(request):
    raise web.HTTPInternalServerError

def create_app():
    app = web.Application()
    app.router.add_get("/{name}", fail)
    return app
"""


def test_status_is_calm_until_a_breaker_opens_and_then_says_which(own: Course) -> None:
    (own.msctl.folder / "app.py").write_text(FAILING)
    write(
        own,
        '[services.near]\napp = "app:create_app"\nroutes = ["/near"]\n'
        '[services.far]\napp = "app:create_app"\nroutes = ["/far"]\nisolation = "process"\n'
        f'[gateway]\nport = {own.gateway}\nbreaker_failures = 2\nbreaker_open = "1h"\n'
        'breaker_cap = "1h"\nbreaker_on = ["5xx"]\n',
    )
    own.msctl.ok("up", "-d")
    assert "breaker" not in own.msctl.ok("status").lower()
    for path in ("/near", "/far"):
        assert [request(own.url(path)).status for _ in range(3)] == [500, 500, 500]
        assert f"breaker open for {path[1:]}-1, retry in 3" in own.msctl.ok("status")
    document = own.msctl.status()
    services = {service["name"]: service for service in document["services"]}
    assert {name: services[name]["state"] for name in services} == dict.fromkeys(services, "ready")
    (near,), (far,) = (services[name]["instances"] for name in ("near", "far"))
    assert (near["target"]["breaker"], near["target"]["address"]) == ("open", "in process")
    assert (far["target"]["breaker"], far["target"]["address"]) == ("open", f"http://{far['address']}")
    assert (far["target"]["in_flight"], far["target"]["pool_waiting"]) == (0, 0)
    assert 3000 < far["target"]["retry_in_s"] <= 3600
    assert services["gateway"]["instances"][0]["target"] is None
    own.msctl.ok("stop", "gateway")
    assert "breaker" not in own.msctl.ok("status")
    stopped = [one for service in own.msctl.status()["services"] for one in service["instances"]]
    assert [one["target"] for one in stopped] == [None, None, None]


def test_status_of_services_that_are_named_is_theirs_alone_with_their_instances(running: Course) -> None:
    assert "users-1" not in running.msctl.ok("status")
    assert "users-1" in running.msctl.ok("status", "--instances")
    told = running.msctl.ok("status", "us*")
    assert "users-1" in told
    assert "closed" in told
    assert "hello" not in told
    assert "broker" not in told
    assert running.msctl.ok("status", "users", "-q") == "users\n"
    found = json.loads(running.msctl.ok("status", "users", "--json"))["data"]
    assert [service["name"] for service in found["services"]] == ["users"]
    unknown = running.msctl.run("status", "usres")
    assert unknown.returncode == 4
    assert "users" in unknown.stderr


def test_route_explains_and_routes_lists(running: Course) -> None:
    listed = running.msctl.ok("routes")
    assert [line.split()[0] for line in listed.splitlines()[1:]] == ["/hello", "/users", "/messages"]
    assert len(json.loads(running.msctl.ok("routes", "--json"))["data"]) == 3
    told = running.msctl.ok("route", "get", "/users/1?x=1")
    assert running.msctl.ok("route", "/users/1?x=1") == told
    assert "users-1" in told
    found = json.loads(running.msctl.ok("route", "GET", "/nowhere", "-H", "X-A=b", "--json"))["data"]
    assert (found["route"], found["status"]) == (None, 404)
    assert running.msctl.run("route", "GET", "/x", "-H", "wrong").returncode == 2
    running.msctl.ok("stop", "users")
    assert "503" in running.msctl.ok("route", "GET", "/users")


def test_completion_knows_the_services(course: Course) -> None:
    done = course.msctl.run(
        env={"_MSCTL_COMPLETE": "complete_bash", "COMP_WORDS": "msctl stop us", "COMP_CWORD": "2"}
    )
    assert done.stdout.split() == ["users"]


def test_every_verb_has_help_and_a_wrong_one_names_the_nearest(tmp_path: Path, course: Course) -> None:
    from msctl.cli.verb_group import VERBS

    overview = course.msctl.ok("--help")
    for verb in VERBS:
        assert f" {verb} " in overview
    wrong = course.msctl.run("staus")
    assert wrong.returncode == 2
    assert "status" in wrong.stderr
    assert course.msctl.ok("--version").startswith("msctl ")


def _until_answered(url: str, child: subprocess.Popen[bytes]) -> Answer:
    """The first answer from a server that is being started."""
    while child.poll() is None:
        try:
            return request(url)
        except OSError:
            continue
    raise AssertionError(f"the server for {url} ended with {child.returncode}")


def _read_until(descriptor: int, wanted: bytes) -> None:
    seen = b""
    while wanted not in seen:
        chunk = os.read(descriptor, 65536)
        assert chunk, seen.decode(errors="replace")
        seen += chunk


def test_a_variable_that_sets_nothing_is_warned_of(course: Course) -> None:
    course.msctl.env["MSCTL_GATEWAY_PROT"] = "1"
    for verb in (("config", "--explain"), ("up", "-d")):
        done = course.msctl.run(*verb)
        assert done.returncode == 0
        assert "MSCTL_GATEWAY_PROT" in done.stderr
        assert "MSCTL_GATEWAY_PORT" in done.stderr


INTERRUPTED = """
import msctl.cli.app
from msctl.__main__ import main

def verb():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        print("caught")
        return 130

msctl.cli.app.main = verb
main()
"""


def test_an_interrupt_that_was_caught_exits_with_130(tmp_path: Path) -> None:
    """Also of `python -m`, which dies by signal after an interrupt in an exec()."""
    (tmp_path / "interrupted.py").write_text(INTERRUPTED)
    done = subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"caught\n", b"")
