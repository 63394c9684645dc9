"""A stack's folder is private, and its lock tells truly whether it lives."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from msctl.control.paths import StackLock, StackPaths, base_folder, is_locked, stack_paths
from msctl.errors import MsctlError


def test_the_folder_is_entered_by_its_owner_alone(tmp_path: Path) -> None:
    paths = stack_paths("shop", tmp_path, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")})
    paths.prepare()
    for folder in (paths.folder, paths.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_others_could_enter_is_closed(tmp_path: Path) -> None:
    base = tmp_path / "run"
    base.mkdir(mode=0o755)
    stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(base)}).prepare()
    assert stat.S_IMODE(base.stat().st_mode) == 0o700


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MsctlError, match="not a folder of yours"):
        stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")}).prepare()


def test_a_file_in_place_of_the_folder_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(MsctlError) as caught:
        stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")}).prepare()
    assert caught.value.hint is not None
    assert "MSCTL_RUNTIME_DIR" in caught.value.hint


def test_two_folders_with_one_name_are_two_projects(tmp_path: Path) -> None:
    env = {"MSCTL_RUNTIME_DIR": str(tmp_path)}
    one = stack_paths("shop", tmp_path / "a" / "shop", env)
    two = stack_paths("shop", tmp_path / "b" / "shop", env)
    assert one != two


def test_a_socket_path_that_the_kernel_would_cut_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MsctlError, match="too long"):
        stack_paths("shop", tmp_path, {"MSCTL_RUNTIME_DIR": str(tmp_path / ("x" * 100))})


def test_the_session_folder_of_the_desktop_is_used_where_there_is_one() -> None:
    assert base_folder({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/msctl")
    assert base_folder({}).name.startswith("msctl-")


def test_a_lock_is_held_once_and_free_after_it_is_let_go(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path)
    assert not is_locked(paths)
    lock = StackLock.acquire(paths)
    assert lock is not None
    assert is_locked(paths)
    assert StackLock.acquire(paths) is None
    lock.forget()
    assert not is_locked(paths)


def test_whoever_only_looks_keeps_no_stack_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = StackPaths(tmp_path)
    looker = os.open(paths.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looker, fcntl.LOCK_SH)
    # It is done looking while the stack waits.
    monkeypatch.setattr("msctl.control.paths.time.sleep", lambda _: os.close(looker))
    lock = StackLock.acquire(paths)
    assert lock is not None
    assert is_locked(paths)
    lock.forget()
