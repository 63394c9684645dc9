"""The page's scripts that need no page, under Node.js: a test file in `scripts/` for a module or two."""

from __future__ import annotations

import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.test.js"))


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's modules in a folder whose .js files are modules for Node.js too."""
    if shutil.which("node") is None:
        pytest.skip("needs Node.js")
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "package.json").write_text('{"type": "module"}')
    for file in files("msctl.dashboard").joinpath("static").iterdir():
        if file.name.endswith(".js"):
            (folder / file.name).write_bytes(file.read_bytes())
    for script in SCRIPTS:
        shutil.copy(script, folder)
    return folder


@pytest.mark.parametrize("script", [script.name for script in SCRIPTS])
def test_its_tests_pass_under_node(modules: Path, script: str) -> None:
    ran = subprocess.run(
        ["node", "--test", script], cwd=modules, capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
