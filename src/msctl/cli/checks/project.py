"""Checks of the project: configuration, programs, ports, certificate, broker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

from msctl.cli.options.global_options import GlobalOptions
from msctl.cli.output.check_result import CheckResult, CheckVerdict
from msctl.control.paths import StackPaths, is_locked
from msctl.errors import MsctlError
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode


def check_project(options: GlobalOptions) -> Iterator[CheckResult]:
    """Check what the project needs; only the configuration if that is invalid."""
    try:
        project = options.load().project
        _, paths = options.identify()
    except MsctlError as error:
        yield CheckResult("configuration", CheckVerdict.FAIL, error.message, error.hint or "")
        return
    yield CheckResult(
        "configuration",
        CheckVerdict.OK,
        f"{project.source}: project {project.name!r} with {len(project.services)} services",
    )
    yield from _programs(project)
    yield from _ports(project, paths)
    yield from _certificate(project)
    yield from _definitions(project)
    yield from _dashboard(project)
    yield from _registry(project)
    yield _broker(project)


def _programs(project: Project) -> Iterator[CheckResult]:
    """Check that the program of each command exists; one with a variable in its name is not known yet."""
    from msctl.model.services import shell_advice
    from msctl.processes.child import SpawnError, find_program, program_beside

    for spec in project.services:
        if spec.command is None or spec.url is not None or "$" in spec.command[0]:
            continue
        if spec.shell_operator is not None:
            yield CheckResult(f"command of {spec.name}", CheckVerdict.NOTE, shell_advice(spec))
        name, folder = spec.command[0], spec.cwd or project.root or Path.cwd()
        check = f"program {name}"
        try:
            found = find_program(name, spec.env.get("PATH", os.environ.get("PATH")), folder)
        except SpawnError as error:
            verdict = CheckVerdict.FAIL if spec.autostart else CheckVerdict.NOTE
            advice = "install it, or correct the command or PATH"
            yield CheckResult(check, verdict, f"{error}; service {spec.name!r} needs it", advice)
        else:
            beside = None if "/" in name else program_beside(name, folder)
            if beside is None or (folder / beside).parent.resolve() == Path(found).parent.resolve():
                yield CheckResult(check, CheckVerdict.OK, f"{found}, for service {spec.name!r}")
                continue
            detail = f"{found}, for service {spec.name!r}, without the packages of {Path(beside).parents[1]}"
            advice = f"write {beside}, or activate that environment before: msctl up"
            yield CheckResult(check, CheckVerdict.NOTE, detail, advice)


def _ports(project: Project, paths: StackPaths) -> Iterator[CheckResult]:
    from msctl.model.address import Address
    from msctl.ports import probe_free

    if is_locked(paths):
        yield CheckResult("ports", CheckVerdict.OK, "in use by this project's running stack")
        return
    for address, name in sorted(
        {(Address(s.host, s.port), s.name) for s in project.services if s.port and s.url is None}
    ):
        try:
            probe_free(address, name)
        except MsctlError as error:
            yield CheckResult(f"port {address.port}", CheckVerdict.FAIL, error.message, error.hint or "")
        else:
            yield CheckResult(f"port {address.port}", CheckVerdict.OK, f"free for {name}")


def _certificate(project: Project) -> Iterator[CheckResult]:
    """Check the gateway's certificate, without issuing one."""
    from datetime import UTC, datetime

    from msctl.tls.authority import Authority, data_folder
    from msctl.tls.context import gateway_endpoint, load

    endpoint = gateway_endpoint(project)
    if endpoint is None:
        return
    try:
        if endpoint.spec.dev:
            authority = Authority(data_folder(os.environ)).file
            yield CheckResult("certificate", CheckVerdict.OK, f"issued by the local authority, {authority}")
            return
        certificate = load(endpoint, project.source)
    except MsctlError as error:
        yield CheckResult("certificate", CheckVerdict.FAIL, error.message, error.hint or "")
        return
    warning = certificate.validity_warning(datetime.now(UTC))
    verdict = CheckVerdict.OK if warning is None else CheckVerdict.NOTE
    yield CheckResult(
        "certificate", verdict, warning or f"{certificate.path}, valid until {certificate.not_after:%Y-%m-%d}"
    )


def _definitions(project: Project) -> Iterator[CheckResult]:
    """Check the definitions of the embedded broker."""
    if project.broker.definitions is None:
        return
    from msctl.model.broker_url import parse_url
    from msctl.runtime.definitions_file import read_definitions

    try:
        found = read_definitions(project, parse_url(project.broker.url, any_port=True))
    except MsctlError as error:
        yield CheckResult("definitions", CheckVerdict.FAIL, error.message, error.hint or "")
        return
    warnings = [] if found is None else found[1].warnings
    more = f" (and {len(warnings) - 1} more)" if len(warnings) > 1 else ""
    yield CheckResult(
        "definitions",
        CheckVerdict.NOTE if warnings else CheckVerdict.OK,
        f"{warnings[0]}{more}" if warnings else f"{project.broker.definitions.name} can be loaded",
    )


def _dashboard(project: Project) -> Iterator[CheckResult]:
    """Point out a dashboard that every user of the machine can open."""
    spec = project.dashboard
    if spec.enabled and not spec.token and spec.password is None:
        yield CheckResult(
            "dashboard",
            CheckVerdict.NOTE,
            "open to every user of this machine: [dashboard] token = false",
            "remove the key, or set a password",
        )


def _registry(project: Project) -> Iterator[CheckResult]:
    """Ask the registry as a stack does, without registering anything."""
    if project.discovery.url is None:
        return
    from msctl.model.registry_url import parse_registry_url
    from msctl.runtime.machines import registry_problem

    shown = parse_registry_url(project.discovery.url).shown
    try:
        problem = asyncio.run(registry_problem(project))
    except MsctlError as error:
        yield CheckResult("registry", CheckVerdict.FAIL, error.message, error.hint or "")
        return
    if problem is None:
        yield CheckResult("registry", CheckVerdict.OK, f"{shown} answers")
    else:
        advice = "a stack starts without it, and asks again and again"
        yield CheckResult("registry", CheckVerdict.NOTE, f"{shown} {problem}", advice)


def _broker(project: Project) -> CheckResult:
    from msctl.amqp.probe import AmqpServer, amqp_server
    from msctl.model.broker_url import redact
    from msctl.model.services import has_default_broker_url

    spec = project.broker
    url = redact(spec.url)
    server = asyncio.run(amqp_server(spec.url))
    if server is AmqpServer.EMBEDDED and spec.mode is BrokerMode.AUTO and has_default_broker_url(spec):
        return CheckResult(
            "broker", CheckVerdict.OK, f"a stack has its broker at {url}; others embed theirs on a free port"
        )
    if server is not AmqpServer.NONE:
        return CheckResult("broker", CheckVerdict.OK, f"an AMQP broker answers at {url}")
    if spec.mode is BrokerMode.EXTERNAL:
        return CheckResult(
            "broker",
            CheckVerdict.NOTE,
            f"no AMQP broker answers at {url}",
            'start one there, or let the stack run one: [broker] mode = "local"',
        )
    return CheckResult("broker", CheckVerdict.OK, f"mode {spec.mode.value}: the stack provides it at {url}")
