"""`procfile`: one line per service, for foreman, honcho and overmind."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from msctl.export.broker import program_broker
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels
from msctl.export.notices import value_notices
from msctl.export.processes.machine import machine_workloads
from msctl.export.workloads import local_services
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    names = {spec.name: spec.name for spec in local_services(project)}  # every name is valid in a Procfile
    labels(names)
    found, notices = machine_workloads(project, options, names)
    lines = []
    for workload in found:
        key = f"services.{workload.name}"
        spec = workload.spec
        if spec.oneshot:
            yield Notice(
                f"{key}.oneshot", "left out: a process manager stops everything when one process exits"
            )
            continue
        if not spec.autostart:
            yield Notice(f"{key}.autostart", "left out: everything in a Procfile is started")
            continue
        variables = {**workload.variables, **program_broker(workload.spec, project)}
        words = ["msctl", *workload.serve(spec.host)]
        if variables:
            words = ["env", *(f"{name}={value}" for name, value in variables.items()), *words]
        lines.append(f"{workload.name}: {shlex.join(words)}\n")
        if spec.replicas > 1:
            yield Notice(f"{key}.replicas", "a line is one instance")
        if spec.env_file:
            yield Notice(f"{key}.env_file", "foreman and honcho read .env alone; copy its variables there")
        if spec.stop_signal != "SIGTERM":
            yield Notice(f"{key}.stop_signal", "process managers send SIGTERM")
        if spec.health is not None:
            yield Notice(f"{key}.health", "a Procfile has no health checks")
        if spec.max_restarts is not None or spec.restart_window is not None:
            yield Notice(f"{key}.max_restarts", "process managers restart nothing")
        if spec.depends_on:
            yield Notice(f"{key}.depends_on", "a Procfile has no order: everything starts at once")
    yield File("Procfile", "".join(lines))
    yield from notices
    yield from value_notices(project, options, found, "foreman and honcho read them from .env")
    if project.broker.mode is not BrokerMode.EXTERNAL:
        yield Notice("broker.mode", "it runs no broker: start one at the broker's URL")


KIND = ExportKind("procfile", "A Procfile, for foreman, honcho and overmind", render)
