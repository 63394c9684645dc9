"""Programs that tests ask whether they accept what msctl writes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

PATIENCE = 60.0
_ELSEWHERE = "/usr/sbin"  # where Debian puts daemons, not on everybody's PATH


def require(name: str) -> str:
    """The program's path. Skip the test where it is missing; on CI, which installs it, fail instead."""
    found = shutil.which(name) or shutil.which(name, path=_ELSEWHERE)
    if found is None:
        message = f"{name} is not installed; tests/support/install-tools.sh installs it on Debian."
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI must have it: {message}", pytrace=False)
        pytest.skip(message)
    return found


def accepts(command: Sequence[str], *, cwd: Path | None = None) -> str:
    """Run a program that must end with 0, and return all that it has written."""
    done = subprocess.run(
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{' '.join(command)} → {done.returncode}\n{done.stdout}"
    return done.stdout
