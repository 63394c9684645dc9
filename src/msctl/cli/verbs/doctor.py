"""`doctor`: what on this machine could keep the project from running, and what to do about it."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from msctl.cli.output.documents import write_document
from msctl.cli.output.findings import Finding, Verdict
from msctl.cli.session import Settings
from msctl.control.paths import StackPaths, base_folder, is_locked
from msctl.errors import ExitCode, MsctlError
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode

FEW_FILES = 1024
ENGINE_TIMEOUT = 10.0


def doctor(
    ctx: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", envvar="MSCTL_DOCTOR_JSON", help="As JSON.")] = False,
) -> None:
    """Check the configuration, ports, broker, container engine, limits and Python.

    Exit code 1 if something would keep the project from running.
    """
    found = list(_findings(ctx.obj))
    if as_json:
        write_document("doctor", found)
    else:
        from msctl.cli.output.tables import finding_lines, show

        show(finding_lines(found))
    if any(finding.verdict is Verdict.FAIL for finding in found):
        raise typer.Exit(int(ExitCode.FAILED))


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", Verdict.OK, f"{sys.version.split()[0]} ({sys.executable})")
    try:
        project = settings.load().project
        _, paths = settings.identify()
    except MsctlError as error:
        yield Finding("configuration", Verdict.FAIL, error.message, error.hint or "")
    else:
        yield Finding(
            "configuration",
            Verdict.OK,
            f"{project.source}: {len(project.services)} services of {project.name!r}",
        )
        yield from _ports(project, paths)
        yield from _certificate(project)
        yield _broker(project)
    yield _rabbitmq()
    yield _engine()
    yield _files()
    yield _folder()


def _ports(project: Project, paths: StackPaths) -> Iterator[Finding]:
    from msctl.errors import PortTakenError
    from msctl.model.address import Address
    from msctl.ports import probe_free

    if is_locked(paths):
        yield Finding("ports", Verdict.OK, "the stack of this project is running and has its ports")
        return
    for address, name in sorted(
        {(Address(s.host, s.port), s.name) for s in project.services if s.port and s.url is None}
    ):
        try:
            probe_free(address, name)
        except PortTakenError as error:
            yield Finding(f"port {address.port}", Verdict.FAIL, error.message, error.hint or "")
        except MsctlError as error:
            yield Finding(f"port {address.port}", Verdict.FAIL, error.message, error.hint or "")
        else:
            yield Finding(f"port {address.port}", Verdict.OK, f"free for {name}")


def _certificate(project: Project) -> Iterator[Finding]:
    """What the gateway would show to clients; nothing is made for it."""
    from datetime import UTC, datetime

    from msctl.tls.authority import Authority, data_folder
    from msctl.tls.context import load

    if project.gateway is None or not project.gateway.tls.enabled:
        return
    try:
        if project.gateway.tls.dev:
            authority = Authority(data_folder(os.environ)).file
            yield Finding("certificate", Verdict.OK, f"from the local authority, {authority}")
            return
        certificate = load(project.gateway.tls, project.source)
    except MsctlError as error:
        yield Finding("certificate", Verdict.FAIL, error.message, error.hint or "")
        return
    warning = certificate.validity_warning(datetime.now(UTC))
    verdict = Verdict.OK if warning is None else Verdict.NOTE
    yield Finding(
        "certificate", verdict, warning or f"{certificate.path}, until {certificate.not_after:%Y-%m-%d}"
    )


def _broker(project: Project) -> Finding:
    from msctl.amqp.probe import speaks_amqp
    from msctl.amqp.url import redact

    spec = project.broker
    url = redact(spec.url)
    if asyncio.run(speaks_amqp(spec.url)):
        return Finding("broker", Verdict.OK, f"{url} speaks AMQP")
    if spec.mode is BrokerMode.EXTERNAL:
        return Finding(
            "broker",
            Verdict.NOTE,
            f"nothing that speaks AMQP answers at {url}",
            'start a broker there, or let the stack run one: [broker] mode = "local"',
        )
    return Finding("broker", Verdict.OK, f"mode {spec.mode.value}: the stack provides it at {url}")


def _rabbitmq() -> Finding:
    from msctl.brokers.rabbitmq_files import find_binary

    try:
        return Finding("rabbitmq-server", Verdict.OK, str(find_binary()))
    except MsctlError as error:
        return Finding("rabbitmq-server", Verdict.NOTE, error.message, error.hint or "")


def _engine() -> Finding:
    advice = "only broker.mode = docker and exported container files need one"
    for program in ("docker", "podman"):
        if shutil.which(program) is None:
            continue
        try:
            done = subprocess.run(  # noqa: S603 - a fixed command line
                [program, "info"], capture_output=True, timeout=ENGINE_TIMEOUT, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return Finding("container engine", Verdict.OK, program)
        return Finding(
            "container engine", Verdict.NOTE, f"{program} is installed, but no engine answers", advice
        )
    return Finding("container engine", Verdict.NOTE, "none found", advice)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > FEW_FILES:
        return Finding("open files", Verdict.OK, f"limit {soft}")
    advice = "" if hard == soft else f"for more than a few hundred connections: ulimit -n {hard}"
    return Finding("open files", Verdict.NOTE, f"limit {soft}", advice)


def _folder() -> Finding:
    folder = base_folder(os.environ)
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        return Finding("runtime folder", Verdict.OK, str(folder))
    return Finding(
        "runtime folder",
        Verdict.FAIL,
        f"{folder} cannot be written",
        "set MSCTL_RUNTIME_DIR to a folder that you can write to",
    )
