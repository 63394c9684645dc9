"""What libraries keep for the whole process of a module that is imported again after an edit.

A registry refuses the second registration of a name, or goes on with the first. What is not known here, or
cannot be undone, as Sanic's rewritten methods, needs `isolation = "process"`, which begins with nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any


class Registrations:
    """Forgets what the modules of one project have registered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._collectors: list[Any] = []
        self._registry: Any = None

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Around an import: one that fails has registered nothing."""
        self._watch()
        count = len(self._collectors)
        tables = set(_sqlmodel_tables())
        try:
            yield
        except BaseException:
            self._unregister(count)
            if _sqlmodel_tables().keys() - tables:
                _forget_sqlmodel()
            raise

    def forget(self) -> None:
        """All modules are imported again."""
        self._unregister(0)
        _forget_sqlmodel()
        if (urls := sys.modules.get("django.urls")) is not None:
            urls.clear_url_caches()

    def forget_functions(self) -> None:
        """Drop replaced functions from FastAPI's caches: each keeps all that its module holds."""
        for name, module in sys.modules.copy().items():
            if name.partition(".")[0] == "fastapi":
                for value in vars(module).copy().values():
                    if callable(clear := getattr(value, "cache_clear", None)):
                        clear()

    def close(self) -> None:
        self.forget()
        if self._registry is not None:
            vars(self._registry).pop(
                "register", None
            )  # another project's of this process may have ended first
            self._registry = None

    def _watch(self) -> None:
        """Remember which Prometheus metrics the project's modules register as they are imported.

        A library's own, made when that is imported for the first time, stay: it is not imported again.
        """
        if self._registry is not None:
            return
        from prometheus_client import REGISTRY

        register = type(REGISTRY).register
        self._registry = REGISTRY

        def recorded(collector: Any) -> None:
            register(REGISTRY, collector)
            if self._is_importing(sys._getframe(1)):
                self._collectors.append(collector)

        self._registry.register = recorded

    def _is_importing(self, frame: FrameType | None) -> bool:
        """Whether the innermost module that is being imported is the project's."""
        while frame is not None and frame.f_code.co_name != "<module>":
            frame = frame.f_back
        if frame is None:
            return False
        file = Path(frame.f_code.co_filename)
        return file.is_relative_to(self._root) and "site-packages" not in file.parts

    def _unregister(self, start: int) -> None:
        for collector in self._collectors[start:]:
            with suppress(KeyError):
                self._registry.unregister(collector)
        del self._collectors[start:]


def _sqlmodel_tables() -> Mapping[str, Any]:
    module: Any = sys.modules.get("sqlmodel")
    found: Mapping[str, Any] = {} if module is None else module.SQLModel.metadata.tables
    return found


def _forget_sqlmodel() -> None:
    """Forget the names of tables and classes; those that are in use keep their mappers."""
    module: Any = sys.modules.get("sqlmodel")
    if module is not None:
        module.SQLModel.metadata.clear()
        module.SQLModel._sa_registry._class_registry.clear()
