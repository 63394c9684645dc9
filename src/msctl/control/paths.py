"""Where a stack keeps its socket, lock and records, and who may look at them.

One folder per project, mode 0700, below a base folder of the user's own. The lock tells whether
a stack runs: the kernel drops it with the process, so nothing that a crash leaves can mislead.
Knows nothing of HTTP, asyncio or the stack.
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
"""Bytes; the kernel's own limit is 104 on macOS and 108 on Linux, with the closing NUL."""


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
        """Which child processes there are, for the next stack to find what a crash left behind."""
        return self.folder / "children.json"

    def prepare(self) -> None:
        """Make the folder, private to this user. Raises MsctlError where that cannot be had."""
        try:
            for folder in (self.folder.parent, self.folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                _require_private(folder)
        except OSError as error:
            raise MsctlError(
                f"cannot use the folder {self.folder} for the control socket: {error.strerror}",
                hint="set MSCTL_RUNTIME_DIR to a folder that you can write to",
            ) from error


def stack_paths(name: str, root: Path | None, env: Mapping[str, str]) -> StackPaths:
    """The paths of the project `name` whose folder is `root` (None: the built-in course system)."""
    tag = "" if root is None else "-" + f"{zlib.crc32(os.fsencode(root)):08x}"
    paths = StackPaths(base_folder(env) / f"{name[:40]}{tag}")
    if len(os.fsencode(paths.socket)) > MAX_SOCKET_PATH:
        raise MsctlError(
            f"the path of the control socket is too long for a Unix socket: {paths.socket}",
            hint="set MSCTL_RUNTIME_DIR to a folder with a shorter name",
        )
    return paths


def base_folder(env: Mapping[str, str]) -> Path:
    """The folder that holds all of this user's stacks."""
    if chosen := env.get("MSCTL_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "msctl"
    # Not tempfile.gettempdir(): its import takes longer than all else that is done here.
    return Path(env.get("TMPDIR", "/tmp")) / f"msctl-{os.getuid()}"  # noqa: S108 - checked to be ours


def _require_private(folder: Path) -> None:
    """Refuse a folder that somebody else owns or can enter: /tmp is everybody's."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise MsctlError(
            f"{folder} is not a folder of yours, so the control socket cannot be kept there",
            hint="set MSCTL_RUNTIME_DIR to a folder of your own",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        folder.chmod(0o700)


def running_stacks(env: Mapping[str, str]) -> list[StackPaths]:
    """Where the stacks of this user live that run now, in the order of their names."""
    try:
        folders = sorted(path for path in base_folder(env).iterdir() if path.is_dir())
    except OSError:
        return []
    return [paths for paths in map(StackPaths, folders) if is_locked(paths)]


_A_MOMENT = 0.001


class StackLock:
    """Held by a stack for as long as its process lives."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, paths: StackPaths) -> StackLock | None:
        """Take the lock of a prepared folder; None where a living stack holds it."""
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _take(descriptor, fcntl.LOCK_EX):
                if not _take(descriptor, fcntl.LOCK_SH):
                    os.close(descriptor)
                    return None
                # Nobody lives here: others only look (`is_locked`), and are done in a moment.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                time.sleep(_A_MOMENT)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    def forget(self) -> None:
        """Close this process's copy; a forked child that has one too goes on holding the lock."""
        os.close(self._descriptor)


def is_locked(paths: StackPaths) -> bool:
    """Whether a stack lives here, be it still starting or already stopping."""
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _take(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
