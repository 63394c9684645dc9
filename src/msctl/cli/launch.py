"""From what the command line knows to a running stack."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from msctl.cli.session import Settings
from msctl.control.paths import StackPaths
from msctl.life import Audience, run
from msctl.specs import Project
from msctl.stack import Stack


def run_stack(
    settings: Settings, project: Project, paths: StackPaths, names: Sequence[str], audience: Audience
) -> None:
    """Run the project's stack in this process until it ends; raises what keeps it from coming up."""

    def serve_argv(service: str, instance: str) -> Sequence[str]:
        return [*_ourselves(), *settings.arguments(project.root), "serve", service, "--instance", instance]

    run(
        lambda clock, logs: Stack(project, paths, names, clock=clock, logs=logs, serve_argv=serve_argv),
        audience,
    )


def _ourselves() -> list[str]:
    """How to start this program again; as a single binary it is its own interpreter."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "msctl"]
