"""Imports that hang: what they hold, and how they end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from msctl.hosting import import_threads
from msctl.hosting.modules import Loader
from tests.support.waiting import until

# Waits in short steps, as servers do.
HERE = "import pathlib, time\nhere = pathlib.Path(__file__).parent\n"
BEGUN = "(here / 'begun').touch()\n"
HANGS = HERE + BEGUN
LOOP = "while not (here / 'go').exists():\n    time.sleep(0.01)\napp = 'late'\n"


@pytest.fixture
def loader(tmp_path: Path) -> Iterator[Loader]:
    (tmp_path / "quick.py").write_text("app = 'quick'\n")
    found = Loader(tmp_path)
    yield found
    (tmp_path / "go").touch()
    found.close()


async def begun(folder: Path) -> None:
    await until((folder / "begun").exists)


async def ended() -> None:
    for thread in threading.enumerate():
        if thread.name == "import":
            await asyncio.to_thread(thread.join)


async def test_interrupted_import_ends_and_says_where_it_was(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS + LOOP)
    loading = asyncio.create_task(loader.load_in_thread("hangs:app"))
    await begun(tmp_path)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert (loader.stopped_at("hangs:app") or "").startswith("hangs.py:")
    await ended()
    (tmp_path / "go").touch()
    assert await loader.load_in_thread("hangs:app") == "late"
    assert loader.stopped_at("hangs:app") is None


async def test_module_that_starts_a_server_is_told_what_to_do(loader: Loader, tmp_path: Path) -> None:
    served = "class App:\n    def serve(self): wait()\nimport helper\nhelper.run(here)\n"
    (tmp_path / "serves.py").write_text(HERE + served)
    packages = tmp_path / "site-packages"
    packages.mkdir()
    (packages / "helper.py").write_text(
        "import time\ndef run(here):\n    " + (BEGUN + LOOP).replace("\n", "\n    ")
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(packages)
        loading = asyncio.create_task(loader.load_in_thread("serves:app"))
        await begun(tmp_path)
        loading.cancel()
        await asyncio.wait({loading})
        place = loader.stopped_at("serves:app")
        assert place is not None
        assert place.startswith("serves.py:")
        assert place.endswith('(msctl serves it: put this below `if __name__ == "__main__":`)')
        await ended()


async def test_import_that_hangs_holds_no_other_for_long(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_threads, "_TURN_S", 0.05)
    (tmp_path / "hangs.py").write_text(HANGS + LOOP)
    loading = asyncio.create_task(loader.load_in_thread("hangs:app"))
    await begun(tmp_path)
    assert await loader.load_in_thread("quick:app") == "quick"
    loader.forget()
    (tmp_path / "go").touch()
    assert await loading == "late"


async def test_import_of_a_submodule_ends_though_the_project_is_imported_again(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_threads, "_TURN_S", 0.05)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "hangs.py").write_text(HERE.replace("parent", "parents[1]") + BEGUN + LOOP)
    loading = asyncio.create_task(loader.load_in_thread("package.hangs:app"))
    await begun(tmp_path)
    loader.forget()
    assert await loader.load_in_thread("quick:app") == "quick"
    (tmp_path / "go").touch()
    assert await loading == "late"


async def test_an_edit_during_an_import_is_imported_next(loader: Loader, tmp_path: Path) -> None:
    (tmp_path / "hangs.py").write_text(HANGS + LOOP)
    loading = asyncio.create_task(loader.load_in_thread("hangs:app"))
    await begun(tmp_path)
    (tmp_path / "hangs.py").write_text("app = 'edited'\n")
    loader.forget()
    (tmp_path / "go").touch()
    assert await loading == "late"
    assert await loader.load_in_thread("hangs:app") == "edited"
