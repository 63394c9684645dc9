"""Checks of the machine: Python, broker binary, container engine, limits, runtime folder."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator

from msctl.cli.output.check_result import CheckResult, CheckVerdict
from msctl.control.paths import base_folder
from msctl.errors import MsctlError

FEW_FILES = 1024
ENGINE_TIMEOUT_S = 10.0


def check_python() -> CheckResult:
    return CheckResult("python", CheckVerdict.OK, f"{sys.version.split()[0]} ({sys.executable})")


def check_machine() -> Iterator[CheckResult]:
    """Check what does not depend on the project."""
    yield _rabbitmq()
    yield _engine()
    yield _open_files()
    yield _runtime_folder()


def _rabbitmq() -> CheckResult:
    from msctl.brokers.rabbitmq_files import find_binary

    try:
        return CheckResult("rabbitmq-server", CheckVerdict.OK, str(find_binary()))
    except MsctlError as error:
        return CheckResult("rabbitmq-server", CheckVerdict.NOTE, error.message, error.hint or "")


def _engine() -> CheckResult:
    advice = "only broker.mode = docker and exported container files need one"
    for program in ("docker", "podman"):
        if shutil.which(program) is None:
            continue
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command line
                [program, "info"], capture_output=True, timeout=ENGINE_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return CheckResult("container engine", CheckVerdict.OK, program)
        return CheckResult(
            "container engine", CheckVerdict.NOTE, f"{program} is installed, but its engine is down", advice
        )
    return CheckResult("container engine", CheckVerdict.NOTE, "none found", advice)


def _open_files() -> CheckResult:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > FEW_FILES:
        return CheckResult("open files", CheckVerdict.OK, f"limit {soft}")
    advice = "" if hard == soft else f"for more than a few hundred connections: ulimit -n {hard}"
    return CheckResult("open files", CheckVerdict.NOTE, f"limit {soft}", advice)


def _runtime_folder() -> CheckResult:
    folder = base_folder(os.environ)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return CheckResult("runtime folder", CheckVerdict.OK, str(folder))
    return CheckResult(
        "runtime folder",
        CheckVerdict.FAIL,
        f"cannot write to {folder}",
        "set MSCTL_RUNTIME_DIR to a folder that you can write to",
    )
