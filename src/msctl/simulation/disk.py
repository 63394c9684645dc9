"""The disk of a simulated broker: its log as files in memory, which outlive the broker's crashes.

What the kernel has of a file is its `data`; what is on the disk is what was synchronized. A crash of the
process keeps the first, a loss of power some of what comes after the second: any number of bytes, and any
number of the files whose names were not synchronized. `crash_soon` ends the broker in the middle of one of
the next few operations: a block is torn, or written and not synchronized, or both and not confirmed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from msctl.broker.storage.blocks import Buffer, read_blocks
from msctl.broker.storage.worker import Job

OPERATIONS_UNTIL_CRASH = 6
SLOWEST_S = 0.02
"""Seconds that a job of the log's worker takes at most."""


class CrashedError(BaseException):
    """The broker ends here. Nothing may catch it: its code does not run on."""


class _File:
    """A segment: what was written, how much of it is on the disk, and whether its name is."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.synced = 0
        self.named = False


class Disk:
    """What is kept while the broker is not running."""

    def __init__(
        self, random: Random, crash: Callable[[str], None], later: Callable[[float, Job], object]
    ) -> None:
        """`crash` ends the broker's life; `later` runs a job after some virtual seconds."""
        self.files: dict[int, _File] = {}
        self.aside: dict[int, _File] = {}
        self.random = random
        self.later = later
        self._crash = crash
        self._left: int | None = None

    def open(self, path: Path, _holder: str) -> DiskFolder:
        """The folder of a log. Implements `storage.Storage`'s open_files."""
        return DiskFolder(path, self)

    def start_worker(self) -> DiskWorker:
        return DiskWorker(self)

    def crash_soon(self) -> None:
        """Crash the broker in one of the next operations."""
        self._left = self.random.randint(1, OPERATIONS_UNTIL_CRASH)

    def operation(self, what: str, half: Callable[[], None] = lambda: None) -> None:
        """Perform an operation on the disk: `half` of it, where the broker crashes. Raises CrashedError."""
        if self._left is None:
            return
        self._left -= 1
        if self._left > 0:
            return
        self._left = None
        half()
        self._crash(what)
        raise CrashedError

    def restarted(self, *, power_lost: bool) -> None:
        """Forget what was not on the disk when the power was lost, as far as it was not; expect no crash."""
        self._left = None
        if not power_lost:
            return
        for number in sorted(self.files):
            file = self.files[number]
            if not file.named and self.random.random() < 0.5:
                del self.files[number]
            elif file.synced < len(file.data):
                del file.data[self.random.randint(file.synced, len(file.data)) :]


class DiskFolder:
    """The open folder of a log on a disk. Implements `recovery.LogFiles`."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self.path = path
        self._disk = disk

    def numbers(self) -> list[int]:
        return sorted(self._disk.files)

    def create(self, number: int, head: bytes) -> int:
        def half() -> None:
            file = self._disk.files[number] = _File()
            file.data += head[: self._disk.random.randint(0, len(head))]

        self._disk.operation(f"while it creates segment {number}", half)
        file = self._disk.files[number] = _File()
        file.data += head
        return number

    def append(self, number: int, size: int) -> int:
        self.truncate(number, size)
        return number

    def read(self, number: int) -> bytes:
        return bytes(self._disk.files[number].data)

    def blocks(self, number: int) -> Iterator[bytes]:
        data = self.read(number)
        return read_blocks(lambda at, count: data[at : at + count], len(data), number)

    def write(self, descriptor: int, data: Buffer) -> int:
        file = self._disk.files[descriptor]

        def half() -> None:
            file.data.extend(data[: self._disk.random.randint(0, len(data))])

        self._disk.operation(f"in the middle of writing {len(data)} bytes", half)
        file.data += data
        return len(data)

    def truncate(self, descriptor: int, size: int) -> None:
        file = self._disk.files[descriptor]
        del file.data[size:]
        file.synced = min(file.synced, size)

    def synchronize(self, descriptor: int) -> None:
        self._disk.operation("before it synchronizes what it wrote")
        file = self._disk.files[descriptor]
        file.synced = len(file.data)

    def sync(self) -> None:
        for file in self._disk.files.values():
            file.named = True

    def release(self, descriptor: int) -> None:
        """Do nothing: descriptors are the numbers of segments."""

    def remove(self, number: int) -> None:
        self._disk.operation(f"before it removes segment {number}")
        self._disk.files.pop(number, None)

    def aside(self, number: int) -> Path:
        return self.path / "damaged" / str(number)

    def keep_aside(self, number: int) -> None:
        self._disk.aside[number] = self._disk.files.pop(number)

    def close(self) -> None:
        """Do nothing: no other process can want it."""


class DiskWorker:
    """Jobs that take virtual time, one after the other. They end with the broker's life."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._jobs: list[Job] = []

    def put(self, job: Job) -> None:
        self._jobs.append(job)
        if len(self._jobs) == 1:
            self._next()

    def post(self, call: Job) -> None:
        """Call back what a job has done, a while later: a crash may come in between."""
        self._disk.later(self._disk.random.uniform(0, SLOWEST_S), call)

    def finish(self) -> None:
        while self._jobs:
            self._jobs.pop(0)()

    def _next(self) -> None:
        self._disk.later(self._disk.random.uniform(0, SLOWEST_S), self._run)

    def _run(self) -> None:
        if not self._jobs:
            return
        self._jobs[0]()
        del self._jobs[0]
        if self._jobs:
            self._next()
