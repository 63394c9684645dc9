"""Imports a project's modules again and again: each run, and each life of a service, begins with new ones.

Their code is compiled once. What else is imported stays, and is not looked at again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

from msctl.hosting.modules import Loader, is_own_module

_code: dict[tuple[str, int], CodeType | None] = {}
"""The code of source files, by path and time of their last change."""


class SimulatedLoader(Loader):
    """Loads the modules of a run."""

    _libraries: set[str] = set()  # noqa: RUF012 - of the process: modules that are not the project's
    _environments_of: dict[Path, tuple[str, ...]] = {}  # noqa: RUF012 - of the process
    _prepared = False

    def _prepare(self, root: Path) -> None:
        if self._prepared:
            return
        self._prepared = True
        known = self._environments_of.get(root)
        if (
            known is None
        ):  # looks for the project's virtual environment, and makes Python read all folders anew
            super()._prepare(root)
            self._environments_of[root] = self._added
            return
        sys.path.insert(0, str(root))
        self._added = known
        sys.path += [entry for entry in known if entry not in sys.path]

    def _remember(self, root: Path) -> None:
        """Do nothing: no file changes within a run."""

    def forget(self) -> None:
        """Forget at once: in a simulation nothing is imported at the same time."""
        if self._root is not None:
            self._forget(self._root)

    def _forget(self, root: Path) -> None:
        for name in sys.modules.keys() - self._libraries:
            if is_own_module(name, sys.modules[name], root):
                del sys.modules[name]
            else:
                self._libraries.add(name)
        self._forget_registrations()

    def close(self) -> None:
        self.forget()
        super().close()


@contextmanager
def compiled_once() -> Iterator[None]:
    """Keep the code of the source files that are imported."""
    get_code = SourceFileLoader.get_code

    def kept(loader: SourceFileLoader, fullname: str) -> CodeType | None:
        try:
            key = loader.path, Path(loader.path).stat().st_mtime_ns
        except OSError:
            return get_code(loader, fullname)
        if key not in _code:
            _code[key] = get_code(loader, fullname)
        return _code[key]

    SourceFileLoader.get_code = kept  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
