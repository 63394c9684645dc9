"""Modules that register something in the process can be imported again after an edit."""

from __future__ import annotations

import functools
import os
import sys
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from msctl.hosting.modules import Loader

METRIC = "from prometheus_client import Counter\nhits = Counter('msctl_test_hits', 'Hits.')\n"


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    found = Loader(tmp_path)
    yield found
    found.close()
    assert "register" not in vars(prometheus_client.REGISTRY)


def write(file: Path, text: str) -> None:
    """Write so that the file counts as changed."""
    before = file.stat().st_mtime_ns if file.exists() else 0
    file.write_text(text)
    os.utime(file, ns=(before + 10**9, before + 10**9))


def exposed() -> bytes:
    return prometheus_client.generate_latest()


def test_metrics_of_an_edited_module_are_registered_anew(loader: Loader, tmp_path: Path) -> None:
    file = tmp_path / "shop_metrics.py"
    write(file, METRIC + "app = 1\nhits.inc()\n")
    assert loader.load("shop_metrics:app") == 1
    assert b"msctl_test_hits_total 1.0" in exposed()
    write(file, METRIC + "app = 2\n")
    assert loader.load("shop_metrics:app") == 2
    assert b"msctl_test_hits_total 0.0" in exposed()


def test_an_import_that_fails_has_registered_nothing(loader: Loader, tmp_path: Path) -> None:
    file = tmp_path / "shop_metrics.py"
    write(file, METRIC + "boom()\n")
    with pytest.raises(NameError):
        loader.load("shop_metrics:app")
    assert b"msctl_test_hits" not in exposed()
    write(file, METRIC + "app = 2\n")
    assert loader.load("shop_metrics:app") == 2


def test_functions_of_replaced_modules_leave_the_caches_of_fastapi(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a stand-in shows it: FastAPI is not among the test's requirements."""
    module: Any = types.ModuleType("fastapi.dependencies.models")
    module.is_coroutine = functools.lru_cache(callable)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    file = tmp_path / "routes.py"
    source = (
        "import sys\nclass Client: pass\nclient = Client()\n"
        "def app(): return client\nsys.modules['fastapi.dependencies.models'].is_coroutine(app)\n"
    )
    write(file, source)
    found: Any = loader.load("routes:app")
    client = weakref.ref(found())
    del found
    write(file, source + "# edited\n")
    loader.load("routes:app")
    loader.collect()
    assert client() is None


def test_tables_and_classes_of_sqlmodel_are_free_again(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as a stand-in shows it: SQLModel is not among the test's requirements."""
    tables: dict[str, object] = {}
    classes: dict[str, object] = {}
    module: Any = types.ModuleType("sqlmodel")
    metadata = types.SimpleNamespace(tables=tables, clear=tables.clear)
    registry = types.SimpleNamespace(_class_registry=classes)
    module.SQLModel = types.SimpleNamespace(metadata=metadata, _sa_registry=registry)
    monkeypatch.setitem(sys.modules, "sqlmodel", module)
    file = tmp_path / "tables.py"
    source = (
        "from sqlmodel import SQLModel\n"
        "for known in (SQLModel.metadata.tables, SQLModel._sa_registry._class_registry):\n"
        "    assert 'hero' not in known\n    known['hero'] = 1\napp = 1\n"
    )
    write(file, source + "boom()\n")
    with pytest.raises(NameError):
        loader.load("tables:app")
    for extra in ("", "# edited\n"):
        write(file, source + extra)
        loader.load("tables:app")
