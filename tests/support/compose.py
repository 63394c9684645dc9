"""Runs an exported compose file without a container engine.

Each service is a process on a host of its own (netns.py), with the file's variables, mounts and command
alone, as the user of its Dockerfile and without capabilities. Its root is a file system in memory that shows
this machine's programs read-only; msctl and Python lie where the Dockerfile puts them. RabbitMQ and
Prometheus are the machine's own. What the file says about order, health and stopping is kept.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from msctl.brokers.rabbitmq_files import RabbitSettings, find_binary, prepare
from tests.support import tools
from tests.support.netns import Network

SOURCE = Path(__file__).parents[2] / "src"
PATIENCE = 60.0
_VARIABLE = re.compile(r"\$\$|\$\{(?P<name>\w+)(?:(?P<operator>:?[-?])(?P<word>[^{}]*))?\}")
_SYSTEM = ("/usr", "/etc", "/dev", "/proc", sys.base_prefix)


class MissingVariableError(Exception):
    """A variable that the file requires is not set."""


def interpolated(value: Any, env: Mapping[str, str]) -> Any:
    """Fill in variables as compose does (compose-spec, "Interpolation"): once, in every string."""
    if isinstance(value, dict):
        return {key: interpolated(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, env) for item in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match["name"] is None:
            return "$"
        found = env.get(match["name"])
        operator = match["operator"] or ""
        is_set = bool(found) if operator.startswith(":") else found is not None
        if is_set:
            return found or ""
        if operator.endswith("?"):
            raise MissingVariableError(match["name"])
        return match["word"] or ""

    return _VARIABLE.sub(replaced, value)


@dataclass
class Container:
    """A service's process and its log."""

    name: str
    service: Mapping[str, Any]
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class ComposeRun:
    """The system of the compose.yaml in `folder`; `env` is the environment of compose."""

    def __init__(self, folder: Path, env: Mapping[str, str], work: Path) -> None:
        text = (folder / "compose.yaml").read_text()
        self.document = interpolated(yaml.safe_load(text), env)
        self._folder = folder
        self._env = env
        self._work = work
        self.network = Network()
        services = self.document["services"]
        services.pop("grafana", None)
        for name in services:
            self.network.add(name)
        (work / "hosts").write_text(self.network.hosts())
        self._programs = _programs(work)
        self.containers = {
            name: Container(name, service, work / f"{name}.log") for name, service in services.items()
        }

    def up(self) -> None:
        """Start what has no profile, each after what it depends on, and wait until all are healthy."""
        for container in self._ordered():
            for name, condition in _dependencies(container.service).items():
                if condition == "service_healthy":
                    self._wait_healthy(self.containers[name])
            self.start(container.name)
        running = [each for each in self.containers.values() if each.process is not None]
        with ThreadPoolExecutor(len(running)) as pool:
            list(pool.map(self._wait_healthy, running))

    def start(self, name: str) -> None:
        """Start a service, unless it runs: tests that share the system come in any order."""
        container = self.containers[name]
        if container.process is not None and container.process.poll() is None:
            return
        with container.log.open("ab") as log:
            container.process = subprocess.Popen(
                self._command(container, self._main(container)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.environ["PATH"]},
                start_new_session=True,
            )

    def down(self) -> None:
        """Stop all as compose does: the signal, the grace period, then kill."""
        running = [each for each in reversed(self.containers.values()) if each.process is not None]
        for container in running:
            assert container.process is not None
            signal_name = container.service.get("stop_signal", "SIGTERM")
            with suppress(ProcessLookupError):
                container.process.send_signal(signal.Signals[signal_name])
        for container in running:
            assert container.process is not None
            try:
                container.process.wait(float(container.service.get("stop_grace_period", "10s").rstrip("s")))
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(container.process.pid, signal.SIGKILL)
                container.process.wait(10)
                container.process = None

    def close(self) -> None:
        for container in self.containers.values():
            if container.process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(container.process.pid, signal.SIGKILL)
                container.process.wait(10)
        self.network.close()

    def logs(self) -> str:
        return "".join(container.output() for container in self.containers.values())

    def _ordered(self) -> Iterator[Container]:
        done: set[str] = set()
        waiting = [each for each in self.containers.values() if not each.service.get("profiles")]
        # The broker is no dependency: clients reconnect. Started first, it costs the run no time.
        waiting.sort(key=lambda each: each.name != "rabbitmq")
        while waiting:
            ready = [each for each in waiting if _dependencies(each.service).keys() <= done]
            assert ready, f"a cycle: {[each.name for each in waiting]}"
            for each in ready:
                yield each
                done.add(each.name)
                waiting.remove(each)

    def _wait_healthy(self, container: Container) -> None:
        test = container.service.get("healthcheck", {}).get("test")
        if test is None or container.name == "rabbitmq":
            return
        assert test[0] == "CMD", test
        deadline = time.monotonic() + PATIENCE
        while True:
            assert container.process is not None
            assert container.process.poll() is None, f"{container.name} has ended:\n{container.output()}"
            done = subprocess.run(
                self._command(container, test[1:]), capture_output=True, text=True, timeout=PATIENCE
            )
            if done.returncode == 0:
                return
            assert time.monotonic() < deadline, f"{container.name}: {done.stderr}\n{container.output()}"

    def _main(self, container: Container) -> list[str]:
        service = container.service
        if service["image"].startswith("rabbitmq:"):
            return [str(find_binary())]
        if service["image"].startswith("prom/prometheus"):
            return [
                tools.require("prometheus"),
                "--config.file=/etc/prometheus/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
            ]
        image = self._image(service["image"])
        entrypoint = service.get("entrypoint", image.get("ENTRYPOINT", []))
        return [*entrypoint, *service.get("command", [] if "entrypoint" in service else image.get("CMD", []))]

    def _image(self, name: str) -> dict[str, Any]:
        """What the Dockerfile of an image says in its last stage."""
        build = next(
            each.service["build"]
            for each in self.containers.values()
            if each.service["image"] == name and "build" in each.service
        )
        text = (self._folder / build["dockerfile"]).read_text().replace("\\\n", "")
        found: dict[str, Any] = {"ENV": {}}
        for line in text.rpartition("\nFROM ")[2].splitlines()[1:]:
            word, _, rest = line.partition(" ")
            if word in ("ENTRYPOINT", "CMD"):
                found[word] = yaml.safe_load(rest)
            elif word == "ENV":
                found["ENV"] |= dict(pair.split("=", 1) for pair in shlex.split(rest))
            elif word in ("USER", "WORKDIR"):
                found[word] = rest
        return found

    def _command(self, container: Container, argv: list[str]) -> list[str]:
        return self.network.command(container.name, ["sh", "-c", self._script(container, argv)])

    def _script(self, container: Container, argv: list[str]) -> str:
        service = container.service
        if service["image"].startswith("rabbitmq:"):
            return self._rabbitmq_script(service)
        root = self._work / f"root-{container.name}"
        root.mkdir(exist_ok=True)
        lines = ["set -e", "mount --make-rprivate /", f"mount -t tmpfs -o mode=755 none {root}"]

        def bind(source: Path | str, target: str, options: str = "ro") -> None:
            there = f"{root}{target}"
            lines.append(
                f'if [ -d "{source}" ]; then mkdir -p "{there}"; '
                f'else mkdir -p "$(dirname "{there}")"; touch "{there}"; fi'
            )
            lines.append(f'mount --rbind "{source}" "{there}"')
            if options == "ro" and target not in ("/dev", "/proc"):
                lines.append(f'mount -o remount,bind,ro "{there}"')

        lines += [f"ln -s usr/{name} {root}/{name}" for name in ("bin", "sbin", "lib", "lib64")]
        for path in _SYSTEM:
            bind(path, path)
        lines.append(f"mount --bind {self._work}/hosts {root}/etc/hosts")
        user, env, workdir = "65534:65534", {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/"}, "/"
        if "build" in service or service.get("pull_policy") == "never":
            image = self._image(service["image"])
            user, workdir = image["USER"], image["WORKDIR"]
            env |= {key: value.replace("$PATH", env["PATH"]) for key, value in image["ENV"].items()}
            bind(self._programs, "/opt/venv/bin")
            bind(SOURCE, "/opt/src")
            bind(sysconfig.get_path("purelib"), "/opt/deps")
            bind(self._work / "app", "/app")
        for config in service.get("configs", []):
            file = self._folder / self.document["configs"][config["source"]]["file"]
            lines.append(f'mount --bind "{file}" "{root}{config["target"]}"')
        for volume in service.get("volumes", []):
            name, there = volume.split(":")[:2]
            kept: Path = self._folder / name if name.startswith(".") else self._volume(name)
            lines.append(f"mkdir -p {root}{there} 2>/dev/null || true")
            lines.append(f'mount --bind "{kept}" "{root}{there}"')
        for target in service.get("tmpfs", []):
            lines += [f"mkdir -p {root}{target}", f"mount -t tmpfs -o mode=1777 none {root}{target}"]
        if service.get("read_only"):
            lines.append(f"mount -o remount,ro {root}")
        given = {key: value for key, value in service.get("environment", {}).items() if value is not None}
        passed = {key for key, value in service.get("environment", {}).items() if value is None}
        env |= given | {key: self._env[key] for key in passed if key in self._env}
        uid, gid = user.split(":")
        words = ["exec", "chroot", str(root), "/usr/bin/setpriv", f"--reuid={uid}", f"--regid={gid}"]
        words += ["--clear-groups", "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", "--"]
        words += ["/usr/bin/env", "-i", f"--chdir={workdir}", *(f"{k}={v}" for k, v in env.items()), *argv]
        lines.append(shlex.join(words))
        return "\n".join(lines)

    def _rabbitmq_script(self, service: Mapping[str, Any]) -> str:
        given = service.get("environment", {})
        settings = RabbitSettings(
            "0.0.0.0",
            5672,
            self._work / "rabbitmq",
            user=given.get("RABBITMQ_DEFAULT_USER", "guest"),
            password=given.get("RABBITMQ_DEFAULT_PASS", "guest"),
            plugins=("rabbitmq_prometheus",),
        )
        env = prepare(settings)
        if settings.user == "guest":  # the image lets guest in from elsewhere
            config = settings.folder / "rabbitmq.config"
            config.write_text(config.read_text().replace("[{rabbit, [", "[{rabbit, [{loopback_users, []},"))
        words = ["exec", "/usr/bin/env", "-i", *(f"{k}={v}" for k, v in env.items()), str(find_binary())]
        hosts = f"mount --make-rprivate / && mount --bind {self._work}/hosts /etc/hosts"
        return f"{hosts}\n{shlex.join(words)}"

    def _volume(self, name: str) -> Path:
        path = self._work / f"volume-{name}"
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        return path


def _programs(work: Path) -> Path:
    """The programs that the Dockerfile installs: msctl and Python."""
    folder = work / "programs"
    folder.mkdir()
    python = f"PYTHONPATH=/opt/src:/opt/deps exec {sys.base_prefix}/bin/python3"
    for name, words in {"python": "", "python3": "", "msctl": " -m msctl"}.items():
        (folder / name).write_text(f'#!/bin/sh\n{python}{words} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def _dependencies(service: Mapping[str, Any]) -> dict[str, str]:
    found = service.get("depends_on", {})
    if isinstance(found, list):
        return dict.fromkeys(found, "service_started")
    return {name: each["condition"] for name, each in found.items()}
