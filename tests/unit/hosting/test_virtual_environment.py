"""A hosted application imports from its project's virtual environment, wherever msctl itself is installed."""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from msctl.hosting.modules import ImportPathError, Loader
from msctl.hosting.service_log import describe
from msctl.hosting.virtual_environment import PYTHON
from tests.support import other_user
from tests.support.other_user import as_root

MODULE = "msctl_test_package"


@pytest.fixture(autouse=True)
def nothing_stays_imported(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    before = list(sys.path)
    yield
    sys.modules.pop(MODULE, None)
    assert sys.path == before


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    folder.mkdir()
    return folder


def make(path: Path, python: str = PYTHON) -> Path:
    """An environment with one package, whose `name` is that of the environment."""
    packages = path / "lib" / python / "site-packages"
    packages.mkdir(parents=True)
    (packages / f"{MODULE}.py").write_text(f"name = {path.name!r}\n")
    return path


@pytest.fixture
def load(project: Path) -> Iterator[Callable[[], object]]:
    loader = Loader(project)
    yield lambda: loader.load(f"{MODULE}:name")
    loader.close()


def refused(load: Callable[[], object]) -> str:
    with pytest.raises(ImportPathError) as raised:
        load()
    return raised.value.message


def test_packages_beside_the_configuration_are_found(project: Path, load: Callable[[], object]) -> None:
    make(project / ".venv")
    assert load() == ".venv"


def test_packages_of_the_activated_environment_come_first(
    project: Path, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(project / ".venv")
    monkeypatch.setenv("VIRTUAL_ENV", str(make(project.parent / "active")))
    assert load() == "active"


def test_activated_environment_of_another_python_is_passed_over(
    project: Path, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(project / ".venv")
    monkeypatch.setenv("VIRTUAL_ENV", str(make(project.parent / "active", "python3.99")))
    assert load() == ".venv"


def test_activated_environment_with_msctl_in_it_is_the_projects(
    project: Path, load: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    make(project / ".venv")
    monkeypatch.setenv("VIRTUAL_ENV", sys.prefix)
    assert refused(load).endswith(f"it is not installed in {sys.prefix}")


def test_environment_made_after_a_failed_start_is_found(project: Path, load: Callable[[], object]) -> None:
    assert str(project / ".venv") in refused(load)
    make(project / ".venv")
    assert load() == ".venv"


def test_packages_installed_as_editable_are_found(project: Path, load: Callable[[], object]) -> None:
    source = make(project.parent / "source") / "lib" / PYTHON / "site-packages"
    packages = project / ".venv" / "lib" / PYTHON / "site-packages"
    packages.mkdir(parents=True)
    (packages / "editable.pth").write_text(f"{source}\n")
    assert load() == "source"


def test_packages_of_msctl_come_before_the_projects(project: Path, load: Callable[[], object]) -> None:
    packages = make(project / ".venv") / "lib" / PYTHON / "site-packages"
    load()
    assert sys.path.index(sysconfig.get_path("purelib")) < sys.path.index(str(packages))


def test_environment_of_another_python_is_refused_with_both_versions(
    project: Path, load: Callable[[], object]
) -> None:
    make(project / ".venv", "python3.99")
    reason = refused(load)
    assert f"{project / '.venv'} is not used" in reason
    assert "3.99" in reason
    assert PYTHON in reason


@as_root
def test_environment_of_another_user_is_not_used(project: Path, load: Callable[[], object]) -> None:
    other_user.give(make(project / ".venv"))
    assert "another user" in refused(load)


def test_package_missing_from_the_environment_is_said_of_it(project: Path) -> None:
    make(project / ".venv")
    loader = Loader(project)
    assert f"not installed in {project / '.venv'}" in refused(lambda: loader.load("msctl_no_package:app"))
    loader.close()


def test_missing_module_of_a_package_has_no_advice(project: Path) -> None:
    loader = Loader(project)
    assert refused(lambda: loader.load("json.no_such_module:app")) == "there is no module json.no_such_module"
    loader.close()


def test_package_that_the_module_lacks_keeps_its_traceback(project: Path) -> None:
    (project / "needy.py").write_text("import msctl_no_package\n")
    loader = Loader(project)
    with pytest.raises(ModuleNotFoundError) as raised:
        loader.load("needy:app")
    assert "not installed in" in describe(raised.value)
    loader.close()


def test_missing_attribute_names_what_the_module_has(project: Path) -> None:
    (project / "many.py").write_text(
        "from functools import partial\nimport json\nclass Model: ...\ndef create_app(): ...\n"
        "application = partial(print)\nNAME = 'x'\n"
    )
    loader = Loader(project)
    assert (
        refused(lambda: loader.load("many:app"))
        == "the module many has no app; it has application, create_app"
    )
    assert refused(lambda: loader.load("many:Model.app")) == "Model has no app"
    loader.close()
