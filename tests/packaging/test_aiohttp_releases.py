"""msctl runs with every release of aiohttp that pyproject.toml allows: the oldest, and the newest there is.

The suite itself runs with the release of constraints.txt. aiohttp shares its environment with hosted
applications, so it has no upper bound, and what is not in its documentation may change: the parser's
strictness, and what hosting/aiohttp_app.py knows of its server side.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONCERNED = [
    "tests/unit/http/test_parser.py",
    "tests/unit/http/test_server.py",
    "tests/unit/hosting/test_aiohttp_app.py",
]

pytestmark = pytest.mark.long


def requirement() -> str:
    """Return what pyproject.toml says of aiohttp, such as aiohttp>=3.14.4."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [found] = [line for line in project["dependencies"] if line.startswith("aiohttp>=")]
    return str(found)


@pytest.mark.parametrize("which", ["oldest", "newest", "newest, with pre-releases"])
def test_msctl_runs_with_the_release(which: str, tmp_path: Path) -> None:
    wanted = requirement().replace(">=", "==").partition(",")[0] if which == "oldest" else requirement()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(tmp_path), wanted]
    installed = subprocess.run(
        [*pip, *(["--pre"] if "pre" in which else [])], capture_output=True, text=True, timeout=300
    )
    if installed.returncode and "CI" not in os.environ:
        pytest.skip(f"pip cannot install {wanted}: {installed.stderr[-200:]}")
    assert installed.returncode == 0, installed.stderr

    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "src")])}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:randomly", *CONCERNED],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    print_version = [sys.executable, "-c", "import aiohttp; print(aiohttp.__file__)"]
    used = subprocess.run(print_version, env=env, capture_output=True, text=True, check=True, timeout=60)
    assert used.stdout.startswith(str(tmp_path))
