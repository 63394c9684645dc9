"""Files of other users are refused, and files of ours are written without following what they planted."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from msctl.files import (
    FileTooLargeError,
    UntrustedPathError,
    create_private_folder,
    open_trusted,
    read_trusted,
    trusted_folder,
    write_atomically,
)
from tests.support import other_user
from tests.support.other_user import as_root


def test_a_file_of_this_user_is_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"content")
    assert read_trusted(file, 100) == b"content"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_is_read_up_to_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"12345")
    with pytest.raises(FileTooLargeError):
        read_trusted(file, 4)


@as_root
def test_a_file_of_another_user_is_refused_with_path_and_owner(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("planted")
    other_user.give(file)
    with pytest.raises(UntrustedPathError, match=r"/file: it is of another user \(owner .*uid 65534\)"):
        read_trusted(file, 100)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    with pytest.raises(UntrustedPathError, match="writable by others"):
        read_trusted(file, 100)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT])
def test_a_symbolic_link_is_refused(tmp_path: Path, flags: int) -> None:
    target = tmp_path / "target"
    target.touch(mode=0o600)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(UntrustedPathError, match="a symbolic link"):
        open_trusted(tmp_path / "link", flags)


def test_a_named_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(UntrustedPathError, match="not a regular file"):
        read_trusted(tmp_path / "pipe", 100)


def test_a_folder_is_created_private(tmp_path: Path) -> None:
    create_private_folder(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700


def test_the_mode_of_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    create_private_folder(shared, shared=True)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777
    with pytest.raises(UntrustedPathError, match="writable by others"):
        create_private_folder(shared)
    assert stat.S_IMODE(shared.stat().st_mode) == 0o1777


def test_a_shared_folder_needs_the_sticky_bit(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    with (
        pytest.raises(UntrustedPathError, match="writable by others"),
        trusted_folder(tmp_path / "shared", shared=True),
    ):
        pass


@as_root
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "planted").mkdir(mode=0o700)
    other_user.give(tmp_path / "planted")
    with pytest.raises(UntrustedPathError, match=r"/planted: it is of another user"):
        create_private_folder(tmp_path / "planted")


def test_a_link_to_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UntrustedPathError, match="a symbolic link"), trusted_folder(tmp_path / "link"):
        pass


def test_a_file_is_opened_in_the_checked_folder_even_if_its_path_is_exchanged(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_atomically(folder / "file", b"mine")
    with trusted_folder(folder) as descriptor:
        folder.rename(tmp_path / "moved")
        folder.mkdir()
        write_atomically(folder / "file", b"planted")
        assert read_trusted(folder / "file", 100, folder=descriptor) == b"mine"


def test_a_write_replaces_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "file").symlink_to(target)
    write_atomically(tmp_path / "file", b"new")
    assert target.read_text() == "precious"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()


def test_a_write_that_fails_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        write_atomically(tmp_path / "folder", b"a file cannot replace a folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_drafts_have_names_that_cannot_be_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafts: list[str] = []
    replace = os.replace

    def record(source: Path, target: Path, **descriptors: int) -> None:
        drafts.append(Path(source).name)
        replace(source, target, **descriptors)

    monkeypatch.setattr(os, "replace", record)
    write_atomically(tmp_path / "file", b"1")
    write_atomically(tmp_path / "file", b"2")
    assert len(set(drafts)) == 2
