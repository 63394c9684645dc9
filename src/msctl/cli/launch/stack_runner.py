"""Runs the project's stack in this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from msctl.cli.launch.claim import Claim
from msctl.cli.options.global_options import GlobalOptions
from msctl.config.reading.project_ref import ENV_FILE_NAME
from msctl.control.runs import broker_folder, runs_folder
from msctl.model.project import Project
from msctl.runtime.process_life import Output, run
from msctl.runtime.reload_request import ProjectSource
from msctl.runtime.stack import Stack


def run_stack(
    options: GlobalOptions,
    project: Project,
    claim: Claim,
    names: Sequence[str],
    output: Output,
    *,
    watch: bool,
) -> None:
    """Run the stack, in the project's folder, until it stops.

    Raises the MsctlError that keeps it from starting.
    """
    options = options.absolute()

    def serve_argv(service: str, instance: str) -> Sequence[str]:
        serve = ["serve", service, "--instance", instance, "--records"]
        return [*_this_program(), *options.arguments(project.root), *serve]

    # An isolated copy has a name that does not come again, so what it keeps ends with its runtime folder.
    paths = claim.paths
    runs = paths.folder / "runs" if options.copy else runs_folder(paths, os.environ)
    broker_log = paths.folder / "broker" if options.copy else broker_folder(paths, os.environ)
    source = _project_source(options, project, watched=watch)
    if project.root is not None:
        os.chdir(project.root)  # hosted applications open files by relative paths, as commands do
    run(
        lambda clock, logs: Stack(
            project,
            source,
            paths,
            names,
            listening=claim.listening,
            runs=runs,
            broker_log=broker_log,
            clock=clock,
            logs=logs,
            serve_argv=serve_argv,
        ),
        output,
    )


def _project_source(options: GlobalOptions, project: Project, *, watched: bool) -> ProjectSource:
    """Return how a reload reads the project: from the same file, even if a nearer one appears."""
    if project.root is None:
        return ProjectSource(lambda: options.load().project, watched=watched)
    file = Path(project.source)
    env_file = project.root / ENV_FILE_NAME if options.env_file is None else options.env_file.absolute()
    same_file = replace(options, file=file)
    return ProjectSource(lambda: same_file.load().project, (file, env_file), watched)


def _this_program() -> list[str]:
    """Return the command that starts msctl; the single binary is its own interpreter."""
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "msctl"]
