"""A traceback starts at the user's own code."""

from __future__ import annotations

from pathlib import Path

from msctl.hosting.modules import Loader
from msctl.telemetry.logs.traceback import user_traceback


def raised_by(loader: Loader, target: str) -> str:
    try:
        loader.load(target)
    except Exception as error:
        # Without this test's own frame, which is nobody's machinery.
        assert error.__traceback__ is not None
        return user_traceback(error.with_traceback(error.__traceback__.tb_next))
    raise AssertionError(f"{target} was loaded")


def test_frames_of_msctl_and_the_import_system_are_omitted(tmp_path: Path) -> None:
    (tmp_path / "no_database.py").write_text("def go():\n    raise ValueError('no database')\n\ngo()\n")
    text = raised_by(Loader(tmp_path), "no_database:app")
    files = [line for line in text.splitlines() if line.lstrip().startswith("File ")]
    assert [f'no_database.py", line {line}' in file for file, line in zip(files, (4, 2), strict=True)]
    assert text.splitlines()[-1] == "ValueError: no database"


def test_without_a_user_frame_all_frames_are_shown() -> None:
    text = raised_by(Loader(None), "msctl.no_such_module:app")
    assert "importlib" in text
    assert text.endswith("No module named 'msctl.no_such_module'")
