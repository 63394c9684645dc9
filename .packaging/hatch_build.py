"""Writes the commit of the build into every wheel, for `msctl --version` (msctl/cli/version.py)."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):
    """Runs for wheels only: the commit of an editable installation changes."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable" or not Path(self.root, ".git").exists():
            return
        command = ["git", "-C", self.root, "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        except OSError:  # no git here
            return
        if done.returncode == 0:
            self._folder = tempfile.TemporaryDirectory()
            stamp = Path(self._folder.name, "COMMIT")
            stamp.write_text(done.stdout)
            build_data["force_include"][str(stamp)] = "msctl/COMMIT"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if (folder := getattr(self, "_folder", None)) is not None:
            folder.cleanup()
