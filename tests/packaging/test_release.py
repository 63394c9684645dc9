"""What `make release` builds: the files, what is in them, and what keeps them from being a release."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EPOCH = "1700000000"


def build(target: str, out: Path) -> Path:
    """A wheel or an sdist, as `make release` builds it."""
    pytest.importorskip("hatchling", reason="make dev installs it")
    subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "-t", target, "-d", str(out)],
        cwd=ROOT,
        env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH},
        check=True,
        capture_output=True,
    )
    (built,) = out.iterdir()
    return built


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_wheel_has_the_command_the_fixture_and_every_file_of_the_package(tmp_path: Path) -> None:
    wheel = build("wheel", tmp_path / "dist")
    assert wheel.name.startswith("microservice_ctl-")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
        (metadata,) = (name for name in packed if name.endswith(".dist-info/METADATA"))
        points = archive.read(metadata.replace("METADATA", "entry_points.txt")).decode()
        fields = Parser().parsestr(archive.read(metadata).decode())
    package = ROOT / "src" / "msctl"
    expected = {f"msctl/{path.relative_to(package)}" for path in package.rglob("*") if path.is_file()}
    assert not {name for name in expected if "__pycache__" not in name} - packed
    assert "msctl = msctl.__main__:main" in points
    assert "msctl.testing" in points
    assert fields["Requires-Python"] == ">=3.11"


def test_wheel_can_be_built_from_the_sdist(tmp_path: Path) -> None:
    sdist = build("sdist", tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("microservice_ctl-*")
    assert {"RELEASING.md", "SECURITY.md", "CHANGELOG.md", "tests", "docs"} <= names(source)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "again")],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((tmp_path / "again").iterdir())) as archive:
        assert "msctl/course.toml" in archive.namelist()


def test_same_commit_gives_the_same_wheel(tmp_path: Path) -> None:
    first, second = (build("wheel", tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()


def test_final_release_refuses_a_tree_that_is_none(tmp_path: Path) -> None:
    tree = tmp_path / "clone"
    shutil.copytree(ROOT / ".packaging", tree / ".packaging")
    for name in ("pyproject.toml", "constraints.txt", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree)
    (tree / "src" / "msctl").mkdir(parents=True)
    (tree / "src" / "msctl" / "__init__.py").write_text('__version__ = "99.0.0"\n')
    done = subprocess.run(
        [sys.executable, str(tree / ".packaging" / "release.py"), "--final"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no git checkout" in done.stderr
    assert "no section 99.0.0" in done.stderr
    assert not (tree / "dist").exists()


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    done = subprocess.run(
        [sys.executable, str(ROOT / ".packaging" / "release.py"), "-o", str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, names(tmp_path)) == (1, {"mine"})
    assert f"{tmp_path} exists" in done.stderr
