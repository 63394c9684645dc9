"""A real etcd, started where a test wants it, stopped, killed, and started again with its data or without."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.tools import accepts, require


@dataclass
class Etcd:
    """A node that listens on `host`:`port`, for clients, and on the next port, for its peers."""

    folder: Path
    host: str
    port: int
    peer_port: int
    prefix: Sequence[str] = ()
    """Before the command, such as what puts it into a network namespace."""
    options: Sequence[str] = ()
    scheme: str = "http"
    env: dict[str, str] = field(default_factory=dict)
    """Variables of etcdctl."""
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def start(self) -> None:
        """Start it, and return once it answers."""
        own, peer = f"{self.scheme}://{self.address}", f"http://{self.host}:{self.peer_port}"
        self.folder.mkdir(exist_ok=True)
        command = [*self.prefix, require("etcd"), "--data-dir", str(self.folder / "data")]
        command += ["--listen-client-urls", own, "--advertise-client-urls", own]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        command += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync=true", *self.options]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.ctl("endpoint", "health")

    def stop(self, *, forget: bool = False) -> None:
        """Kill it; `forget` deletes its data."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if forget:
            shutil.rmtree(self.folder / "data", ignore_errors=True)

    def ctl(self, *words: str) -> str:
        """What etcdctl says."""
        own = [f"--endpoints={self.scheme}://{self.address}", "--command-timeout=20s", "--dial-timeout=20s"]
        settings = [f"{name}={value}" for name, value in {"ETCDCTL_API": "3", **self.env}.items()]
        return accepts([*self.prefix, "env", *settings, require("etcdctl"), *own, *words])


@contextmanager
def running_etcd(etcd: Etcd) -> Iterator[Etcd]:
    etcd.start()
    try:
        yield etcd
    finally:
        etcd.stop()
