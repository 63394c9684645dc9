"""Every export matches the golden files (golden.py rewrites them)."""

from __future__ import annotations

import pytest

from tests.unit.export import golden


@pytest.mark.parametrize("variant", golden.VARIANTS)
@pytest.mark.parametrize("project", golden.PROJECTS)
def test_export_matches_the_golden_files(project: str, variant: str) -> None:
    assert golden.expected(project, variant) == golden.kept(project, variant), (
        "python -m tests.unit.export.golden rewrites the golden files"
    )


def test_the_same_project_always_gives_the_same_files() -> None:
    assert golden.expected("shop", "kubernetes") == golden.expected("shop", "kubernetes")


@pytest.mark.parametrize("variant", golden.VARIANTS)
def test_no_secret_is_written_anywhere(variant: str) -> None:
    written = "".join(golden.expected("shop", variant).values())
    for secret in ("hush", "do-not-tell"):
        assert secret not in written
