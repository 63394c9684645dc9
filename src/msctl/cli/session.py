"""From the global options to the project and its running stack."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.config.reading.identify import identify
from msctl.config.reading.project_ref import FILE_NAME
from msctl.control.paths import StackPaths, stack_paths

if TYPE_CHECKING:
    from msctl.config.reading.load import Resolved
    from msctl.control.client import ControlClient


@dataclass(frozen=True, slots=True)
class Settings:
    """The options that every verb shares."""

    file: Path | None = None
    project: str | None = None
    env_file: Path | None = None
    copy: str | None = None
    """What an isolated copy's name has behind the project's own."""
    dev_tls: bool = False
    """The gateway speaks HTTPS with a certificate of the local authority."""

    @property
    def _overrides(self) -> dict[str, str]:
        given = (("project.name", self.project), ("gateway.tls.dev", "true" if self.dev_tls else None))
        return {key: value for key, value in given if value is not None}

    def arguments(self, root: Path | None) -> list[str]:
        """The same options for another msctl, which may run in another folder than `root`."""
        file = self.file if self.file is not None or root is None else root / FILE_NAME
        given = (("--file", file), ("--project", self.project), ("--env-file", self.env_file))
        return [
            part
            for option, value in given
            if value is not None
            for part in (option, str(value.absolute() if isinstance(value, Path) else value))
        ]

    def load(self) -> Resolved:
        """The whole configuration. Raises ConfigError."""
        from msctl.config.reading.load import load

        resolved = load(
            file=self.file,
            cwd=Path.cwd(),
            env=os.environ,
            env_file=self.env_file,
            overrides=self._overrides,
        )
        if self.copy is None:
            return resolved
        from msctl.config.reading.isolate import isolated

        return replace(resolved, project=isolated(resolved.project, self.copy))

    def identify(self) -> tuple[str, StackPaths]:
        """The project's name and where its stack keeps its files, without reading all of it."""
        identity = identify(
            file=self.file,
            cwd=Path.cwd(),
            env=os.environ,
            env_file=self.env_file,
            overrides=self._overrides,
        )
        return identity.name, stack_paths(identity.name, identity.root, os.environ)

    def client(self) -> ControlClient:
        """The running stack of the project; its verbs raise NotRunningError where there is none."""
        from msctl.control.client import ControlClient

        name, paths = self.identify()
        return ControlClient(paths, name)
