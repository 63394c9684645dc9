"""Command services under the supervisor, with real child processes."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import aiohttp
import psutil
import pytest

from msctl.backoff import Backoff
from msctl.errors import ConfigError, PortTakenError, UsageError
from msctl.model.events import LogLine
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.service_policies import (
    Condition,
    Dependency,
    HealthSpec,
    RestartPolicy,
)
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.services import MAX_REPLICAS
from msctl.model.snapshots import State
from msctl.processes import file_limit
from tests.support.clock import settle
from tests.support.supervisor import MakeRig, Rig, alive, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.both_loops

Write = Callable[[str, str], Path]

OFTEN = HealthSpec(http="/healthz", interval=0.02, timeout=2.0, retries=3)
"""A probe that does not make a test wait."""

SERVER = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 200
        if self.path == "/healthz" and os.path.exists("sick"):
            status = 503
        body = f"{os.getpid()} {os.environ['PORT']}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def py(script: str) -> tuple[str, ...]:
    return (sys.executable, "-c", script)


def pid_of(rig: Rig, service: str) -> int:
    pid = rig.service(service).instances[0].pid
    assert pid is not None
    return pid


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.text()


async def test_a_command_without_a_probe_is_ready_while_it_runs_and_gone_after_stop(
    rig: MakeRig,
) -> None:
    one = rig(ServiceSpec("sleeper", command=("sleep", "1000")))
    await one.supervisor.start()
    assert one.states("sleeper") == [State.WAITING, State.STARTING, State.RUNNING, State.READY]
    pid = pid_of(one, "sleeper")
    assert alive(pid)
    assert os.getsid(pid) == pid
    assert one.registry.endpoints("sleeper") == ()
    await one.supervisor.stop(["sleeper"])
    assert not alive(pid)
    assert one.service("sleeper").instances[0].exit == "killed by SIGTERM"


async def test_a_service_with_a_port_is_ready_and_announced_once_it_accepts(
    rig: MakeRig,
) -> None:
    port = free_port()
    one = rig(ServiceSpec("web", command=py(SERVER), port=port))
    await one.supervisor.start()
    assert one.service("web").addresses == (f"127.0.0.1:{port}",)
    endpoint = one.registry.endpoints("web")[0]
    assert endpoint.base_url == f"http://127.0.0.1:{port}"
    assert (await get(endpoint.base_url)).endswith(str(port))
    await one.supervisor.stop(["web"])
    assert one.registry.endpoints("web") == ()


async def test_replicas_get_their_own_ports(rig: MakeRig) -> None:
    one = rig(ServiceSpec("web", command=py(SERVER), routes=(RouteSpec("/", "web"),), replicas=3))
    await one.supervisor.start()
    endpoints = one.registry.endpoints("web")
    assert len({e.base_url for e in endpoints}) == 3
    answers = [await get(e.base_url) for e in endpoints if e.base_url]
    assert len({a.split()[0] for a in answers}) == 3
    assert [i.name for i in one.service("web").instances] == ["web-1", "web-2", "web-3"]


async def test_a_service_scales_up_and_down(rig: MakeRig) -> None:
    one = rig(ServiceSpec("web", command=py(SERVER), port=0))
    await one.supervisor.start()
    first = pid_of(one, "web")
    await one.supervisor.scale({"web": 3})
    assert one.service("web").state is State.READY
    pids = [i.pid for i in one.service("web").instances]
    assert len(set(pids)) == 3
    await one.supervisor.scale({"web": 1})
    assert [i.pid for i in one.service("web").instances] == [first]
    assert len(one.registry.endpoints("web")) == 1
    assert [alive(p) for p in pids if p] == [True, False, False]
    await one.supervisor.scale({"web": 0})
    assert one.service("web").state is State.STOPPED
    assert not alive(first)
    with pytest.raises(UsageError):
        await one.supervisor.scale({"web": -1})


@pytest.mark.parametrize("count", [-1, MAX_REPLICAS + 1, 1_000_000])
async def test_a_count_outside_of_the_limits_is_refused(rig: MakeRig, count: int) -> None:
    one = rig(ServiceSpec("a", command=sh("sleep 1000")))
    with pytest.raises(UsageError, match=f"from 0 to {MAX_REPLICAS}"):
        await one.supervisor.scale({"a": count})
    assert len(one.service("a").instances) == 1


async def test_a_hosted_service_cannot_be_scaled(rig: MakeRig) -> None:
    one = rig(ServiceSpec("app", app="x:y"))
    with pytest.raises(UsageError, match="cannot be scaled") as caught:
        await one.supervisor.scale({"app": 2})
    assert caught.value.hint == 'set isolation = "process" under [services.app]'
    with pytest.raises(ConfigError, match="cannot have 2 replicas"):
        rig(ServiceSpec("app", app="x:y", replicas=2))


async def test_the_environment_has_the_addresses_of_dependencies(rig: MakeRig, tmp_path: Path) -> None:
    port = free_port()
    one = rig(
        ServiceSpec("user-store", command=py(SERVER), port=port),
        ServiceSpec(
            "show",
            command=sh(
                'echo "$USER_STORE_URL $AMQP_URL $HOST ${PORT:+port} $PYTHONUNBUFFERED $MINE $PWD"; '
                "cat; exec sleep 1000"
            ),
            depends_on=(Dependency("user-store"),),
            env={"MINE": "yes"},
            ready_log="http",
        ),
    )
    await one.supervisor.start()
    assert one.text("show") == (
        f"http://127.0.0.1:{port} amqp://guest:guest@127.0.0.1:5672/ 127.0.0.1 port 1 yes {tmp_path}"
    )


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (("no-such-program-at-all",), "command not found: no-such-program-at-all"),
        (("./missing.sh",), "command not found: ./missing.sh (searched in {root})"),
        (("./plain.txt",), "not executable: ./plain.txt (chmod +x ./plain.txt)"),
        (("./folder",), "./folder is a folder, not a program"),
    ],
)
async def test_a_command_that_cannot_start_is_fatal_at_once(
    rig: MakeRig, write: Write, tmp_path: Path, command: tuple[str, ...], reason: str
) -> None:
    write("plain.txt", "x")
    (tmp_path / "folder").mkdir()
    one = rig(ServiceSpec("bad", command=command), ServiceSpec("good", command=("sleep", "1000")))
    await one.supervisor.start()
    assert one.service("bad").state is State.FATAL
    assert one.service("bad").reason == reason.format(root=tmp_path)
    assert one.service("good").state is State.READY


async def test_a_missing_working_directory_is_the_reason(rig: MakeRig, tmp_path: Path) -> None:
    one = rig(ServiceSpec("bad", command=("true",), cwd=tmp_path / "none"))
    await one.supervisor.start()
    assert one.service("bad").reason == f"the working directory does not exist: {tmp_path / 'none'}"


async def test_a_script_without_a_first_line_runs_as_in_a_shell(rig: MakeRig, write: Write) -> None:
    write("run.sh", "echo from a script\n").chmod(0o755)
    one = rig(ServiceSpec("script", command=("./run.sh",), oneshot=True))
    await one.supervisor.start()
    assert (one.service("script").state, one.text("script")) == (State.EXITED, "from a script")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "exit 3"),
        ("kill -SEGV $$", "killed by SIGSEGV"),
        ("exit 137", "exit 137 (as a shell reports SIGKILL)"),
        ("exit 200", "exit 200"),
    ],
)
async def test_an_exit_is_described_in_words(
    rig: MakeRig, script: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.processes.checks.MIN_UPTIME_S", 60.0)  # however slow the machine is
    one = rig(ServiceSpec("x", command=sh(script), restart=RestartPolicy.NO))
    await one.supervisor.start()
    assert (one.service("x").state, one.service("x").reason) == (State.FATAL, reason)
    assert one.service("x").instances[0].exit == reason


async def test_a_crash_is_restarted_with_backoff_and_the_sixth_is_fatal(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.supervisor.policy.Backoff", partial(Backoff, first=0.001))
    monkeypatch.setattr("msctl.processes.checks.MIN_UPTIME_S", 60.0)
    one = rig(
        ServiceSpec("crash", command=sh("exit 1")),
        ServiceSpec("after", command=("sleep", "9"), depends_on=(Dependency("crash", Condition.COMPLETED),)),
    )
    await one.supervisor.start()
    assert one.service("crash").state is State.FATAL
    assert one.service("crash").reason == "exit 1, after 5 restarts"
    assert one.service("crash").restarts == 5
    backoffs = [e.reason for e in one.events if e.state is State.BACKOFF]
    assert len(backoffs) == 5
    assert backoffs[0].startswith("exit 1, retry in 0.0")
    assert one.service("after").state is State.SKIPPED
    assert one.service("after").reason == "crash failed: exit 1, after 5 restarts"


async def test_a_killed_service_comes_back_and_keeps_its_port(rig: MakeRig) -> None:
    port = free_port()
    one = rig(ServiceSpec("web", command=py(SERVER), port=port))
    await one.supervisor.start()
    first = pid_of(one, "web")
    os.kill(first, signal.SIGKILL)
    await one.until_state("web", State.BACKOFF)
    assert one.service("web").reason.startswith("killed by SIGKILL, retry in ")
    assert "killed by SIGKILL" in (one.registry.absence("web") or "")
    await one.supervisor.start(["web"])  # asked for: no need to sit out the pause
    assert one.service("web").state is State.READY
    assert pid_of(one, "web") != first
    assert (await get(f"http://127.0.0.1:{port}/")).startswith(str(pid_of(one, "web")))


async def test_a_clean_exit_is_not_a_failure(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("done", command=sh("exit 0")),
        ServiceSpec("odd", command=sh("exit 7"), success_exit_codes=(7,)),
    )
    await one.supervisor.start()
    await one.until_state("done", State.EXITED)
    await one.until_state("odd", State.EXITED)
    assert one.service("done").reason == "exit 0"
    assert one.service("odd").reason == "exit 7"


async def test_a_one_shot_completes_and_is_never_ready(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("migrate", command=sh("echo migrated"), oneshot=True, restart=RestartPolicy.ALWAYS),
        ServiceSpec(
            "web", command=("sleep", "1000"), depends_on=(Dependency("migrate", Condition.COMPLETED),)
        ),
        ServiceSpec("other", command=("sleep", "1000"), depends_on=(Dependency("migrate"),)),
    )
    await one.supervisor.start(["web", "other"])
    assert one.states("migrate") == [State.WAITING, State.STARTING, State.RUNNING, State.EXITED]
    assert {one.service(n).state for n in ("web", "other")} == {State.READY}
    await one.supervisor.restart(["web"])
    assert one.text("migrate") == "migrated"  # it is not run again for somebody who needs it


async def test_a_started_condition_does_not_wait_for_ready(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("slow", command=sh("exec sleep 1000"), ready_log="never"),
        ServiceSpec("next", command=("sleep", "1000"), depends_on=(Dependency("slow", Condition.STARTED),)),
    )
    await one.supervisor.start(["next"])
    assert one.service("slow").state is State.RUNNING
    assert one.service("next").state is State.READY


async def test_a_ready_line_makes_it_ready(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "a",
            command=sh("echo booting; echo listening on 9; exec sleep 1000"),
            ready_log=r"listening on \d",
        )
    )
    await one.supervisor.start()
    assert one.service("a").state is State.READY
    assert one.text("a") == "booting\nlistening on 9"


async def test_a_service_that_is_never_ready_is_restarted_with_its_last_probe_as_reason(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(
        ServiceSpec(
            "a", command=("sleep", "1000"), port=free_port(), start_timeout=0.2, restart=RestartPolicy.NO
        )
    )
    await one.supervisor.start()
    assert one.service("a").state is State.FATAL
    assert one.service("a").reason.startswith("not ready within 0.2 s: connection refused on 127.0.0.1:")
    assert State.READY not in one.states("a")


async def test_a_service_without_its_ready_line_in_time_is_restarted(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "a", command=("sleep", "1000"), ready_log="up", start_timeout=0.1, restart=RestartPolicy.NO
        )
    )
    await one.supervisor.start()
    assert one.service("a").reason == "no ready line within 0.1 s"


async def test_an_unhealthy_service_is_withdrawn_until_it_recovers(rig: MakeRig, tmp_path: Path) -> None:
    one = rig(ServiceSpec("web", command=py(SERVER), port=0, health=OFTEN))
    await one.supervisor.start()
    (tmp_path / "sick").touch()
    await one.until_state("web", State.UNHEALTHY)
    assert one.service("web").reason == "GET /healthz: 503 Service Unavailable"
    assert one.registry.endpoints("web") == ()
    (tmp_path / "sick").unlink()
    await one.until_state("web", State.READY)
    assert len(one.registry.endpoints("web")) == 1
    assert one.service("web").restarts == 0


async def test_starting_an_unhealthy_service_reports_it_without_waiting(rig: MakeRig, tmp_path: Path) -> None:
    one = rig(ServiceSpec("web", command=py(SERVER), port=0, health=OFTEN))
    await one.supervisor.start()
    (tmp_path / "sick").touch()
    await one.until_state("web", State.UNHEALTHY)
    await asyncio.wait_for(one.supervisor.start(["web"]), 60)
    assert one.service("web").state is State.UNHEALTHY


async def test_a_host_of_another_machine_is_the_reason(rig: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.supervisor.policy.Backoff", partial(Backoff, first=0.001))
    one = rig(ServiceSpec("web", command=py(SERVER), host="192.0.2.1", health="/"))
    await one.supervisor.start()
    assert one.service("web").state is State.FATAL
    assert "cannot listen on 192.0.2.1:" in one.service("web").reason


async def test_a_failing_liveness_probe_restarts(rig: MakeRig, tmp_path: Path) -> None:
    one = rig(ServiceSpec("web", command=py(SERVER), port=0, health=OFTEN, liveness=True))
    await one.supervisor.start()
    first = pid_of(one, "web")
    (tmp_path / "sick").touch()
    await one.until_state("web", State.BACKOFF)
    assert one.service("web").reason.startswith("liveness probe failed 3 times: GET /healthz: 503")
    assert not alive(first)
    (tmp_path / "sick").unlink()
    await one.supervisor.start(["web"])
    assert one.service("web").state is State.READY


async def test_a_taken_port_fails_before_anything_starts(rig: MakeRig) -> None:
    holder = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    port = holder.sockets[0].getsockname()[1]
    one = rig(ServiceSpec("other", command=("sleep", "9")), ServiceSpec("web", command=py(SERVER), port=port))
    with pytest.raises(PortTakenError, match=rf"127\.0\.0\.1:{port} is taken by pid {os.getpid()}"):
        await one.supervisor.start()
    assert one.events == []
    holder.close()
    await holder.wait_closed()


async def test_a_command_that_ignores_sigterm_is_killed(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "stubborn",
            command=sh("trap '' TERM; echo up; while :; do sleep 1000; done"),
            ready_log="up",
            stop_timeout=0.2,
        )
    )
    await one.supervisor.start()
    pid = pid_of(one, "stubborn")
    await one.supervisor.stop()
    assert not alive(pid)
    assert one.service("stubborn").instances[0].exit == "killed by SIGKILL: it did not stop in time"
    assert "killed: it did not stop within 0.2 s of SIGTERM" in one.text("stubborn")


async def test_a_command_gets_its_stop_timeout_to_exit(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "polite", command=sh("trap 'echo bye; exit 0' TERM; echo up; sleep 1000 & wait"), ready_log="up"
        )
    )
    await one.supervisor.start()
    await one.supervisor.stop()
    assert one.service("polite").instances[0].exit == "exit 0"
    assert one.text("polite") == "up\nbye"


async def test_a_suspended_process_can_be_stopped(rig: MakeRig) -> None:
    one = rig(ServiceSpec("frozen", command=("sleep", "1000")))
    await one.supervisor.start()
    os.kill(pid_of(one, "frozen"), signal.SIGSTOP)
    await one.supervisor.stop()
    assert one.service("frozen").instances[0].exit == "killed by SIGTERM"


def told(script: str) -> str:
    """Run `script` in the background, and go on when it has made the file `$told`."""
    return (
        f"export told=$(mktemp -u); {script} & while ! test -e $told; do sleep 0.01; done; rm $told; {{end}}"
    )


FORKS = {
    "with a wiped environment": "env -i sleep 1000 & echo pid $!; {end}",
    "in the group": "sleep 1000 & echo pid $!; {end}",
    "ignoring SIGTERM": told("sh -c 'trap \"\" TERM; echo pid $$; >$told; sleep 99; sleep 99'"),
    "in a session of its own": told("setsid sh -c 'echo pid $$; >$told; exec sleep 1000'"),
    "twice, detached": told("setsid sh -c '(sleep 1000 & echo pid $!; >$told) &'"),
}


def forked(rig: Rig, service: str) -> int:
    return next(int(line.split()[1]) for line in rig.text(service).splitlines() if line.startswith("pid"))


@pytest.mark.parametrize("script", FORKS.values(), ids=FORKS.keys())
async def test_descendants_are_gone_after_stop(rig: MakeRig, script: str) -> None:
    one = rig(
        ServiceSpec(
            "parent", command=sh(script.format(end="echo up; sleep 1000")), ready_log="up", stop_timeout=0.5
        )
    )
    await one.supervisor.start()
    pid = forked(one, "parent")
    assert alive(pid)
    await one.supervisor.stop()
    assert not alive(pid)


@pytest.mark.parametrize("script", FORKS.values(), ids=FORKS.keys())
async def test_descendants_left_by_an_exited_command_are_stopped_and_reported(
    rig: MakeRig, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.supervisor.instance.SWEEP_S", 0.3)
    one = rig(ServiceSpec("parent", command=sh(script.format(end="exit 0")), oneshot=True))
    await one.supervisor.start()
    assert not alive(forked(one, "parent"))
    assert one.service("parent").state is State.EXITED
    assert one.service("parent").reason.startswith("exit 0, ")
    assert one.service("parent").reason.endswith(" left running")
    assert State.STOPPING in one.states("parent")


@pytest.mark.parametrize("script", FORKS.values(), ids=FORKS.keys())
async def test_kill_ends_all_services_at_once(rig: MakeRig, script: str) -> None:
    one = rig(
        ServiceSpec(
            "parent", command=sh(script.format(end="echo up; sleep 1000")), ready_log="up", stop_timeout=600
        ),
        ServiceSpec(
            "stubborn",
            command=sh("trap '' TERM; echo up; sleep 1000; sleep 1000"),
            ready_log="up",
            stop_timeout=600,
        ),
    )
    await one.supervisor.start()
    pids = [forked(one, "parent"), pid_of(one, "parent"), pid_of(one, "stubborn")]
    first = asyncio.create_task(one.supervisor.shutdown(600))
    await one.until_state("stubborn", State.STOPPING)
    one.supervisor.kill()
    await asyncio.wait_for(first, 60)
    assert [alive(pid) for pid in pids] == [False, False, False]


async def test_a_shutdown_past_its_timeout_kills(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "stubborn",
            command=sh("trap '' TERM; echo up; sleep 1000; sleep 1000"),
            ready_log="up",
            stop_timeout=600,
        )
    )
    await one.supervisor.start()
    pid = pid_of(one, "stubborn")
    await asyncio.wait_for(one.supervisor.shutdown(0.1), 60)
    assert not alive(pid)


async def test_a_flood_of_output_blocks_neither_loop_nor_memory(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("flood", command=("yes", "a line of a flood")),
        ServiceSpec("calm", command=py(SERVER), port=0),
    )
    lines = 0
    flooded = asyncio.Event()

    def count(line: LogLine) -> None:
        nonlocal lines
        lines += line.service == "flood"
        if lines == 5000:
            flooded.set()

    one.logs.listen(count)
    await one.supervisor.start()
    await flooded.wait()
    rounds = []
    for _ in range(50):
        before = time.thread_time()
        await asyncio.sleep(0.01)
        rounds.append(time.thread_time() - before)
    assert sorted(rounds)[25] < 0.1  # seconds of work: half the rounds of the loop are quick, on any machine
    await get(f"http://{one.service('calm').addresses[0]}/")
    assert len(one.logs.tail(["flood"])) == 2000
    await one.supervisor.stop()


async def test_long_lines_are_cut_and_invalid_utf8_is_replaced(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec(
            "odd",
            command=py(
                "import sys; w = sys.stdout.buffer.write\n"
                r"w(b'caf\xe9 \xff\n'); w('größe\n'.encode()); w(b'x' * 1_000_000 + b'\n'); w(b'no newline')"
            ),
            oneshot=True,
        )
    )
    await one.supervisor.start()
    lines = one.text("odd").split("\n")
    assert lines[0] == "caf\ufffd \ufffd"
    assert lines[1] == "größe"
    assert lines[2].startswith("xxx")
    assert len(lines[2]) < 20_000
    assert lines[2].endswith("cut)")
    assert lines[3] == "no newline"


async def test_memory_and_cpu_cover_all_processes_of_an_instance(rig: MakeRig) -> None:
    one = rig(
        ServiceSpec("busy", command=sh("(while :; do :; done) & echo up; wait"), ready_log="up"),
        ServiceSpec("idle", command=("sleep", "1000")),
    )
    await one.supervisor.start()
    found = one.supervisor.snapshot()

    def is_busy() -> bool:
        nonlocal found
        found = one.supervisor.snapshot()
        return (found[0].cpu_percent or 0) > 5

    await until(is_busy)
    idle = found[1]
    assert idle.cpu_percent is not None
    assert idle.cpu_percent <= 5
    assert idle.memory_bytes is not None
    assert idle.memory_bytes > 100_000


async def test_a_hosted_service_can_run_in_its_own_process(rig: MakeRig) -> None:
    asked: list[tuple[str, str]] = []

    def serve(service: str, instance: str) -> tuple[str, ...]:
        asked.append((service, instance))
        return py(SERVER)

    one = rig(ServiceSpec("app", app="x:y", isolation=Isolation.PROCESS, replicas=2), serve_argv=serve)
    await one.supervisor.start()
    assert sorted(asked) == [("app", "app-1"), ("app", "app-2")]
    assert len(one.registry.endpoints("app")) == 2
    assert all(e.handler is None for e in one.registry.endpoints("app"))


async def test_fifty_services_start_together(rig: MakeRig) -> None:
    one = rig(*(ServiceSpec(f"s{n}", command=("sleep", "1000")) for n in range(50)))
    await one.supervisor.start()
    assert {s.state for s in one.supervisor.snapshot()} == {State.READY}
    order = [e.state for e in one.events]
    assert order[:50] == [State.WAITING] * 50
    await one.supervisor.stop()
    assert {s.state for s in one.supervisor.snapshot()} == {State.STOPPED}


async def test_a_service_without_a_port_is_reached_through_the_gateway(rig: MakeRig) -> None:
    from tests.unit.supervisor.test_hosted_services import StubGateway

    port = free_port()
    one = rig(
        ServiceSpec("inner", app="-", routes=(RouteSpec("/inner", "inner"),)),
        ServiceSpec("cut", app="-", routes=(RouteSpec("/cut", "cut", strip_prefix=True),)),
        ServiceSpec("away", app="-", url="https://example.test"),
        ServiceSpec("none", app="-"),
        ServiceSpec(
            "show",
            command=sh('echo "$INNER_URL $CUT_URL $AWAY_URL ${NONE_URL-unset}"'),
            oneshot=True,
            depends_on=tuple(Dependency(n) for n in ("inner", "cut", "away", "none")),
        ),
        ServiceSpec("gateway", port=port),
        gateway=GatewaySpec(port=port),
        builtin={n: lambda c: StubGateway() for n in ("inner", "cut", "away", "none", "gateway")},
    )
    await one.supervisor.start()
    base = f"http://127.0.0.1:{port}"
    assert one.text("show") == f"{base} {base}/cut https://example.test unset"


async def test_a_watchdog_that_was_killed_is_replaced(rig: MakeRig) -> None:
    one = rig(ServiceSpec("a", command=("sleep", "1000")), ServiceSpec("b", command=("sleep", "1000")))
    await one.supervisor.start(["a"])
    watchdog = next(p for p in psutil.Process().children() if "watchdog.py" in " ".join(p.cmdline()))
    watchdog.kill()
    watchdog.wait()
    await one.supervisor.start(["b"])
    assert any("watchdog.py" in " ".join(p.cmdline()) for p in psutil.Process().children())


async def test_the_dependents_of_a_service_that_runs_elsewhere_get_its_address_and_do_not_wait_for_it(
    rig: MakeRig,
) -> None:
    port = free_port()
    asks = ServiceSpec(
        "asks",
        command=py("import os; print(os.environ['USERS_URL'])"),
        oneshot=True,
        depends_on=(Dependency("users"),),
    )
    one = rig(ServiceSpec("users", url=f"http://127.0.0.1:{port}"), asks)
    await one.supervisor.start()
    assert one.service("users").state is State.UNHEALTHY
    assert one.text("asks") == f"http://127.0.0.1:{port}"


async def test_a_program_that_is_missing_while_it_is_rebuilt_is_retried(
    rig: MakeRig, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.supervisor.policy.Backoff", partial(Backoff, first=0.05))
    program = write("server", "#!/bin/sh\nsleep 1000\n")
    program.chmod(0o755)
    one = rig(ServiceSpec("a", command=("./server",)))
    await one.supervisor.start()
    away = program.rename(program.with_name("old"))
    os.kill(pid_of(one, "a"), signal.SIGKILL)
    await one.until(lambda: any("command not found" in e.reason for e in one.events))
    assert one.service("a").state is not State.FATAL
    away.rename(program)
    await one.until_state("a", State.READY)


async def test_a_missing_interpreter_is_the_reason(rig: MakeRig, write: Write) -> None:
    write("server", "#!/no/such/interpreter -x\n").chmod(0o755)
    one = rig(ServiceSpec("a", command=("./server",)))
    await one.supervisor.start()
    assert one.service("a").state is State.FATAL
    assert "/no/such/interpreter" in one.service("a").reason


async def test_children_keep_the_file_limit_of_the_shell(
    rig: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, limits[1]))
    monkeypatch.setattr(file_limit, "_original", None)
    try:
        file_limit.raise_file_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 512
        one = rig(ServiceSpec("a", command=sh("sleep 0.1; ulimit -Sn; exec sleep 1000")))
        await one.supervisor.start()
        await one.until(lambda: one.text("a") != "")
        assert one.text("a") == "512"
        await one.supervisor.shutdown()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_a_stop_signal_replaces_sigterm(rig: MakeRig) -> None:
    script = "trap '' TERM; trap 'echo bye; exit 0' INT; echo up; while :; do sleep 0.02; done"
    one = rig(ServiceSpec("a", command=sh(script), ready_log="up", stop_signal="SIGINT", stop_timeout=600))
    await one.supervisor.start()
    await asyncio.wait_for(one.supervisor.stop(), 60)
    assert one.service("a").instances[0].exit == "exit 0"


async def test_a_stop_during_a_restart_for_a_dependency_wins(rig: MakeRig) -> None:
    stubborn = sh("trap '' TERM; while :; do sleep 0.02; done")
    one = rig(
        ServiceSpec("a", command=("sleep", "1000")),
        ServiceSpec("b", command=stubborn, depends_on=(Dependency("a", restart=True),), stop_timeout=0.5),
    )
    await one.supervisor.start()
    os.kill(pid_of(one, "a"), signal.SIGKILL)
    await one.until(lambda: one.service("b").state is State.STOPPING)
    await asyncio.wait_for(one.supervisor.stop(["b"]), 60)
    assert one.service("b").state is State.STOPPED
    await one.until(lambda: one.service("a").state is State.READY)
    await settle()
    assert one.service("b").state is State.STOPPED


async def test_a_restarted_dependency_restarts_the_dependents_that_ask_for_it(rig: MakeRig) -> None:
    follows, stays = (Dependency("a", restart=restart) for restart in (True, False))
    one = rig(
        ServiceSpec("a", command=("sleep", "1000")),
        ServiceSpec("b", command=("sleep", "1000"), depends_on=(follows,)),
        ServiceSpec("c", command=("sleep", "1000"), depends_on=(stays,)),
        ServiceSpec("d", command=("sleep", "1000"), depends_on=(Dependency("b", restart=True),)),
    )
    await one.supervisor.start()
    former = {name: pid_of(one, name) for name in "abcd"}
    os.kill(former["a"], signal.SIGKILL)
    await one.until(
        lambda: all(
            one.service(name).state is State.READY and pid_of(one, name) != former[name] for name in "abd"
        )
    )
    assert pid_of(one, "c") == former["c"]
    again = {name: pid_of(one, name) for name in "abcd"}
    await one.supervisor.restart(["c"])
    assert {name: pid_of(one, name) for name in "abd"} == {name: again[name] for name in "abd"}
