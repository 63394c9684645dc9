"""A project's runs: their folders, the newest kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.control.paths import StackPaths
from msctl.control.runs import KEEP, last_run, make_run, run_name, run_named, runs_folder


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"XDG_STATE_HOME": "/state"}, "/state/msctl/shop-1/runs"),
        ({"XDG_STATE_HOME": "relative", "HOME": "/home/u"}, "/home/u/.local/state/msctl/shop-1/runs"),
        ({"MSCTL_STATE_DIR": "/kept", "XDG_STATE_HOME": "/state"}, "/kept/shop-1/runs"),
        ({"HOME": "/home/u"}, "/home/u/.local/state/msctl/shop-1/runs"),
    ],
)
def test_runs_are_kept_where_state_is_kept(env: dict[str, str], expected: str) -> None:
    assert str(runs_folder(StackPaths(Path("/run/msctl/shop-1")), env)) == expected


def test_the_newest_runs_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    assert last_run(folder) is None
    made = [make_run(folder, run_name(1_700_000_000 + n)) for n in range(KEEP + 3)]
    assert last_run(folder) == made[-1]
    assert sorted(folder.iterdir()) == made[3:]
    assert run_named(folder, made[5].name) == made[5]
    assert run_named(folder, made[0].name) is None
    assert made[-1].stat().st_mode & 0o777 == 0o700
