"""The runtime folder of a stack: its socket, lock, record, log and pid file.

There is one folder per project, mode 0700, in the user's base folder. The lock shows whether a stack runs:
the kernel releases it with the process, so that files left by a crash do not matter.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msctl.errors import MsctlError

MAX_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 104 on macOS and 108 on Linux, including the NUL."""


@dataclass(frozen=True, slots=True)
class StackPaths:
    """The files of one project's stack, all in `folder`."""

    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "control.sock"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    @property
    def record(self) -> Path:
        return self.folder / "stack.json"

    @property
    def log(self) -> Path:
        return self.folder / "stack.log"

    @property
    def children(self) -> Path:
        """The pid file (processes/pid_file.py)."""
        return self.folder / "children.json"

    def prepare(self) -> None:
        """Create the private folder. Raises MsctlError if it cannot be used."""
        try:
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _require_private(folder)
        except OSError as error:
            raise MsctlError(
                f"cannot use {self.folder} for the control socket: {error.strerror}",
                hint="set MSCTL_RUNTIME_DIR to a folder that you can write to",
            ) from error


def stack_paths(name: str, root: Path | None, env: Mapping[str, str]) -> StackPaths:
    """The paths for project `name` in folder `root` (None for the built-in course system)."""
    tag = "" if root is None else "-" + f"{zlib.crc32(os.fsencode(root)):08x}"
    paths = StackPaths(base_folder(env) / f"{name[:40]}{tag}")
    if len(os.fsencode(paths.socket)) > MAX_SOCKET_PATH:
        raise MsctlError(
            f"the control socket's path is too long for a Unix socket: {paths.socket}",
            hint="set MSCTL_RUNTIME_DIR to a folder with a shorter path",
        )
    return paths


def base_folder(env: Mapping[str, str]) -> Path:
    """The folder for the runtime folders of all of this user's stacks."""
    if chosen := env.get("MSCTL_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "msctl"
    # Not tempfile.gettempdir(): importing tempfile takes longer than everything else here.
    return Path(env.get("TMPDIR", "/tmp")) / f"msctl-{os.getuid()}"  # noqa: S108 - its owner is checked


def _require_private(folder: Path) -> None:
    """Refuse a folder that another user owns or can enter."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise MsctlError(
            f"{folder} is not a folder that you own, so it cannot hold the control socket",
            hint="set MSCTL_RUNTIME_DIR to a folder of your own",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def running_stacks(env: Mapping[str, str]) -> list[StackPaths]:
    """The paths of this user's running stacks, sorted by name."""
    try:
        folders = sorted(path for path in base_folder(env).iterdir() if path.is_dir())
    except OSError:
        return []
    return [paths for paths in map(StackPaths, folders) if is_locked(paths)]


_RETRY_S = 0.001


class StackLock:
    """The lock that a stack holds while its process runs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, paths: StackPaths) -> StackLock | None:
        """Acquire the lock of a prepared folder; None if a running stack holds it."""
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                if not _try_lock(descriptor, fcntl.LOCK_SH):
                    os.close(descriptor)
                    return None
                # No stack runs: another process holds a shared lock for a moment in `is_locked`.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                time.sleep(_RETRY_S)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def close(self) -> None:
        """Close this process's descriptor; a forked child with a copy still holds the lock."""
        os.close(self._descriptor)


def is_locked(paths: StackPaths) -> bool:
    """Whether a stack runs here, also while it starts or stops."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
