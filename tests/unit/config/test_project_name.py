"""Names of projects, in any script."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.config.project_name import folder_project_name, is_project_name


@pytest.mark.parametrize("name", ["shop", "订单", "हिन्दी", "Größe_2", "9-lives.v1", "x" * 63])
def test_a_folder_with_a_fit_name_names_its_project(name: str) -> None:
    assert is_project_name(name)
    assert folder_project_name(Path("/any") / name) == name


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a/b", "x" * 64, "a\u202eb", "a\x1bb", "½"])
def test_a_name_that_would_confuse_is_no_name(name: str) -> None:
    assert not is_project_name(name)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("my shop!", "my-shop"), ("(copy)", "copy"), ("!!!", "project"), ("cafe\u0301", "café")],
)
def test_what_does_not_fit_is_replaced(folder: str, name: str) -> None:
    assert folder_project_name(Path("/any") / folder) == name
