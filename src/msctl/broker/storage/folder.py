"""The folder of a log: its lock, and its segments as files.

Only this user may own the folder, and its files are opened by its descriptor (msctl.files). The lock is
the kernel's: it ends with the process.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from msctl.broker.storage.blocks import Buffer, read_blocks
from msctl.errors import BrokerError
from msctl.files import create_private_folder, open_trusted, trusted_folder
from msctl.forks import close_in_forks, keep_in_forks

LOCK = "lock"
KEPT = "damaged"
_NAME = re.compile(r"(\d{12})\.log")
_HOLDER_MAX = 1000


def _file(number: int) -> str:
    return f"{number:012d}.log"


class LogFolder:
    """An open, locked folder of segments. Implements `recovery.LogFiles`."""

    def __init__(self, path: Path, holder: str) -> None:
        """Create the folder, or open it, and lock it; `holder` says to others who has it.

        Raises BrokerError if another process has it, UntrustedPathError, and OSError.
        """
        self.path = path
        base, project = path.parent.parent, path.parent
        create_private_folder(base, shared=True)
        with trusted_folder(base, shared=True) as descriptor:
            create_private_folder(project, folder=descriptor)
        create_private_folder(path)
        self._above: tuple[Path, ...] = (project, base)
        """Folders that may have been created, and whose names are not known to be safe."""
        with trusted_folder(path) as opened:
            self._folder = os.dup(opened)
        try:
            self._lock = self._acquire(holder)
        except BaseException:
            os.close(self._folder)
            raise

    def _acquire(self, holder: str) -> int:
        lock = open_trusted(self.path / LOCK, os.O_RDWR | os.O_CREAT, folder=self._folder)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                other = os.pread(lock, _HOLDER_MAX, 0).decode(errors="replace").strip() or "another process"
                raise BrokerError(
                    f"the broker's log in {self.path} is in use by {other}",
                    hint="stop that stack, or set MSCTL_STATE_DIR to another folder for this one",
                ) from None
            with suppress(OSError):  # a full disk: the lock holds without the text
                os.ftruncate(lock, 0)
                os.pwrite(lock, holder.encode(errors="surrogateescape"), 0)
        except BaseException:
            os.close(lock)
            raise
        close_in_forks(lock)
        return lock

    def close(self) -> None:
        """Release the lock."""
        keep_in_forks(self._lock)
        os.close(self._lock)
        os.close(self._folder)

    # --- segments ---

    def numbers(self) -> list[int]:
        """The segments that exist, ascending. Raises OSError."""
        names = os.listdir(self._folder)  # noqa: PTH208 - by descriptor
        return sorted(int(found[1]) for name in names if (found := _NAME.fullmatch(name)) is not None)

    def create(self, number: int, head: bytes) -> int:
        """Create a segment with its header; return a descriptor for appending. Raises OSError."""
        name = _file(number)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        with suppress(FileNotFoundError):  # an earlier attempt failed
            os.unlink(name, dir_fd=self._folder)
        descriptor = open_trusted(self.path / name, flags, folder=self._folder)
        try:
            if os.write(descriptor, head) != len(head):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(name, dir_fd=self._folder)
            raise
        return descriptor

    def append(self, number: int, size: int) -> int:
        """Cut a segment to `size` bytes and return a descriptor for appending. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND
        descriptor = open_trusted(self.path / _file(number), flags, folder=self._folder)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, size)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def read(self, number: int) -> bytes:
        """A whole segment. Raises OSError."""
        descriptor = open_trusted(self.path / _file(number), os.O_RDONLY, folder=self._folder)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()

    def blocks(self, number: int) -> Iterator[bytes]:
        """The payloads of a segment's blocks, read one at a time. Raises OSError and DamagedError."""
        descriptor = open_trusted(self.path / _file(number), os.O_RDONLY, folder=self._folder)
        try:
            size = os.fstat(descriptor).st_size
            yield from read_blocks(lambda at, count: os.pread(descriptor, count, at), size, number)
        finally:
            os.close(descriptor)

    def write(self, descriptor: int, data: Buffer) -> int:
        """Append to a segment; return how many bytes were written. Raises OSError."""
        return os.write(descriptor, data)

    def truncate(self, descriptor: int, size: int) -> None:
        """Raises OSError."""
        os.ftruncate(descriptor, size)

    def synchronize(self, descriptor: int) -> None:
        """Write a segment's data to the disk. Raises OSError."""
        getattr(os, "fdatasync", os.fsync)(descriptor)

    def release(self, descriptor: int) -> None:
        """Close a segment."""
        os.close(descriptor)

    def remove(self, number: int) -> None:
        """Raises OSError."""
        with suppress(FileNotFoundError):
            os.unlink(_file(number), dir_fd=self._folder)

    def aside(self, number: int) -> Path:
        """Where `keep_aside` puts a segment."""
        return self.path / KEPT / _file(number)

    def keep_aside(self, number: int) -> None:
        """Move a damaged segment out of the log, without needing space. Raises OSError."""
        with suppress(FileExistsError):
            os.mkdir(KEPT, 0o700, dir_fd=self._folder)
        with trusted_folder(self.path / KEPT, folder=self._folder) as kept:
            name = _file(number)
            os.rename(name, name, src_dir_fd=self._folder, dst_dir_fd=kept)

    def delete(self) -> int:
        """Delete all segments, the kept ones too; return their size in bytes. Raises OSError."""
        size = self._delete_in(self._folder)
        with suppress(FileNotFoundError), trusted_folder(self.path / KEPT, folder=self._folder) as kept:
            size += self._delete_in(kept)
        return size

    @staticmethod
    def _delete_in(folder: int) -> int:
        size = 0
        for name in os.listdir(folder):
            if _NAME.fullmatch(name):
                size += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                os.unlink(name, dir_fd=folder)
        return size

    def sync(self) -> None:
        """Make the names of new files safe, and once those of the folders above. Raises OSError."""
        os.fsync(self._folder)
        for folder in self._above:
            with trusted_folder(folder, shared=folder == self.path.parent.parent) as descriptor:
                os.fsync(descriptor)
        self._above = ()


def has_log(path: Path) -> bool:
    """Whether there is a log in the folder; also if it cannot be read."""
    try:
        return any(_NAME.fullmatch(name) for name in os.listdir(path))  # noqa: PTH208 - names only
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def delete_log(path: Path) -> int:
    """Delete a log, with the damaged segments that were kept; return its size in bytes.

    Raises BrokerError if a broker uses it, UntrustedPathError, and OSError.
    """
    if not path.exists():
        return 0
    folder = LogFolder(path, "msctl broker reset")
    try:
        return folder.delete()
    finally:
        folder.close()
