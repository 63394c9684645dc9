"""Several machines on one: network namespaces, each with an address of its own on one Ethernet.

A hub holds the bridge, and runs what all machines share. A machine runs stacks; its cable can be pulled, and
its power. Needs root.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.cli import Msctl
from tests.support.http import Answer, request
from tests.support.proxy import Proxy
from tests.support.tools import accepts, require

NETWORK = "10.77.0"
HUB = f"{NETWORK}.1"
_CLONE_NEWNET = 0x40000000

T = TypeVar("T")


def require_namespaces() -> None:
    """Skip the test where no network namespace can be made."""
    ip = require("ip")
    name = f"msctl-{os.getpid()}"
    if os.geteuid() or subprocess.run([ip, "netns", "add", name], capture_output=True).returncode:
        pytest.skip("network namespaces need root")
    accepts([ip, "netns", "delete", name])


def enter(namespace: str) -> None:
    """Move this thread into a namespace; sockets that it makes stay there."""
    with Path(f"/run/netns/{namespace}").open() as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot enter the namespace")


class Host:
    """A namespace with an address, and a thread in it."""

    def __init__(self, name: str, namespace: str, address: str) -> None:
        self.name = name
        self.namespace = namespace
        self.address = address
        self._thread = ThreadPoolExecutor(1, initializer=enter, initargs=(namespace,))

    @property
    def prefix(self) -> list[str]:
        return [require("ip"), "netns", "exec", self.namespace]

    def inside(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in the namespace."""
        future: Future[T] = self._thread.submit(work)
        return future.result(60)

    def close(self) -> None:
        self._thread.shutdown()


class Machine(Host):
    """A host that runs stacks from a folder of its own."""

    def __init__(self, name: str, namespace: str, address: str, base: Path) -> None:
        super().__init__(name, namespace, address)
        folder, runtime = base / name, base / f"{name}-run"
        for made in (folder, runtime):
            made.mkdir(mode=0o700)
        self.msctl = _InNamespace(self.prefix, folder, runtime)

    def write(self, text: str) -> None:
        """The project of this machine."""
        (self.msctl.folder / "msctl.toml").write_text(text)

    def get(
        self, path: str = "/users", *, port: int = 8080, method: str = "GET", body: bytes | None = None
    ) -> Answer:
        """A request from this machine to itself."""
        return self.inside(lambda: request(f"http://{self.address}:{port}{path}", method=method, body=body))

    def service(self, name: str) -> dict[str, object]:
        found = {service["name"]: service for service in self.msctl.status()["services"]}
        return dict(found[name])

    def origins(self, name: str) -> list[str]:
        """The addresses of the instances that this machine has found on others."""
        instances = self.service(name)["instances"]
        assert isinstance(instances, list)
        return sorted(one["address"] for one in instances if one["origin"])

    def pull_cable(self) -> None:
        accepts([*self.prefix, "ip", "link", "set", "eth0", "down"])

    def plug_cable(self) -> None:
        accepts([*self.prefix, "ip", "link", "set", "eth0", "up"])

    def kill(self) -> None:
        """Kill every process of the machine at once."""
        for pid in accepts([require("ip"), "netns", "pids", self.namespace]).split():
            if int(pid) != os.getpid():
                os.kill(int(pid), signal.SIGKILL)


class _InNamespace(Msctl):
    def __init__(self, prefix: list[str], folder: Path, runtime: Path) -> None:
        super().__init__(folder, runtime, {"MSCTL_DASHBOARD_ENABLED": "false"})
        self._prefix = prefix

    def command(self, *args: str) -> list[str]:
        return [*self._prefix, *super().command(*args)]


@dataclass
class Lan:
    """A hub, and the machines around it."""

    hub: Host
    machines: Mapping[str, Machine]

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @contextmanager
    def relay(self, port: int, to: tuple[str, int]) -> Iterator[None]:
        """Have the hub listen on `port` for a server outside of all namespaces."""
        loop, ready = asyncio.new_event_loop(), threading.Event()
        relay = Proxy(*to, listen_port=port, listen_host=HUB)
        listener = self.hub.inside(relay.bind)

        async def serve() -> None:
            await relay.listen(listener)
            ready.set()

        def run() -> None:
            loop.create_task(serve())
            loop.run_forever()

        thread = threading.Thread(target=run, name="relay", daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(relay.cut(), loop).result(30)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


@contextmanager
def lan(base: Path, *names: str) -> Iterator[Lan]:
    """Machines of these names at NETWORK.11, .12 and so on; the hub is at HUB. Nothing is left at the end."""
    require_namespaces()
    ip, mark = require("ip"), f"msctl{os.getpid()}"
    with ExitStack() as stack:

        def namespace(name: str) -> str:
            made = f"{mark}-{name}"
            accepts([ip, "netns", "add", made])
            stack.callback(accepts, [ip, "netns", "delete", made])
            accepts([ip, "-n", made, "link", "set", "lo", "up"])
            return made

        middle = namespace("hub")
        accepts([ip, "-n", middle, "link", "add", "bridge", "type", "bridge"])
        accepts([ip, "-n", middle, "address", "add", f"{HUB}/24", "dev", "bridge"])
        accepts([ip, "-n", middle, "link", "set", "bridge", "up"])
        machines = {}
        for number, name in enumerate(names, 11):
            made, address = namespace(name), f"{NETWORK}.{number}"
            peer = ["peer", "name", "eth0", "netns", made]
            accepts([ip, "-n", middle, "link", "add", f"to-{name}", "type", "veth", *peer])
            accepts([ip, "-n", middle, "link", "set", f"to-{name}", "master", "bridge", "up"])
            accepts([ip, "-n", made, "address", "add", f"{address}/24", "dev", "eth0"])
            accepts([ip, "-n", made, "link", "set", "eth0", "up"])
            machines[name] = Machine(name, made, address, base)
            stack.callback(machines[name].close)
            stack.callback(machines[name].kill)
        hub = Host("hub", middle, HUB)
        stack.callback(hub.close)
        yield Lan(hub, machines)
