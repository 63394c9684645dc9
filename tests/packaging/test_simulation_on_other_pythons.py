"""A simulated run is the same to the byte on every version of Python that is installed here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = ("3", "7")
MARK = "# Development"

pytestmark = pytest.mark.long


def digests(python: str, folder: Path) -> list[str]:
    found = []
    for seed in SEEDS:
        command = [python, "-m", "msctl", "sim", "--json", "--faults", "all", "--seed", seed]
        env = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
        found.append(json.loads(done.stdout)["data"]["digest"])
    return found


def works(python: str) -> bool:
    """Whether it runs: a shim of pyenv may stand for a version that is not chosen."""
    return subprocess.run([python, "-c", ""], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("minor", [12, 13, 14])
def test_another_version_of_python_has_the_same_hashes(minor: int, tmp_path: Path) -> None:
    if sys.version_info[1] == minor:
        pytest.skip("it is this one")
    python = shutil.which(f"python3.{minor}")
    if python is None or not works(python):
        pytest.skip(f"Python 3.{minor} is not installed")
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    runtime = (ROOT / "constraints.txt").read_text().partition(MARK)[0]
    (tmp_path / "runtime.txt").write_text(runtime)
    other = str(tmp_path / "venv" / "bin" / "python")
    pip = [other, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(tmp_path / "runtime.txt")]
    subprocess.run(pip, check=True, capture_output=True, timeout=600)
    shop = [sys.executable, "-m", "msctl", "init", "shop", "--example", "shop"]
    subprocess.run(shop, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert digests(other, tmp_path / "shop") == digests(sys.executable, tmp_path / "shop")
