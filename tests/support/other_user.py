"""A second, unprivileged user of the machine, for tests of what such a user must not achieve."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

UID = 65534
"""`nobody`: on every system, and without files of its own."""

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as a second user")


def give(*paths: Path) -> None:
    """Make files and folders the other user's."""
    for path in paths:
        os.chown(path, UID, UID, follow_symlinks=False)


def run(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Run Python source as the other user, without the environment of the tests."""
    for interpreter in (sys.executable, "/usr/bin/python3"):  # the first may be in root's home
        try:
            return subprocess.Popen(
                [interpreter, "-I", "-S", "-c", program, *arguments],
                user=UID,
                group=UID,
                extra_groups=[],
                env={"PATH": os.environ["PATH"]},
                cwd="/",
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        except (PermissionError, FileNotFoundError):
            continue
    pytest.skip("no Python that another user can run")
