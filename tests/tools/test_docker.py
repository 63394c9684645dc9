"""The Dockerfile, step by step: built by buildah, and its image run as a container runs it.

The base image is this machine's own /usr under the name that the Dockerfile asks for, because no
registry can be reached; so is msctl's wheel installed without its dependencies, which are mounted.
What this cannot show is the size of the real image.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msctl.cli.lock_files import lock_files
from msctl.config.reading.load import load
from msctl.export import ExportOptions, export
from msctl.export.containers.docker import PYTHON, WHEEL
from msctl.export.containers.images import ALPINE, NODE
from msctl.export.containers.images import GO as GO_VERSION
from msctl.model.tls_spec import TlsSpec
from tests.support import tools
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.unit.export import projects

SOURCE = Path(__file__).parents[2]


ACCOUNTS = ("passwd", "group", "shadow", "gshadow", "login.defs", "ld.so.cache", "nsswitch.conf", "pam.d")


class Buildah:
    """buildah with storage of its own, and this machine's programs within every container."""

    def __init__(self, folder: Path) -> None:
        program = tools.require("buildah")
        self._command = [program, "--root", str(folder / "root"), "--runroot", str(folder / "run")]
        self._command += ["--storage-driver", "vfs"]
        # What is mounted lies where it is on this machine, so that links within it hold.
        self.mounts = [f"--volume={path}:{path}:ro" for path in ("/usr", sys.base_prefix)]
        self.mounts.append(f"--volume={sysconfig.get_path('purelib')}:/deps:ro")

    def command(self, *args: str) -> list[str]:
        return [*self._command, *args]

    def __call__(self, *args: str, cwd: Path | None = None) -> str:
        done = subprocess.run(self.command(*args), cwd=cwd, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, (
            f"buildah {' '.join(args)} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done.stdout.strip()

    def run(self, container: str, port: int, *command: str) -> list[str]:
        return self.command(
            "run", "--isolation", "chroot", "--env", f"PORT={port}", *self.mounts, container, "--", *command
        )


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Buildah, str]]:
    """buildah, and a container of the image that the course's Dockerfile has built."""
    if os.geteuid() != 0:
        pytest.skip("buildah's chroot isolation is tried as root alone")
    folder = tmp_path_factory.mktemp("buildah")
    buildah = Buildah(folder)
    base = buildah("from", "scratch")
    root = Path(buildah("mount", base))
    for name in ("usr", "etc", "tmp", "deps", "opt", "proc", "sys", "dev", sys.base_prefix.lstrip("/")):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    for name in ACCOUNTS:
        with suppress(FileNotFoundError):
            copy = shutil.copytree if Path("/etc", name).is_dir() else shutil.copy2
            copy(f"/etc/{name}", root / "etc" / name)
    path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/usr/sbin"
    settings = {"PATH": path, "PYTHONPATH": "/deps", "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1"}
    buildah("config", *(f"--env={name}={value}" for name, value in settings.items()), base)
    buildah("commit", "-q", base, f"docker.io/library/python:{PYTHON}-slim")

    context = folder / "context"
    context.mkdir()
    for file in export("docker", projects.course()).files:
        (context / file.path).write_text(file.text)
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        "wheels",
        str(SOURCE),
    ]
    subprocess.run(wheel, cwd=context, check=True, capture_output=True, timeout=300)
    assert (context / WHEEL).is_file()
    build = ["bud", "--pull-never", "--isolation", "chroot", "--format", "docker", *buildah.mounts]
    buildah(*build, "-t", "course", ".", cwd=context)
    yield buildah, buildah("from", "--pull-never", "localhost/course")


def test_the_image_is_not_root_has_a_health_check_and_serves(image: tuple[Buildah, str]) -> None:
    buildah, _ = image
    document = json.loads(buildah("inspect", "--type", "image", "localhost/course"))
    config: dict[str, Any] = document["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert (config["Entrypoint"], config["Cmd"]) == (["msctl"], ["serve", "hello"])
    assert config["Healthcheck"]["Test"][:3] == ["CMD", "python", "-c"]
    assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}


def test_container_serves_and_its_health_check_follows(image: tuple[Buildah, str]) -> None:
    buildah, container = image
    document = json.loads(buildah("inspect", "--type", "image", "localhost/course"))
    check = document["Docker"]["config"]["Healthcheck"]["Test"][1:]
    with reserved_port() as port:
        sick = subprocess.run(buildah.run(container, port, *check), capture_output=True, timeout=60)
        assert sick.returncode != 0
        serving = subprocess.Popen(
            buildah.run(container, port, "msctl", "serve", "users"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while True:
                assert serving.poll() is None, serving.communicate()[0].decode()
                well = subprocess.run(buildah.run(container, port, *check), capture_output=True, timeout=60)
                if well.returncode == 0:
                    break
            assert request(f"http://127.0.0.1:{port}/users").body.startswith(b'[{"id":1')
        finally:
            serving.terminate()
            serving.communicate(timeout=60)


@pytest.mark.parametrize("key", ["key.pem", "tls/a [1]*.key", "!key.pem", "#key.pem"])
def test_the_gateways_private_key_is_not_in_the_image(
    image: tuple[Buildah, str], key: str, tmp_path: Path
) -> None:
    buildah, _ = image
    shop = replace(projects.shop(), root=tmp_path)
    assert shop.gateway is not None
    cert = tmp_path / "cert.pem"
    tls = TlsSpec(cert, tmp_path / key)
    exported = export("docker", replace(shop, gateway=replace(shop.gateway, tls=tls)))
    for path in (cert, tmp_path / key, tmp_path / "tls/a 1x.key"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    ignored = tmp_path / "Dockerfile.dockerignore"
    ignored.write_text(next(file.text for file in exported.files if file.path == ignored.name))
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    buildah("bud", "--isolation", "chroot", f"--ignorefile={ignored}", "-t", "probe", ".", cwd=tmp_path)
    root = Path(buildah("mount", buildah("from", "--pull-never", "localhost/probe")))
    assert not (root / key).exists()
    assert (root / "cert.pem").exists()
    assert (root / "tls/a 1x.key").exists()
    assert "gateway.tls.key" in [notice.key for notice in exported.notices]


POLYGLOT = """
[services.web]
command = "node web/server.mjs"
port = 8082
[services.api]
command = "go run ./api -greet hello"
port = 8083
[gateway]
enabled = false
"""
GO = 'package main\nimport ("fmt"; "os")\nfunc main() { fmt.Println(os.Args[1:]) }\n'


def built(buildah: Buildah, folder: Path, name: str) -> tuple[dict[str, Any], Path]:
    """Build the image of one service of the polyglot project; its configuration and its files."""
    base = f"docker.io/library/python:{PYTHON}-slim"
    for image in (f"node:{NODE}-slim", f"golang:{GO_VERSION}", f"alpine:{ALPINE}"):
        buildah("tag", base, f"docker.io/library/{image}")
    package = {"name": "web", "version": "1.0.0"}
    lock = {**package, "lockfileVersion": 3, "requires": True, "packages": {"": package}}
    written = {
        "msctl.toml": POLYGLOT,
        "web/package.json": json.dumps(package),
        "web/package-lock.json": json.dumps(lock),
        "web/server.mjs": "",
        "go.mod": "module example/shop\n\ngo 1.19\n",
        "api/main.go": GO,
    }
    for path, text in written.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text)
    project = load(cwd=folder, env={}).project
    for file in export("docker", project, ExportOptions(lock_files=lock_files(project))).files:
        (folder / file.path).write_text(file.text)
    go = ["--env=GOCACHE=/tmp/go", "--env=GOFLAGS=-buildvcs=false", "--env=GOPATH=/tmp/gopath"]
    build = ["bud", "--pull-never", "--isolation", "chroot", "--format", "docker", *buildah.mounts, *go]
    buildah(*build, "-t", name, "-f", f"Dockerfile.{name}", ".", cwd=folder)
    config = json.loads(buildah("inspect", "--type", "image", f"localhost/{name}"))["Docker"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Healthcheck"]["Test"][0] == "CMD"
    return config, Path(buildah("mount", buildah("from", "--pull-never", f"localhost/{name}")))


def test_a_service_in_node_has_an_image_with_what_its_lock_file_names(
    image: tuple[Buildah, str], tmp_path: Path
) -> None:
    for program in ("node", "npm"):
        tools.require(program)
    config, root = built(image[0], tmp_path, "web")
    assert config["Cmd"] == ["node", "web/server.mjs"]
    assert (root / "app/web/server.mjs").is_file()


@pytest.mark.long
def test_a_service_in_go_has_an_image_with_its_program_alone(
    image: tuple[Buildah, str], tmp_path: Path
) -> None:
    tools.require("go")
    config, root = built(image[0], tmp_path, "api")
    assert config["Cmd"] == ["/usr/local/bin/api", "-greet", "hello"]
    # Run without a container, where this machine's /usr would lie over it.
    done = subprocess.run([root / "usr/local/bin/api", "x"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[x]\n"
