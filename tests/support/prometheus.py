"""A real Prometheus that scrapes what a test runs, with its data in a folder that goes with it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support import tools
from tests.support.ports import reserved_port

PATIENCE = 60.0

CONFIG = """
global:
  scrape_interval: 1s
  evaluation_interval: 1s
scrape_configs:
  - job_name: stack
    honor_labels: true
    static_configs: [{{targets: ["{stack}"]}}]
  - job_name: service
    honor_labels: true
    static_configs: [{{targets: ["{service}"]}}]
"""


class Prometheus:
    """A running server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series that an instant query answers with."""
        found = self._get("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        result: list[dict[str, Any]] = found["data"]["result"]
        return result

    def until(self, expression: str) -> list[dict[str, Any]]:
        """The series, as soon as there are any."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.query(expression)):
            if time.monotonic() > deadline:
                targets = self._get("/api/v1/targets")["data"]["activeTargets"]
                health = [(t["scrapePool"], t["health"], t["lastError"]) for t in targets]
                raise AssertionError(f"no data for {expression}; targets: {health}")
            time.sleep(0.2)
        return found

    def _get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self._url + path, timeout=10) as response:
            answer: dict[str, Any] = json.load(response)
        return answer


@contextlib.contextmanager
def running_prometheus(*, stack: str, service: str, protobuf: bool = False) -> Iterator[Prometheus]:
    """Scrapes `stack` and `service` (host:port) every second while the block runs.

    With `protobuf` it asks for Protocol Buffers, as this version does where native histograms are on.
    """
    binary = tools.require("prometheus")
    with reserved_port() as port, tempfile.TemporaryDirectory(prefix="msctl-prometheus-") as name:
        folder = Path(name)
        (folder / "prometheus.yml").write_text(CONFIG.format(stack=stack, service=service))
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(
                [
                    binary,
                    f"--config.file={folder}/prometheus.yml",
                    f"--storage.tsdb.path={folder}/data",
                    f"--web.listen-address=127.0.0.1:{port}",
                    *(["--enable-feature=native-histograms"] if protobuf else []),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, child, folder / "log")
            yield Prometheus(url)
        finally:
            child.terminate()
            child.wait(20)


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url + "/-/ready", timeout=5).close()
            return
        except OSError:
            assert child.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
