"""The runtime folder of a stack: its socket, lock, record, log and pid file.

There is one folder per project, mode 0700, in the user's base folder. The lock shows whether a stack runs:
the kernel releases it with the process, so that files left by a crash do not matter.

Another user may have created the base folder or a stack's folder first, with a record of their making: every
access opens both by descriptor and checks their owners (msctl.files).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from msctl.errors import MsctlError
from msctl.files import (
    UntrustedPathError,
    create_private_folder,
    open_trusted,
    trusted_folder,
)
from msctl.forks import close_in_forks, keep_in_forks

LONGEST_NAME = 40
"""Bytes of a project's name in the name of its runtime folder."""
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
        base = self.folder.parent
        try:
            create_private_folder(base, shared=True)
            with trusted_folder(base, shared=True) as parent:
                create_private_folder(self.folder, folder=parent)
        except UntrustedPathError as error:
            raise _with_hint(error) from error
        except OSError as error:
            raise MsctlError(
                f"cannot use {self.folder} for the control socket: {error.strerror}",
                hint="set MSCTL_RUNTIME_DIR to a folder that you can write to",
            ) from error

    @contextmanager
    def opened(self) -> Iterator[int]:
        """The descriptor of the folder.

        Raises FileNotFoundError if there is none, UntrustedPathError if another user could have planted it,
        MsctlError if it cannot be opened.
        """
        with ExitStack() as stack:
            try:
                base = stack.enter_context(trusted_folder(self.folder.parent, shared=True))
                folder = stack.enter_context(trusted_folder(self.folder, folder=base))
            except FileNotFoundError:
                raise
            except UntrustedPathError as error:
                raise _with_hint(error) from error
            except OSError as error:
                raise cannot_open(self.folder, error) from error
            yield folder


def stack_paths(name: str, root: Path | None, env: Mapping[str, str]) -> StackPaths:
    """The paths for project `name` in folder `root` (None for the built-in course system)."""
    tag = "" if root is None else "-" + f"{zlib.crc32(os.fsencode(root)):08x}"
    paths = StackPaths(base_folder(env) / f"{_shortened(name)}{tag}")
    if len(os.fsencode(paths.socket)) > MAX_SOCKET_PATH:
        raise MsctlError(
            f"the control socket's path is too long for a Unix socket: {paths.socket}",
            hint="set MSCTL_RUNTIME_DIR to a folder with a shorter path",
        )
    return paths


def _shortened(name: str) -> str:
    """The name in at most 40 bytes; a longer one is cut and told apart by its checksum."""
    encoded = os.fsencode(name)
    if len(encoded) <= LONGEST_NAME:
        return name
    checksum = f"-{zlib.crc32(encoded):08x}"
    return encoded[: LONGEST_NAME - len(checksum)].decode(errors="ignore") + checksum


def base_folder(env: Mapping[str, str]) -> Path:
    """The folder for the runtime folders of all of this user's stacks."""
    if chosen := env.get("MSCTL_RUNTIME_DIR"):
        return Path(chosen).absolute()
    if runtime := env.get("XDG_RUNTIME_DIR"):
        return Path(runtime).absolute() / "msctl"
    # Not tempfile.gettempdir(): importing tempfile takes longer than everything else here.
    return Path(env.get("TMPDIR", "/tmp")).absolute() / f"msctl-{os.getuid()}"  # noqa: S108 - its owner is checked


def _with_hint(error: UntrustedPathError) -> UntrustedPathError:
    hint = "remove it if you do not need it, or set MSCTL_RUNTIME_DIR to a folder of your own"
    return UntrustedPathError(error.message, hint=hint)


def cannot_open(path: Path, error: OSError) -> MsctlError:
    """What to raise for a file of the runtime folder that cannot be opened, such as without descriptors."""
    exhausted = error.errno in (errno.EMFILE, errno.ENFILE)
    return MsctlError(
        f"cannot open {path}: {(error.strerror or str(error)).lower()}",
        hint="raise the limit of open files: ulimit -n" if exhausted else None,
    )


def running_stacks(env: Mapping[str, str]) -> list[StackPaths]:
    """The paths of this user's running stacks, sorted by name.

    Raises UntrustedPathError for the base folder; skips folders of other users in a shared one.
    """
    base = base_folder(env)
    try:
        with trusted_folder(base, shared=True) as descriptor:
            names = sorted(os.listdir(descriptor))  # noqa: PTH208 - by descriptor
    except UntrustedPathError as error:
        raise _with_hint(error) from error
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot_open(base, error) from error
    return [paths for paths in (StackPaths(base / name) for name in names) if _is_own_and_locked(paths)]


def _is_own_and_locked(paths: StackPaths) -> bool:
    try:
        return is_locked(paths)
    except (UntrustedPathError, PermissionError, NotADirectoryError):
        return False  # another user's, or no stack's folder


_RETRY_S = 0.001


class StackLock:
    """The lock that a stack holds while its process runs."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        close_in_forks(descriptor)

    @classmethod
    def acquire(cls, paths: StackPaths) -> StackLock | None:
        """Acquire the lock of a prepared folder; None if a running stack holds it."""
        with paths.opened() as folder:
            descriptor = open_trusted(paths.lock, os.O_RDWR | os.O_CREAT, folder=folder)
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
        """Close this process's descriptor; the stack that was forked with a copy still holds the lock."""
        keep_in_forks(self._descriptor)
        os.close(self._descriptor)


def is_locked(paths: StackPaths) -> bool:
    """Whether a stack runs here, also while it starts or stops. Raises UntrustedPathError."""
    try:
        with paths.opened() as folder:
            descriptor = open_trusted(paths.lock, os.O_RDWR, folder=folder)
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
