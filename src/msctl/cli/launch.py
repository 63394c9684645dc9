"""From what the command line knows to a running stack."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msctl.cli.session import Settings
from msctl.config.reading.project_ref import ENV_FILE_NAME
from msctl.control.paths import StackPaths
from msctl.model.project import Project
from msctl.runtime.process_life import Audience, run
from msctl.runtime.reload_request import Origin
from msctl.runtime.stack import Stack


def run_stack(
    settings: Settings,
    project: Project,
    paths: StackPaths,
    names: Sequence[str],
    audience: Audience,
    *,
    watch: bool,
) -> None:
    """Run the project's stack in this process until it ends; raises what keeps it from coming up."""

    def serve_argv(service: str, instance: str) -> Sequence[str]:
        return [*_ourselves(), *settings.arguments(project.root), "serve", service, "--instance", instance]

    origin = _origin(settings, project, watched=watch)
    run(
        lambda clock, logs: Stack(
            project, origin, paths, names, clock=clock, logs=logs, serve_argv=serve_argv
        ),
        audience,
    )


def _origin(settings: Settings, project: Project, *, watched: bool) -> Origin:
    """How the project is read again: from the same file, should another be nearer or this one be gone."""
    if project.root is None:
        return Origin(lambda: settings.load().project, watched=watched)
    source = Path(project.source)
    env_file = project.root / ENV_FILE_NAME if settings.env_file is None else settings.env_file.absolute()
    again = replace(settings, file=source)
    return Origin(lambda: again.load().project, (source, env_file), watched)


def _ourselves() -> list[str]:
    """How to start this program again; as a single binary it is its own interpreter."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "msctl"]
