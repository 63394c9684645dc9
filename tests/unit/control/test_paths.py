"""A stack's folder is private, and its lock shows whether the stack runs."""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest

from msctl.control.paths import StackLock, StackPaths, base_folder, is_locked, stack_paths
from msctl.errors import MsctlError


def test_only_the_owner_can_enter_the_folder(tmp_path: Path) -> None:
    paths = stack_paths("shop", tmp_path, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")})
    paths.prepare()
    for folder in (paths.folder, paths.folder.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o1777])
def test_a_folder_that_exists_keeps_its_mode_and_the_stacks_own_is_private(tmp_path: Path, mode: int) -> None:
    base = tmp_path / "run"
    base.mkdir()
    base.chmod(mode)
    paths = stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(base)})
    paths.prepare()
    assert stat.S_IMODE(base.stat().st_mode) == mode
    assert stat.S_IMODE(paths.folder.stat().st_mode) == 0o700


def test_a_stack_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    paths = stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path)})
    paths.prepare()
    paths.folder.chmod(0o770)
    with pytest.raises(MsctlError, match="writable by others"):
        is_locked(paths)


def test_a_symbolic_link_instead_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MsctlError, match="a symbolic link"):
        stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")}).prepare()


def test_a_file_instead_of_the_folder_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(MsctlError) as caught:
        stack_paths("shop", None, {"MSCTL_RUNTIME_DIR": str(tmp_path / "run")}).prepare()
    assert caught.value.hint is not None
    assert "MSCTL_RUNTIME_DIR" in caught.value.hint


def test_two_folders_with_the_same_name_are_two_projects(tmp_path: Path) -> None:
    env = {"MSCTL_RUNTIME_DIR": str(tmp_path)}
    one = stack_paths("shop", tmp_path / "a" / "shop", env)
    two = stack_paths("shop", tmp_path / "b" / "shop", env)
    assert one != two


def test_a_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MsctlError, match="too long"):
        stack_paths("shop", tmp_path, {"MSCTL_RUNTIME_DIR": str(tmp_path / ("x" * 100))})


def test_xdg_runtime_dir_is_used_if_set() -> None:
    assert base_folder({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/msctl")
    assert base_folder({}).name.startswith("msctl-")


def test_a_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    paths = StackPaths(tmp_path)
    assert not is_locked(paths)
    lock = StackLock.acquire(paths)
    assert lock is not None
    assert is_locked(paths)
    assert StackLock.acquire(paths) is None
    lock.close()
    assert not is_locked(paths)


def test_checking_the_lock_does_not_prevent_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = StackPaths(tmp_path)
    looker = os.open(paths.lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(looker, fcntl.LOCK_SH)
    # It is done looking while the stack waits.
    monkeypatch.setattr("msctl.control.paths.time.sleep", lambda _: os.close(looker))
    lock = StackLock.acquire(paths)
    assert lock is not None
    assert is_locked(paths)
    lock.close()


@pytest.mark.parametrize("character", ["订", "x", "é"])
def test_long_names_in_any_script_are_told_apart_within_a_socket_path(tmp_path: Path, character: str) -> None:
    env = {"MSCTL_RUNTIME_DIR": "/run"}
    names = [character * 62 + end for end in "12"]
    first, second = (stack_paths(name, tmp_path, env).folder.name for name in names)
    assert first != second
    assert max(len(os.fsencode(name)) for name in (first, second)) <= 49
