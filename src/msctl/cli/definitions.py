"""The broker's definitions for `export`: those that the project declares, and those of its running stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msctl.cli.options.global_options import GlobalOptions

if TYPE_CHECKING:
    from msctl.model.project import Project


def declared_definitions(project: Project) -> Mapping[str, Any] | None:
    """The checked content of broker.definitions; None without it. Raises ConfigError."""
    from msctl.model.broker_url import parse_url
    from msctl.runtime.definitions_file import read_definitions, read_json

    if read_definitions(project, parse_url(project.broker.url, any_port=True)) is None:
        return None
    found: Mapping[str, Any] = read_json(project)
    return found


def running_definitions(options: GlobalOptions) -> Mapping[str, Any] | None:
    """What the embedded broker of the project's running stack has; None if there is none."""
    from msctl.control.paths import is_locked

    _, paths = options.identify()
    return options.client().definitions() if is_locked(paths) else None
