"""Exports a project: the files with which other tools run it.

Pure: takes a resolved Project, returns files and notices; the caller writes them.
"""

from __future__ import annotations

from msctl.errors import UsageError
from msctl.export import rabbitmq
from msctl.export.ci import gitlab_ci, jenkins
from msctl.export.containers import compose, docker, helm, kubernetes
from msctl.export.kind import Exported, ExportError, ExportKind, ExportOptions, File, Notice, collect
from msctl.export.monitoring import grafana, prometheus
from msctl.export.processes import procfile, systemd
from msctl.export.proxies import kong, nginx
from msctl.hints import did_you_mean
from msctl.model.project import Project

__all__ = [
    "KINDS",
    "ExportError",
    "ExportKind",
    "ExportOptions",
    "Exported",
    "File",
    "Notice",
    "export",
    "find",
]

KINDS: tuple[ExportKind, ...] = (
    docker.KIND,
    compose.KIND,
    kubernetes.KIND,
    helm.KIND,
    nginx.KIND,
    kong.KIND,
    rabbitmq.KIND,
    prometheus.KIND,
    grafana.KIND,
    gitlab_ci.KIND,
    jenkins.KIND,
    systemd.KIND,
    procfile.KIND,
)


def find(name: str) -> ExportKind:
    """Return the kind of this name. Raises UsageError with the nearest name."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    names = [kind.name for kind in KINDS]
    hint = did_you_mean(name, names)
    raise UsageError(
        f"unknown kind of export {name!r}", hint=f"{hint} (list the kinds with: msctl export --list)"
    )


def export(name: str, project: Project, options: ExportOptions | None = None) -> Exported:
    """Return the files of one kind, and notices of what the target cannot express.

    Raises UsageError for an unknown kind or an option that it does not use, and ExportError for a project
    that cannot be exported to it.
    """
    kind = find(name)
    given = options or ExportOptions()
    kind.check(given)
    return collect(kind.render(project, given))
