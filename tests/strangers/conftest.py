"""A project of other people's programs, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli import Msctl
from tests.support.ports import reserved_port
from tests.support.tools import require

HERE = Path(__file__).parent
_CACHES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "msctl-tests"
CACHE = _CACHES / "strangers"
INSTRUMENTED = _CACHES / "instrumented"
NAMES = ("api", "web", "worker", "stream", "chat", "site", "redis", "nginx")

CONFIGURATION = """
[project]
name = "strangers"

[services.api]
command = "{bin}/uvicorn api:app --host $HOST --port $PORT --log-level debug"
routes = ["/api"]
health = "/healthz"
replicas = 2

[services.web]
command = "{bin}/flask --app web run --host $HOST --port $PORT"
routes = ["/web"]
depends_on = ["api", "redis"]

[services.worker]
command = "{bin}/celery -A tasks worker --concurrency 1 -l info"
ready_log = "ready"

[services.stream]
command = "{bin}/faststream run stream:app"

[services.chat]
command = "npm run chat"
routes = ["/chat"]

[services.site]
command = "npm run site"
port = {site}

[services.redis]
command = "redis-server --port $PORT --save ''"
port = {redis}
scheme = "redis"

[services.nginx]
command = "nginx -p . -c nginx.conf -g 'daemon off;'"
port = {nginx}

[gateway]
port = {gateway}

[broker]
url = "amqp://guest:guest@127.0.0.1:{broker}/"

[dashboard]
enabled = false
"""


@dataclass(frozen=True)
class Strangers:
    """The project, not started, and the ports that it uses."""

    msctl: Msctl
    ports: dict[str, int]

    def url(self, path: str, port: str = "gateway") -> str:
        return f"http://127.0.0.1:{self.ports[port]}{path}"

    def pids(self) -> dict[str, list[int]]:
        """The main processes by service."""
        return {
            service["name"]: [one["pid"] for one in service["instances"] if one["pid"]]
            for service in self.msctl.status()["services"]
            if service["name"] in NAMES
        }


def require_installed(cache: Path) -> None:
    """Skip a test whose programs are not installed; on CI it fails."""
    if not (cache / "installed").exists():
        message = f"nothing is installed in {cache.name}; tests/support/install-tools.sh does it"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have it: {message}", pytrace=False)
        pytest.skip(message)


@pytest.fixture
def strangers(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    for program in ("node", "npm", "nginx", "redis-server"):
        require(program)
    require_installed(CACHE)
    folder = tmp_path / "project"
    shutil.copytree(HERE / "project", folder)
    (folder / "node_modules").symlink_to(CACHE / "node_modules")
    with ExitStack() as stack:
        ports = {
            name: stack.enter_context(reserved_port())
            for name in ("gateway", "site", "redis", "nginx", "broker")
        }
        (folder / "msctl.toml").write_text(CONFIGURATION.format(bin=CACHE / "venv" / "bin", **ports))
        nginx = folder / "nginx.conf"
        nginx.write_text(nginx.read_text().replace("NGINX_PORT", str(ports["nginx"])))
        msctl = Msctl(folder, tmp_path_factory.mktemp("run"), {})
        del msctl.env["PYTHONWARNINGS"]
        yield Strangers(msctl, ports)
        msctl.run("down")
