"""Whether an application takes `root_path` off `path` is told by what it is, wraps, or reads."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from msctl.hosting.asgi.root_path import expects_bare_path

PLAIN = """
async def app(scope, receive, send):
    if scope["path"] == "/hello": ...

class Site:
    async def __call__(self, scope, receive, send):
        root_path = "a folder of files"

site = Site()
"""
TOLD = """
async def app(scope, receive, send):
    path = scope["path"].removeprefix(scope["root_path"])
"""
WRAPPED = """
import functools

class Framework:
    __module__ = "starlette.applications"
    async def __call__(self, scope, receive, send): ...

class Outer:
    def __init__(self, inner): self.inner = inner
    async def __call__(self, scope, receive, send): ...

inner = Framework()

async def names(scope, receive, send):
    await inner(scope, receive, send)

def wrap(inner):
    async def encloses(scope, receive, send):
        await inner(scope, receive, send)
    return encloses

async def called(inner, scope, receive, send): ...

encloses, holds, bound = wrap(inner), Outer(Outer(inner)), functools.partial(called, inner)
"""


@pytest.mark.parametrize(
    ("source", "name", "bare"),
    [
        (PLAIN, "app", True),
        (PLAIN, "site", True),
        (TOLD, "app", False),
        (WRAPPED, "names", False),
        (WRAPPED, "encloses", False),
        (WRAPPED, "holds", False),
        (WRAPPED, "bound", False),
    ],
)
def test_path_is_bare_for_applications_that_never_read_root_path(
    source: str, name: str, bare: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "an_application.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "an_application", raising=False)
    module: Any = __import__("an_application")
    try:
        assert expects_bare_path(getattr(module, name)) is bare
    finally:
        sys.modules.pop("an_application", None)


def test_whatever_object_is_called_it_is_told() -> None:
    odd_ones: list[object] = [len, object(), type, [].append, lambda *_: None]
    for odd in odd_ones:
        expects_bare_path(odd)


def test_the_module_that_defines_it_is_read_before_others_of_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("msctl.hosting.asgi.root_path._MODULES", 1)
    package = tmp_path / "large_application"
    package.mkdir()
    (package / "__init__.py").write_text("from large_application import another\n")
    (package / "another.py").write_text("")
    (package / "serving.py").write_text(TOLD)
    monkeypatch.syspath_prepend(tmp_path)
    module: Any = importlib.import_module("large_application.serving")
    try:
        assert not expects_bare_path(module.app)
    finally:
        for name in ("serving", "another"):
            sys.modules.pop(f"large_application.{name}")
        sys.modules.pop("large_application")
