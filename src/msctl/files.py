"""Reading and writing files: within a limit, and only where no other user can interfere.

Other users of the machine can create files in shared folders before msctl does: a runtime folder in /tmp, a
`msctl.toml` in a parent folder, a symbolic link in place of a draft. The rules, each in one place here:

- A file or folder is trusted if this user or root owns it, no other user can write to it, and it is not a
  symbolic link. It is checked through its open descriptor: a check by path could be followed by an exchange.
- Files in a trusted folder are opened relative to its descriptor.
- A new file is created under a random name in the target's folder (O_EXCL, O_NOFOLLOW), then renamed.
- Modes are set when something is created; the mode of an existing file or folder is never changed.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msctl.errors import ConfigError, MsctlError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_SAFE_OPEN = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""O_NONBLOCK: opening a named pipe would wait for its writer."""


class FileTooLargeError(Exception):
    """A file has more bytes than its reader accepts."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(f"{path} is larger than {limit} bytes")
        self.limit = limit


class UntrustedPathError(MsctlError):
    """A file or folder that another user owns or can change; the message names the path and the owner."""


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises OSError and FileTooLargeError.

    Reads no more than that, whatever the file's size says: a pipe or a device has none.
    """
    with path.open("rb") as stream:
        return _read(stream.fileno(), path, limit)


def read_named_by(key: str, path: Path, limit: int, too_large: str) -> bytes:
    """The content of a file that a key of the configuration names. Raises ConfigError, which names both.

    `too_large` follows the path where the file has more than `limit` bytes.
    """
    try:
        return read_bounded(path, limit)
    except FileNotFoundError:
        raise ConfigError(f"{key}: {path} does not exist") from None
    except FileTooLargeError:
        raise ConfigError(f"{key}: {path} is larger than {too_large}") from None
    except OSError as error:
        raise ConfigError(f"{key}: {path} cannot be read: {(error.strerror or str(error)).lower()}") from None


def read_trusted(path: Path, limit: int, *, folder: int | None = None) -> bytes:
    """Read a trusted regular file. Raises UntrustedPathError, OSError and FileTooLargeError.

    `folder` is the descriptor of its folder; without it, the path is opened as a whole.
    """
    descriptor = open_trusted(path, os.O_RDONLY, folder=folder)
    try:
        return _read(descriptor, path, limit)
    finally:
        os.close(descriptor)


def read_own(path: Path, limit: int) -> bytes:
    """Read a file that may also be a link or writable by this user's own group.

    That is how people keep files in their projects, with umask 002 for instance. A link and its target both
    need a trusted owner. Raises UntrustedPathError, OSError and FileTooLargeError.
    """
    link = path.lstat()
    if stat.S_ISLNK(link.st_mode) and not is_trusted_user(link.st_uid):
        raise _untrusted(path, link, "a symbolic link of another user")
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        own_group = not status.st_mode & stat.S_IWOTH and status.st_gid == os.getegid()
        check_trusted(path, status, shared=own_group)
        return _read(descriptor, path, limit)
    finally:
        os.close(descriptor)


def open_trusted(path: Path, flags: int, *, folder: int | None = None, mode: int = 0o600) -> int:
    """Open a trusted regular file; returns its descriptor. Raises UntrustedPathError and OSError."""
    name = path if folder is None else path.name
    try:
        descriptor = os.open(name, flags | _SAFE_OPEN, mode, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise _untrusted(path, os.lstat(name, dir_fd=folder), "a symbolic link") from error
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _untrusted(path, status, "not a regular file")
        check_trusted(path, status)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def trusted_folder(path: Path, *, folder: int | None = None, shared: bool = False) -> Iterator[int]:
    """The descriptor of a trusted folder. Raises UntrustedPathError and OSError.

    With `shared`, others may write to it if it is sticky, as /tmp is: they cannot rename or remove what is
    not theirs. What is in it needs its own check.
    """
    name = path if folder is None else path.name
    flags = os.O_RDONLY | os.O_DIRECTORY | _SAFE_OPEN
    try:
        descriptor = os.open(name, flags, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.ENOTDIR):
            with suppress(FileNotFoundError):
                status = os.lstat(name, dir_fd=folder)
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a folder"
                raise _untrusted(path, status, kind) from error
        raise
    try:
        status = os.fstat(descriptor)
        check_trusted(path, status, shared=shared and bool(status.st_mode & stat.S_ISVTX))
        yield descriptor
    finally:
        os.close(descriptor)


def create_private_folder(path: Path, *, folder: int | None = None, shared: bool = False) -> None:
    """Create a folder with mode 0700, and its parents, or check that the existing one is trusted.

    Raises UntrustedPathError and OSError.
    """
    if folder is None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.mkdir(path if folder is None else path.name, 0o700, dir_fd=folder)
    with trusted_folder(path, folder=folder, shared=shared):
        pass


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600, folder: int | None = None) -> None:
    """Replace a file as a whole: readers see the old content or the new one. Raises OSError.

    A symbolic link at `path` is replaced, not followed.
    """
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    name, target = (draft, path) if folder is None else (draft.name, path.name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, mode, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(name, target, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)
        raise


def check_trusted(path: Path, status: os.stat_result, *, shared: bool = False) -> None:
    """Raise UntrustedPathError unless this user or root owns the file and no other user can write to it.

    With `shared`, others may write to it.
    """
    if not is_trusted_user(status.st_uid):
        raise _untrusted(path, status, "of another user")
    if status.st_mode & _OTHERS_WRITE and not shared:
        raise _untrusted(path, status, "writable by others")


def is_trusted_user(uid: int) -> bool:
    """Whether files and processes of this user are trusted: this user and root."""
    return uid in (os.getuid(), 0)


def describe_user(uid: int) -> str:
    """The user for messages: `user 'name' (uid 1000)`."""
    import pwd  # needed only for errors

    try:
        return f"user {pwd.getpwuid(uid).pw_name!r} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _untrusted(path: Path, status: os.stat_result, problem: str) -> UntrustedPathError:
    mode = stat.S_IMODE(status.st_mode)
    return UntrustedPathError(
        f"refusing to use {path}: it is {problem} (owner {describe_user(status.st_uid)}, mode {mode:04o})"
    )


def _read(descriptor: int, path: Path, limit: int) -> bytes:
    with os.fdopen(os.dup(descriptor), "rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise FileTooLargeError(path, limit)
    return content
