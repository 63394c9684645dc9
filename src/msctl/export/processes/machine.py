"""The services as processes of one machine, which read the project's own msctl.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msctl.config.value_source import Layer
from msctl.export.broker import BROKER_PORT, program_secrets
from msctl.export.kind import ExportOptions, Notice
from msctl.export.notices import discovery_notices
from msctl.export.workloads import HostPort, Workload, gateway_scheme, local_services, workloads
from msctl.model.project import Project
from msctl.model.services import listens
from msctl.model.snapshots import GATEWAY

SPARE_PORTS = range(8100, 8400)
"""Ports on one machine of services without one."""


def machine_addresses(project: Project) -> tuple[dict[str, HostPort], tuple[Notice, ...]]:
    """Return each service's address as a process of one machine: every service needs a port of its own."""
    found: dict[str, HostPort] = {}
    notices: list[Notice] = []
    specs = sorted(local_services(project), key=lambda spec: spec.name != GATEWAY)
    wanted = {spec.port for spec in specs if spec.port} | {BROKER_PORT}
    spare = (port for port in SPARE_PORTS if port not in wanted)
    taken: set[int] = set()
    for spec in specs:
        if not listens(spec):
            continue
        port = spec.port if spec.port and spec.port not in taken else next(spare)
        taken.add(port)
        found[spec.name] = HostPort(
            spec.host, port, gateway_scheme(project) if spec.name == GATEWAY else "http"
        )
        if port != spec.port:
            why = (
                f"uses port {port}, since it shares {spec.port} with another service of the stack"
                if spec.port
                else f"uses port {port}, behind the gateway"
            )
            notices.append(Notice(f"services.{spec.name}.port", why))
    return found, (*notices, *discovery_notices(project))


def machine_workloads(
    project: Project, options: ExportOptions, names: Mapping[str, str]
) -> tuple[tuple[Workload, ...], tuple[Notice, ...]]:
    """Return the services by `names`, and what is to be said of their addresses."""
    addresses, notices = machine_addresses(project)
    shared, overrides = _variables(project), _overrides(project, options)
    found = tuple(
        replace(
            workload,
            secrets=(*workload.secrets, *program_secrets(workload.spec, project)),
            optional=(),
            shared=shared,
            variables={**overrides, **workload.variables},
        )
        for workload in workloads(project, names, addresses)
    )
    return found, notices


def _variables(project: Project) -> tuple[str, ...]:
    """The variables that every process needs which reads the project's own msctl.toml: all that it names."""
    references = [*project.references, *(each for spec in project.services for each in spec.references)]
    named = [name for each in references for name in sorted(each.names)]
    return tuple(dict.fromkeys((*named, *project.dotenv)))


def _overrides(project: Project, options: ExportOptions) -> dict[str, str]:
    """The addresses that variables of the shell gave to services: msctl.toml does not know them."""
    return {
        options.sources[key].variable: spec.url
        for spec in project.services
        if spec.url is not None
        and (key := f"services.{spec.name}.url") in options.sources
        and options.sources[key].layer is Layer.VARIABLE
    }
