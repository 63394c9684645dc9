"""Import of a project's modules from its root folder, and their reload after an edit.

The services of a project share its modules. After a source file changed, the next load drops all
modules below the root from `sys.modules`; running services keep the objects they have. Modules are dropped
by a load alone, since loads wait for each other: an import fails if what it has imported is gone.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import inspect
import os
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Lock
from types import ModuleType

from msctl.errors import MsctlError
from msctl.hosting.import_threads import ImportThreads
from msctl.hosting.registrations import Registrations
from msctl.hosting.virtual_environment import (
    VirtualEnvironment,
    add_packages,
    explain_missing,
    find_environments,
)

_MOST_NAMES = 5
"""Names of a module that an error gives."""
_FOREIGN = ("site-packages", "dist-packages")


class ImportPathError(MsctlError):
    """An import path is not `module:attribute`, or there is no such module or attribute."""


class Loader:
    """Loads `module:attribute` targets of one project; without a root, of installed packages only.

    Imports from the project's folder, msctl's own environment, and then the project's virtual environment.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = None if root is None else root.resolve()
        self._environments: tuple[VirtualEnvironment, ...] | None = None
        self._added: tuple[str, ...] = ()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._outdated = False
        self._dropped = False
        self._lock = Lock()
        self._threads = ImportThreads(self._root)
        self._registrations = None if self._root is None else Registrations(self._root)

    async def load_in_thread(self, target: str) -> object:
        """Return the object that `target` names, as `load`: a slow import stalls no other service."""
        return await self._threads.run(target, partial(self.load, target))

    def stopped_at(self, target: str) -> str | None:
        """Say where the import of `target` was interrupted, unless it has succeeded since."""
        return self._threads.stopped_at(target)

    def load(self, target: str) -> object:
        """Return the object that `target` names; raises ImportPathError, or what the module raises."""
        module_name, separator, attribute = target.partition(":")
        if not (module_name and separator and attribute):
            raise ImportPathError(f"{target!r} does not have the form 'package.module:attribute'")
        if self._root is not None:
            with self._lock:
                self._prepare(self._root)
        try:
            with nullcontext() if self._registrations is None else self._registrations.importing():
                found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if self._root is None or error.name is None:
                raise
            where = explain_missing(self._root, self._environments, Path(sys.prefix))
            if f"{module_name}.".startswith(f"{error.name}."):  # not one that the module imports
                known = "" if "." in error.name else f" in {self._root}, and {where}"
                raise ImportPathError(f"there is no module {error.name}{known}") from None
            if "." not in error.name:  # a whole package, rather than a module of one that is there
                error.add_note(where)
            raise
        finally:
            if self._root is not None:
                with self._lock:
                    self._remember(self._root)
        shown = f"the module {module_name}{self._hidden(found)}"
        for part in attribute.split("."):
            if not hasattr(found, part):
                names = ", ".join(_applications(found))
                there = f"; it has {names}" if names else ""
                raise ImportPathError(f"{shown} has no {part}{there}")
            found = getattr(found, part)
            shown = part
        return found

    def _hidden(self, module: object) -> str:
        """Say whether another module hides the project's, such as the standard library's `site`."""
        file, name = getattr(module, "__file__", None), str(getattr(module, "__name__", ""))
        if self._root is None or not file or Path(file).is_relative_to(self._root):
            return ""
        mine = self._root.joinpath(*name.split("."))
        if not (mine.with_suffix(".py").is_file() or (mine / "__init__.py").is_file()):
            return ""
        return f", which is {file} instead of the project's own (rename that),"

    def forget(self) -> None:
        """Make the next load import the project's modules again; running services keep their objects."""
        self._outdated = True

    def collect(self) -> None:
        """Free what dropped modules hold: a connection that was opened at import closes with its object.

        For when the applications of those modules have stopped. A collection looks at all objects, so there
        is one only after modules were dropped.
        """
        if self._dropped:
            self._dropped = False
            if self._registrations is not None:
                self._registrations.forget_functions()
            gc.collect()

    def close(self) -> None:
        """Remove the project's modules and folder, so that the next project in this process finds its own."""
        if self._root is None:
            return
        with self._lock:
            for name in _own_modules(self._root):
                sys.modules.pop(name, None)
        for entry in (str(self._root), *self._added):
            if entry in sys.path:
                sys.path.remove(entry)
        if self._registrations is not None:
            self._registrations.close()
        self._added = ()
        self._seen.clear()

    def _prepare(self, root: Path) -> None:
        folder = str(root)
        if folder not in sys.path:
            sys.path.insert(0, folder)
        if not self._added:  # it may have been made since the last start
            self._environments = find_environments(root, os.environ, Path(sys.prefix))
            for environment in self._environments or ():
                if environment.packages is not None:
                    self._added = add_packages(environment.packages)
                    break
        importlib.invalidate_caches()
        if self._outdated or any(_stamp(file) != stamp for file, stamp in self._seen.items()):
            self._outdated = False
            self._forget(root)

    def _forget(self, root: Path) -> None:
        for name, file in _own_modules(root).items():
            sys.modules.pop(name, None)
            # Python trusts bytecode of the same second and size; an edit can be that fast.
            Path(importlib.util.cache_from_source(str(file))).unlink(missing_ok=True)
        self._forget_registrations()
        self._seen.clear()
        self._dropped = True

    def _forget_registrations(self) -> None:
        if self._registrations is not None:
            self._registrations.forget()

    def _remember(self, root: Path) -> None:
        for file in _own_modules(root).values():
            self._seen.setdefault(file, _stamp(file))


def _applications(found: object) -> list[str]:
    """Return names in a module that may be meant: objects that can be called, then functions of its own."""
    if not isinstance(found, ModuleType):
        return []
    objects, functions = [], []
    for name, value in vars(found).items():
        if name.startswith("_") or inspect.isclass(value) or not callable(value):
            continue
        if not inspect.isroutine(value):
            objects.append(name)
        elif getattr(value, "__module__", None) == found.__name__:
            functions.append(name)
    return [*objects, *functions][:_MOST_NAMES]


def _own_modules(root: Path) -> dict[str, Path]:
    """Return the loaded modules with source files below `root`, without packages installed there.

    One that another thread still imports (it hangs, or loads would wait for it) is not loaded, nor are the
    packages that it is in: that import would fail without their entries.
    """
    own = {
        name: module
        for name, module in sys.modules.copy().items()  # copied at once, while other threads import
        if is_own_module(name, module, root)
    }
    kept = set[str]()
    for name, module in own.items():
        if getattr(module.__spec__, "_initializing", False):
            parts = name.split(".")
            kept.update(".".join(parts[:count]) for count in range(1, len(parts) + 1))
    return {name: Path(str(module.__file__)) for name, module in own.items() if name not in kept}


def is_own_module(name: str, module: ModuleType, root: Path) -> bool:
    """Whether a loaded module has its source file below `root`, and is no package installed there."""
    file = getattr(module, "__file__", None)
    if not file or name == "__main__" or name.partition(".")[0] == "msctl" or not file.endswith(".py"):
        return False
    return file.startswith(f"{root}{os.sep}") and not any(part in _FOREIGN for part in Path(file).parts)


def _stamp(file: Path) -> tuple[int, int]:
    try:
        stat = file.stat()
    except OSError:
        return (0, 0)
    return (stat.st_mtime_ns, stat.st_size)
