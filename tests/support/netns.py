"""A switch of its own and hosts on it, each a network namespace with an address (Debian's iproute2).

Nothing leaves the machine: the namespaces have no route but the one to each other. They need root; where that
is missing, a test is skipped, and on CI fails.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import tools

CLONE_NEWNET = 0x40000000
_FOLDER = Path("/run/netns")


def require() -> None:
    """Skip the test where namespaces cannot be made; on CI fail."""
    tools.require("ip")
    tools.require("unshare")
    probe = f"msctl-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True)
    if done.returncode == 0:
        subprocess.run(["ip", "netns", "delete", probe], check=True)
        return
    message = f"network namespaces need root: {done.stderr.strip()}"
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have them: {message}", pytrace=False)
    pytest.skip(message)


class Network:
    """A bridge, and the hosts connected to it."""

    def __init__(self) -> None:
        self._token = uuid.uuid4().hex[:8]
        self._hosts: dict[str, str] = {}
        self._switch = f"msctl-{self._token}"
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "br0", "type", "bridge")
        _ip("-n", self._switch, "addr", "add", "10.99.0.1/24", "dev", "br0")
        for device in ("lo", "br0"):
            _ip("-n", self._switch, "link", "set", device, "up")

    def add(self, name: str) -> str:
        """Connect a host, and return its address."""
        number = len(self._hosts) + 2
        address, namespace, port = f"10.99.0.{number}", self.namespace(name), f"v{number}"
        self._hosts[name] = address
        _ip("netns", "add", namespace)
        _ip(
            "-n",
            self._switch,
            "link",
            "add",
            port,
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            namespace,
        )
        _ip("-n", self._switch, "link", "set", port, "master", "br0", "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", namespace, "link", "set", device, "up")
        return address

    def address(self, name: str) -> str:
        return self._hosts[name]

    def namespace(self, name: str) -> str:
        return f"{self._switch}-{name}"

    def hosts(self) -> str:
        """The content of /etc/hosts, with the name of each host."""
        lines = [f"{address} {name}" for name, address in self._hosts.items()]
        return "\n".join(["127.0.0.1 localhost", *lines]) + "\n"

    def command(self, name: str, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in a host's network and in mounts of its own, as the same process."""
        return ["ip", "netns", "exec", self.namespace(name), "unshare", "--mount", *argv]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Put the calling thread on the switch, from which every host is reached."""
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(_FOLDER / self._switch, os.O_RDONLY)
        try:
            _set_namespace(there)
            try:
                yield
            finally:
                _set_namespace(here)
        finally:
            os.close(here)
            os.close(there)

    def close(self) -> None:
        for name in self._hosts:
            _ip("netns", "delete", self.namespace(name))
        _ip("netns", "delete", self._switch)


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*args: str) -> None:
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(args)}: {done.stderr}"
