"""A shell can parse every script of the exported pipelines."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import yaml

from msctl.export import ExportOptions, export
from msctl.model.project import Project
from tests.unit.export import projects


def pipeline(project: Project, options: ExportOptions | None = None) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(export("gitlab-ci", project, options).files[0].text)
    return found


def scripts() -> list[str]:
    found = pipeline(projects.shop())
    steps = [
        found[job][part]
        for job in ("check", "build", "deploy")
        for part in ("before_script", "script")
        if part in found[job]
    ]
    text = export("jenkins", projects.shop()).files[0].text
    return ["\n".join(step) for step in steps] + text.split("'''")[1::2]


@pytest.mark.parametrize("script", scripts())
def test_every_script_is_valid_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n"], input=script, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
