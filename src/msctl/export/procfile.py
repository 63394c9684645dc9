"""`procfile`: a line for each service, for foreman, honcho, overmind and what else reads a Procfile."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels
from msctl.export.workloads import (
    local_services,
    machine_addresses,
    program_broker,
    secret_notices,
    workloads,
)
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode


def render(project: Project, options: ExportOptions) -> Iterator[Item]:  # noqa: ARG001 - every kind is given them
    names = {spec.name: spec.name for spec in local_services(project)}  # they are legal as they are
    labels(names)
    addresses, notices = machine_addresses(project)
    found = workloads(project, names, addresses)
    lines = []
    for workload in found:
        key = f"services.{workload.name}"
        spec = workload.spec
        if spec.oneshot:
            yield Notice(
                f"{key}.oneshot", "left out: a Procfile is ended by the first of its processes that ends"
            )
            continue
        if not spec.autostart:
            yield Notice(f"{key}.autostart", "left out: what a Procfile names is started")
            continue
        variables = {**workload.variables, **program_broker(workload, project)}
        words = ["msctl", *workload.serve(spec.host)]
        if variables:
            words = ["env", *(f"{name}={value}" for name, value in variables.items()), *words]
        lines.append(f"{workload.name}: {shlex.join(words)}\n")
        if spec.replicas > 1:
            yield Notice(f"{key}.replicas", "a line is one instance")
        if spec.depends_on:
            yield Notice(f"{key}.depends_on", "a Procfile has no order; everything starts at once")
    yield File("Procfile", "".join(lines))
    yield from notices
    yield from secret_notices(found, "foreman and honcho take them from .env")
    if project.broker.mode is not BrokerMode.EXTERNAL:
        yield Notice("broker.mode", "it runs no broker; there must be one at the broker's URL")


KIND = ExportKind("procfile", "A Procfile, for foreman, honcho and overmind", render)
