"""Every command line of the README, run as it stands there, in its order."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import PATIENCE
from tests.support.course import Course

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
SESSIONS = [block for block in BLOCKS if "msctl " in block]


@pytest.fixture
def shell(course: Course, tmp_path: Path) -> Course:
    """`msctl` on PATH, and the broker embedded as on a machine that has none."""
    program = tmp_path / "bin" / "msctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m msctl "$@"\n')
    program.chmod(0o755)
    course.msctl.env["PATH"] = f"{program.parent}:{course.msctl.env['PATH']}"
    course.msctl.env["MSCTL_BROKER_MODE"] = "auto"
    return course


@pytest.mark.parametrize("block", SESSIONS, ids=range(len(SESSIONS)))
def test_the_commands_of_the_readme_work_as_they_stand(shell: Course, block: str) -> None:
    """Ports are the test's own: 8080 and 8081 may be in use here."""
    script = block.replace("localhost:8080", f"localhost:{shell.gateway}")
    script = script.replace("localhost:8081", f"localhost:{shell.users}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=shell.msctl.folder,
        env=shell.msctl.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr


def test_the_two_commands_that_do_everything_are_targets_of_the_makefile() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"`?make ([a-z]+)", README):
        assert f"\n{target}:" in makefile, target
