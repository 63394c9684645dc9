"""Takes a project out: the files by which other tools run what runs on the laptop.

Pure: a resolved Project goes in, files and notices come out, and the caller writes. Knows the
configuration and its model, and nothing of what runs a stack.
"""

from __future__ import annotations

from msctl.errors import UsageError
from msctl.export import (
    compose,
    docker,
    gitlab_ci,
    grafana,
    jenkins,
    kong,
    kubernetes,
    nginx,
    procfile,
    prometheus,
    systemd,
)
from msctl.export.kind import Exported, ExportError, ExportKind, ExportOptions, File, Notice, collect
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
    nginx.KIND,
    kong.KIND,
    prometheus.KIND,
    grafana.KIND,
    gitlab_ci.KIND,
    jenkins.KIND,
    systemd.KIND,
    procfile.KIND,
)


def find(name: str) -> ExportKind:
    """The kind of this name. Raises UsageError that names the nearest."""
    for kind in KINDS:
        if kind.name == name:
            return kind
    names = [kind.name for kind in KINDS]
    hint = did_you_mean(name, names)
    raise UsageError(
        f'there is no kind of export "{name}"', hint=f"{hint} (msctl export --list shows them all)"
    )


def export(name: str, project: Project, options: ExportOptions | None = None) -> Exported:
    """All files of one kind, and what the target cannot express.

    Raises UsageError for a kind or option that does not exist there, and ExportError for a project
    that cannot be exported to it.
    """
    kind = find(name)
    asked = options or ExportOptions()
    kind.check(asked)
    return collect(kind.render(project, asked))
