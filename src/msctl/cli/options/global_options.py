"""The options that every verb shares, and the project and stack that they select."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.config.reading.identify import identify
from msctl.config.reading.project_ref import FILE_NAME
from msctl.control.paths import StackPaths, is_locked, stack_paths

if TYPE_CHECKING:
    from msctl.config.reading.load import Resolved
    from msctl.control.client import ControlClient


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options before the verb, and two of `up` that change how the configuration is read."""

    file: Path | None = None
    project: str | None = None
    env_file: Path | None = None
    copy: str | None = None
    """Suffix of the project's name for an isolated copy (`up --isolated`)."""
    dev_tls: bool = False
    """Whether the gateway serves HTTPS with a development certificate (`up --dev-tls`)."""

    @property
    def _overrides(self) -> dict[str, str]:
        given = (("project.name", self.project), ("gateway.tls.dev", "true" if self.dev_tls else None))
        return {key: value for key, value in given if value is not None}

    def absolute(self) -> GlobalOptions:
        """Return the same options with paths that hold in any folder."""
        file, env_file = (None if path is None else path.absolute() for path in (self.file, self.env_file))
        return replace(self, file=file, env_file=env_file)

    def arguments(self, root: Path | None) -> list[str]:
        """Return these options as command-line arguments that work in any directory.

        `root` is the project's folder; None for the built-in course system.
        """
        file = self.file if self.file is not None or root is None else root / FILE_NAME
        given = (("--file", file), ("--project", self.project), ("--env-file", self.env_file))
        return [
            part
            for option, value in given
            if value is not None
            for part in (option, str(value.absolute() if isinstance(value, Path) else value))
        ]

    def load(self) -> Resolved:
        """Read the whole configuration. Raises ConfigError."""
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
        """Return the project's name and its stack's paths, reading as little as possible.

        With `--project NAME` alone it is the running stack of that name, wherever its folder is.
        """
        identity = identify(
            file=self.file,
            cwd=Path.cwd(),
            env=os.environ,
            env_file=self.env_file,
            overrides=self._overrides,
        )
        paths = stack_paths(identity.name, identity.root, os.environ)
        if self.project is not None and self.file is None and not is_locked(paths):
            from msctl.control.find import find_stack

            return identity.name, find_stack(self.project, os.environ) or paths
        return identity.name, paths

    def client(self) -> ControlClient:
        """Return a client of the project's stack. Its methods raise NotRunningError if none runs."""
        from msctl.control.client import ControlClient

        name, paths = self.identify()
        return ControlClient(paths, name)
