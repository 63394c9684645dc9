"""Which module a name of the project's is, where another has that name."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.hosting.modules import ImportPathError, Loader


def test_module_that_hides_the_projects_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "site.py").write_text("app = 1\n")
    loader = Loader(tmp_path)
    with pytest.raises(ImportPathError) as caught:
        loader.load("site:app")
    loader.close()
    assert "site.py instead of the project's own" in caught.value.message
    assert str(tmp_path) not in caught.value.message
