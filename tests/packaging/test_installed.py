"""msctl as users install it, from the built files into a clean environment: with pipx, with uvx, as one file.

An application's packages are then in an environment of its own, beside msctl.toml.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.http import request
from tests.support.ports import reserved_port

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0
OTHERS = ("3.13", "3.12", "3.11")

pytestmark = pytest.mark.long  # each installs from the package index

APP = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    return {"message": "Hello World"}
"""


@dataclass(frozen=True)
class Home:
    """A user's home: nothing of the tests' environment is on its PATH."""

    path: Path

    def run(
        self, *command: str | Path, cwd: Path | None = None, **env: str
    ) -> subprocess.CompletedProcess[str]:
        clean = {
            "PATH": f"{self.path}/.local/bin:/usr/bin:/bin",
            "HOME": str(self.path),
            **self._index(),
            **env,
        }
        return subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.path,
            env=clean,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def ok(self, *command: str | Path, cwd: Path | None = None, **env: str) -> str:
        done = self.run(*command, cwd=cwd, **env)
        assert done.returncode == 0, f"{command} → {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @staticmethod
    def _index() -> dict[str, str]:
        """Where this machine gets packages from, if it says so."""
        return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_"))}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="make dev installs it")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of pipx, uv and uvx."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    command = [str(folder / "bin" / "pip"), "install", "--quiet", "pipx", "uv"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        pytest.skip(f"pipx and uv cannot be installed here: {done.stderr.strip().splitlines()[-1]}")
    return folder / "bin"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture
def project(home: Home) -> Iterator[tuple[Path, str]]:
    """A FastAPI application without FastAPI, and the address of its gateway."""
    folder = home.path / "shop"
    folder.mkdir()
    (folder / "main.py").write_text(APP)
    with reserved_port() as gateway, reserved_port() as broker:
        (folder / "msctl.toml").write_text(
            f'[services.api]\napp = "main:app"\n[gateway]\nport = {gateway}\n[dashboard]\nenabled = false\n'
            f'[broker]\nmode = "embedded"\nurl = "amqp://guest:guest@127.0.0.1:{broker}/"\n'
        )
        yield folder, f"http://127.0.0.1:{gateway}/"


def environment(home: Home, folder: Path, python: str = sys.executable) -> Path:
    """A virtual environment with FastAPI."""
    home.ok(python, "-m", "venv", folder)
    home.ok(folder / "bin" / "python", "-m", "pip", "install", "--quiet", "fastapi")
    return folder


def serves(home: Home, msctl: list[str | Path], folder: Path, url: str, **env: str) -> None:
    try:
        home.ok(*msctl, "up", "-d", cwd=folder, **env)
        assert request(url).body == b'{"message":"Hello World"}'
        home.ok(*msctl, "send", "Hello World!", cwd=folder, **env)
        assert "Hello World!" in home.ok(*msctl, "consume", "-n", "1", cwd=folder, **env)
    finally:
        home.ok(*msctl, "down", cwd=folder, **env)


def other_python() -> str:
    """Another minor version of Python than the one that runs the tests, from PATH or pyenv."""
    for version in OTHERS:
        if version == f"3.{sys.version_info.minor}":
            continue
        built = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
        for path in (shutil.which(f"python{version}"), *map(str, built)):
            if path and not subprocess.run([path, "-c", "import ensurepip"], capture_output=True).returncode:
                return path
    pytest.skip("there is only one Python here")


def test_pipx_installs_the_command_and_finds_the_applications_packages(
    home: Home, wheel: Path, tools: Path, project: tuple[Path, str]
) -> None:
    folder, url = project
    home.ok(tools / "pipx", "install", "--python", sys.executable, wheel)
    msctl: list[str | Path] = [home.path / ".local" / "bin" / "msctl"]
    assert home.ok(*msctl, "--version").startswith("msctl ")

    missing = home.run(*msctl, "up", "-d", cwd=folder)
    assert missing.returncode == 1
    assert "No module named 'fastapi'" in missing.stderr
    assert f"install it in {folder / '.venv'}" in missing.stderr

    serves(home, msctl, folder, url, VIRTUAL_ENV=str(environment(home, home.path / "active")))
    shutil.move(home.path / "active", folder / ".venv")
    serves(home, msctl, folder, url)
    shutil.rmtree(folder / ".venv")

    foreign = environment(home, home.path / "foreign", other_python())
    refused = home.run(*msctl, "up", "-d", cwd=folder, VIRTUAL_ENV=str(foreign))
    assert refused.returncode == 1
    assert f"{foreign} is not used: it has Python 3." in refused.stderr


def test_uvx_runs_it_without_an_installation(
    home: Home, wheel: Path, tools: Path, project: tuple[Path, str]
) -> None:
    folder, url = project
    environment(home, folder / ".venv")
    msctl: list[str | Path] = [tools / "uvx", "--python", sys.executable, "--from", wheel, "msctl"]
    assert home.ok(*msctl, "--version").startswith("msctl ")
    serves(home, msctl, folder, url)


def test_one_file_finds_the_applications_packages(home: Home, project: tuple[Path, str]) -> None:
    folder, url = project
    binary = home.path / "msctl"
    subprocess.run(
        [sys.executable, ROOT / ".packaging" / "binary.py", "-o", binary], check=True, capture_output=True
    )
    environment(home, folder / ".venv")
    serves(home, [binary], folder, url)
