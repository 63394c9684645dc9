"""Three machines that find each other's services in a real etcd, with a shared RabbitMQ.

`one` and `two` run services, `three` the gateway; all have the msctl.toml of docs/several-machines.md. Each
test leaves them as it found them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.etcd import Etcd, running_etcd
from tests.support.machines import HUB, NETWORK, Lan, Machine, lan
from tests.support.rabbitmq import RunningNode, unique
from tests.support.tools import require
from tests.support.waiting import eventually

ONE, TWO, THREE = (f"{NETWORK}.{number}" for number in (11, 12, 13))
TTL = 3
GO = Path(__file__).parents[1] / "support" / "go" / "users.go"

WHERE = """
import base64, http.server, json, os, signal, socket, urllib.request

def stop(*args):
    "Write down how often the registry has this instance when it is asked to stop."
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("HUB", 2379))
    key = "/msctl/v1/course/where/{}:{}".format(sock.getsockname()[0], os.environ["PORT"])
    body = json.dumps({"key": base64.b64encode(key.encode()).decode()}).encode()
    answer = urllib.request.urlopen("http://HUB:2379/v3/kv/range", body, 5).read()
    open("at-stop", "w").write(str(json.loads(answer).get("count", 0)))
    os._exit(0)

signal.signal(signal.SIGTERM, stop)

class Where(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        body = "{}:{}".format(*self.connection.getsockname()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Where).serve_forever()
""".replace("HUB", HUB)

PAGE = (Path(__file__).parents[2] / "docs" / "several-machines.md").read_text()
MORE = """
[services.where]
command = "python3 where.py"
host = "0.0.0.0"
port = 9000
routes = ["/where", { path = "/once", retries = 0 }]
discover = true

[services.report]
command = "sleep 600"
depends_on = ["where"]
autostart = false
"""


def project() -> str:
    """The file that the page shows for three machines, with what these tests ask besides."""
    shown = re.search(r"```toml\n(# The same on all three machines.*?)```", PAGE, flags=re.DOTALL)
    assert shown is not None
    text = shown[1].replace("10.0.0.1:", f"{HUB}:")
    text = text.replace("[discovery]\n", f'[discovery]\nttl = "{TTL}s"\n')
    text = text.replace("[gateway]\n", '[gateway]\nconnect_timeout = "500ms"\nresponse_timeout = "2s"\n')
    return text + MORE


STARTED = {"one": ("users", "where"), "two": ("producer", "where"), "three": ("gateway",)}


@dataclass(frozen=True)
class Site:
    """The machines, and their registry."""

    lan: Lan
    etcd: Etcd

    def up(self, name: str) -> None:
        """Start what the machine runs, by its one command."""
        self.lan[name].msctl.ok("up", "-d", *STARTED[name])

    def answers(self, count: int = 12, path: str = "/where") -> Counter[str]:
        """Which instances answer requests to the gateway; a status other than 200 in the place of one."""
        found: Counter[str] = Counter()
        for _ in range(count):
            answer = self.lan["three"].get(path)
            found[answer.body.decode() if answer.status == 200 else str(answer.status)] += 1
        return found

    def answers_of_all(self, found: Counter[str] | None = None) -> set[str]:
        """What answers until each of the two machines has, whichever the gateway chooses."""
        seen = Counter(found)

        def both() -> bool:
            seen.update(self.answers())
            return seen.keys() >= {f"{ONE}:9000", f"{TWO}:9000"}

        eventually(both)
        return set(seen)

    def found(self) -> list[str]:
        return self.lan["three"].origins("where")

    def registry(self, name: str) -> dict[str, object]:
        return dict(self.lan[name].msctl.status()["registry"])

    def settle(self) -> None:
        """Wait until all is as at the start; one whose registry was away asks it again after a while."""
        eventually(lambda: {self.registry(name)["state"] for name in STARTED} == {"ready"})
        eventually(lambda: self.found() == [f"{ONE}:9000", f"{TWO}:9000"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, rabbitmq_node: RunningNode) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("machines")
    program = base / "user_service"
    subprocess.run([require("go"), "build", "-o", str(program), str(GO)], check=True, cwd=base)
    rabbit = urlsplit(rabbitmq_node.url)
    options = ("--heartbeat-interval=50", "--election-timeout=250")
    with lan(base, *STARTED) as hosts:
        registry = Etcd(base / "etcd", HUB, 2379, 2380, hosts.hub.prefix, options)
        with (
            hosts.relay(5672, (rabbit.hostname or "", rabbit.port or 0)),
            running_etcd(registry),
        ):
            made = Site(hosts, registry)
            for machine in hosts.machines.values():
                machine.write(project())
                (machine.msctl.folder / "where.py").write_text(WHERE)
                shutil.copy(program, machine.msctl.folder)
            with ThreadPoolExecutor(len(STARTED)) as threads:
                list(threads.map(made.up, STARTED))
            try:
                yield made
            finally:
                for machine in hosts.machines.values():
                    machine.msctl.run("down")


@pytest.fixture(autouse=True)
def settled(site: Site) -> None:
    site.settle()


def test_the_courses_system_runs_on_three_machines_with_one_command_each(site: Site) -> None:
    three = site.lan["three"]
    assert three.get("/users").body == b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'
    text = unique("hello")
    assert three.get("/messages", method="POST", body=text.encode()).status == 202
    with site.lan["one"].msctl.process("consume") as consuming:
        assert text in consuming.line("stdout", text)
    assert site.answers_of_all() == {f"{ONE}:9000", f"{TWO}:9000"}


def test_status_and_routes_say_where_each_instance_is_from(site: Site) -> None:
    three = site.lan["three"]
    assert site.registry("three") | {"reason": ""} == {
        "kind": "etcd",
        "state": "ready",
        "url": f"etcd://{HUB}:2379",
        "namespace": "course",
        "reason": "",
        "advertise": THREE,
        "announced": [],
        "found": 4,
    }
    assert sorted(site.registry("one")["announced"]) == ["users-1", "where-1"]  # type: ignore[call-overload]
    shown = three.msctl.ok("status", "--instances")
    assert f"where-1@{TWO}:9000" in shown
    assert "FROM" in shown
    assert f"where-1@{TWO}:9000 (etcd)" in three.msctl.ok("routes")
    assert "found in etcd" in three.msctl.ok("route", "GET", "/where")
    assert three.msctl.states() == {
        "users": "ready",
        "producer": "ready",
        "where": "ready",
        "report": "stopped",
        "gateway": "ready",
    }


def test_a_gateway_by_itself_finds_the_machines_too_and_doctor_asks_the_registry(site: Site) -> None:
    three = site.lan["three"]
    with three.msctl.process("serve", "gateway", "--host", "0.0.0.0", "--port", "8088"):
        eventually(lambda: _status(three, 8088) == 200)
        assert three.get("/where", port=8088).status == 200
    assert f"etcd://{HUB}:2379 answers" in three.msctl.run("doctor").stdout


def _status(machine: Machine, port: int) -> int | None:
    try:
        return machine.get("/where", port=port).status
    except OSError:
        return None


def test_the_service_address_of_a_dependent_reaches_all_machines(site: Site) -> None:
    loop = (
        "import os, urllib.request as r\nfor _ in range(12): print(r.urlopen(os.environ['WHERE_URL']).read())"
    )
    shown = site.lan["three"].msctl.ok("run", "--", "python3", "-c", loop)
    assert ONE in shown
    assert TWO in shown


def test_a_machine_without_power_costs_no_request_and_is_gone_within_the_ttl(site: Site) -> None:
    site.lan["two"].kill()
    assert set(site.answers()) == {f"{ONE}:9000"}
    eventually(lambda: site.found() == [f"{ONE}:9000"])
    site.up("two")


def test_a_machine_without_its_cable_is_gone_within_the_ttl_and_comes_back_with_it(site: Site) -> None:
    two = site.lan["two"]
    two.pull_cable()
    try:
        # What had been sent to it on a connection that was open gets no answer, and must not be sent twice.
        assert set(site.answers(3)) <= {f"{ONE}:9000", "504"}
        eventually(lambda: site.found() == [f"{ONE}:9000"])
        assert set(site.answers()) == {f"{ONE}:9000"}
        eventually(lambda: site.registry("two")["state"] == "backoff")
        assert "stay in use" in str(site.registry("two")["reason"])
        assert f"{ONE}:9000" in two.origins("where")
    finally:
        two.plug_cable()
    site.settle()
    eventually(lambda: site.registry("two")["state"] == "ready")
    eventually(lambda: TWO in "".join(site.answers()))


def test_an_instance_is_withdrawn_before_it_stops(site: Site) -> None:
    one = site.lan["one"].msctl
    (one.folder / "at-stop").unlink(missing_ok=True)
    with one.process("restart", "where") as restarting:
        found: Counter[str] = Counter()
        while restarting.child.poll() is None:
            found += site.answers(4, "/once")
    assert set(found) <= {f"{ONE}:9000", f"{TWO}:9000"}
    assert found[f"{TWO}:9000"]
    assert (one.folder / "at-stop").read_text() == "0"


def test_instances_that_one_machine_adds_take_requests_from_the_others(site: Site) -> None:
    one = site.lan["one"].msctl
    one.ok("scale", "where=3")
    eventually(lambda: len(site.found()) == 4)
    seen: Counter[str] = Counter()
    eventually(lambda: len(seen) == 4 or seen.update(site.answers()))
    assert set(seen) == {f"{ONE}:9000", f"{TWO}:9000", *(each for each in seen if each.startswith(ONE))}
    one.ok("scale", "where=1")
    site.settle()


def test_a_lost_lease_is_taken_again(site: Site) -> None:
    for lease in site.etcd.ctl("lease", "list").split()[1:]:
        if len(lease) == 16:
            site.etcd.ctl("lease", "revoke", lease)
    site.settle()
    eventually(lambda: site.registry("one")["state"] == "ready")


def test_a_registry_that_is_away_and_comes_back_empty_costs_no_request(site: Site) -> None:
    site.etcd.stop(forget=True)
    try:
        eventually(lambda: site.registry("three")["state"] == "backoff")
        assert "stay in use" in site.lan["three"].msctl.ok("status")
        assert site.answers_of_all() == {f"{ONE}:9000", f"{TWO}:9000"}
    finally:
        site.etcd.start()
    seen: Counter[str] = Counter()
    while site.etcd.ctl("get", "--prefix", "--keys-only", "/msctl/v1/course/where/").count("/where/") < 2:
        seen += site.answers(4)
    assert site.answers_of_all(seen) == {f"{ONE}:9000", f"{TWO}:9000"}
    eventually(lambda: all(site.registry(name)["state"] == "ready" for name in STARTED))


def test_a_stack_comes_up_without_its_registry_says_so_and_is_found_later(site: Site) -> None:
    two = site.lan["two"].msctl
    two.ok("down")
    site.etcd.stop()
    try:
        site.up("two")
        assert "cannot be reached" in two.ok("status")
    finally:
        site.etcd.start()
    site.settle()


def test_rubbish_and_other_projects_in_the_registry_take_no_requests(site: Site) -> None:
    prefix = "/msctl/v1/course/where"
    site.etcd.ctl("put", f"{prefix}/10.77.0.66:9000", "rubbish")
    site.etcd.ctl("put", "/msctl/v1/other/where/10.77.0.67:9000", "{}")
    try:
        eventually(lambda: "10.77.0.66:9000" in site.lan["three"].msctl.ok("logs", "-n", "200"))
        assert site.answers_of_all() == {f"{ONE}:9000", f"{TWO}:9000"}
        assert "10.77.0.67" not in site.lan["three"].msctl.ok("logs", "-n", "200")
    finally:
        site.etcd.ctl("del", f"{prefix}/10.77.0.66:9000")
