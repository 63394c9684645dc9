"""The services as processes of one machine, which read the project's own msctl.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from msctl.config.value_source import Layer
from msctl.export.broker import program_secrets
from msctl.export.kind import ExportOptions, Notice
from msctl.export.workloads import Workload, machine_addresses, workloads
from msctl.model.project import Project


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
