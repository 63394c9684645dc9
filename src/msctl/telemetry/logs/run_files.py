"""What the services of one run print, a file each, for as long as the run is kept.

A background writer writes them: the loop hands over bytes and returns. What is not written yet is
bounded by `queue_bytes`, and what does not fit is dropped and counted. An error is reported once a
minute, and the next piece is tried again, so that a disk that has room again is used again.

A record is one line: `TIME INSTANCE STREAM TEXT`. TIME is RFC 3339 in UTC; STREAM is `stdout` or
`stderr` for what a child printed, and a level (`info`, `error`, …) for what was logged in this
process. A file that reaches `max_bytes` becomes `NAME.log.1`, replacing an older one.
"""

from __future__ import annotations

import heapq
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from urllib.parse import quote, unquote

from msctl.clock import Clock
from msctl.model.events import LogLine
from msctl.telemetry.background_writer import BackgroundWriter, Reports
from msctl.telemetry.logs.parsing import parse_record
from msctl.telemetry.logs.records import RecordJoiner

MAX_BYTES = 10 * 1024 * 1024
QUEUE_BYTES = 8 * 1024 * 1024
MAX_PARTIAL = 64 * 1024
STREAMS = ("stdout", "stderr")
_SUFFIX = ".log"
_PLAIN = re.compile(r"[\w-]{1,63}", re.ASCII)
_LONGEST_NAME = 150
_SPACES = re.compile(r"[\s%]")
"""What an instance must not have in a record's line."""


_Piece = tuple[str, str, str, float, bytes]
"""Service, instance, stream, the time at which it was read, and what was read."""


@dataclass(slots=True)
class _File:
    """One service's file, as the thread knows it."""

    name: str
    descriptor: int = -1
    size: int = 0
    lost: int = 0
    partial: dict[tuple[str, str], bytearray] = field(default_factory=dict)


class RunFiles:
    """Writes the log files of one run."""

    def __init__(
        self,
        make_folder: Callable[[], Path],
        clock: Clock,
        report: Callable[[str], object],
        *,
        max_bytes: int = MAX_BYTES,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        """`make_folder` makes the run's private folder, `report` takes a message about a failed write.

        Both are called in the thread. `make_folder` may raise OSError, and is then called again later.
        """
        self._make_folder = make_folder
        self._folder: Path | None = None
        self._clock = clock
        self._reports = Reports(clock, report)
        self._max_bytes = max_bytes
        self._queue_bytes = queue_bytes
        self._files: dict[str, _File] = {}
        self._queue: deque[_Piece] = deque()
        self._queued = 0
        self._dropped: dict[str, int] = {}
        self._writer = BackgroundWriter("log files", self._take, self._write, self._finish)

    def write(self, service: str, instance: str, stream: str, data: bytes) -> None:
        """Append bytes that `instance` printed; never blocks for longer than a lock is held."""
        with self._writer.changing() as accepting:
            if not accepting:
                return
            if self._queued + len(data) > self._queue_bytes:
                self._dropped[service] = self._dropped.get(service, 0) + data.count(b"\n")
                return
            self._queue.append((service, instance, stream, self._clock.time(), data))
            self._queued += len(data)

    def line(self, line: LogLine) -> None:
        """Append a line that was logged in this process."""
        text = line.text.encode("utf-8", "surrogateescape")
        instance = _SPACES.sub(lambda found: quote(found[0]), line.instance or line.service)
        self.write(line.service, instance, line.stream or line.level, text + b"\n")

    def close(self, timeout: float = 2.0) -> None:
        """Write what is queued, for at most `timeout` seconds, and close the files."""
        self._writer.close(timeout)

    def _take(self) -> tuple[Iterable[_Piece], Mapping[str, int]] | None:
        if not self._queue and not self._dropped:
            return None
        pieces, self._queue = self._queue, deque()
        self._queued = 0
        dropped, self._dropped = self._dropped, {}
        return pieces, dropped

    def _write(self, waiting: tuple[Iterable[_Piece], Mapping[str, int]]) -> None:
        pieces, dropped = waiting
        for service, count in dropped.items():
            self._file(service).lost += count
        for piece in pieces:
            self._append(*piece)

    def _finish(self) -> None:
        """Write the lines that have no end yet, and close the files."""
        for service, file in self._files.items():
            for (instance, stream), rest in file.partial.items():
                if rest:
                    self._put(file, service, instance, stream, self._clock.time(), bytes(rest))
            if file.descriptor >= 0:
                os.close(file.descriptor)

    def _append(self, service: str, instance: str, stream: str, when: float, data: bytes) -> None:
        file = self._file(service)
        partial = file.partial.setdefault((instance, stream), bytearray())
        partial += data
        end = partial.rfind(b"\n")
        if end < 0 and len(partial) < MAX_PARTIAL:
            return
        whole = bytes(partial[:end] if end >= 0 else partial)
        del partial[: end + 1 if end >= 0 else len(partial)]
        self._put(file, service, instance, stream, when, whole)

    def _put(self, file: _File, service: str, instance: str, stream: str, when: float, whole: bytes) -> None:
        prefix = f"{_moment(when)} {instance} {stream} ".encode()
        text = prefix + whole.replace(b"\n", b"\n" + prefix) + b"\n"
        try:
            if file.descriptor < 0:
                self._open(file)
            elif file.size + len(text) > self._max_bytes:
                self._rotate(file)
            _write_all(file.descriptor, text)
            file.size += len(text)
        except OSError as error:
            file.lost += whole.count(b"\n") + 1
            why = f"cannot write the log file of {service}: {error.strerror}; {file.lost} lines lost"
            self._reports.say(service, why)

    def _open(self, file: _File) -> None:
        if self._folder is None:
            self._folder = self._make_folder()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        file.descriptor = os.open(self._folder / file.name, flags, 0o600)
        file.size = os.fstat(file.descriptor).st_size

    def _rotate(self, file: _File) -> None:
        descriptor, file.descriptor = file.descriptor, -1
        os.close(descriptor)
        if self._folder is not None:
            path = self._folder / file.name
            path.replace(path.with_name(f"{path.name}.1"))
        self._open(file)

    def _file(self, service: str) -> _File:
        file = self._files.get(service)
        if file is None:
            file = self._files[service] = _File(file_name(service))
        return file


def file_name(service: str) -> str:
    """The name of a service's file: a program that the stack did not start may call itself `../x`."""
    if _PLAIN.fullmatch(service):
        return f"{service}{_SUFFIX}"
    quoted = quote(service, safe="").replace(".", "%2E")
    if len(quoted) > _LONGEST_NAME:
        quoted = f"{quoted[:_LONGEST_NAME]}-{sha256(service.encode()).hexdigest()[:16]}"
    return f"{quoted}{_SUFFIX}"


def _service_of(path: Path) -> str:
    return unquote(path.name.partition(_SUFFIX)[0])


def read_run(folder: Path, services: Iterable[str] = ()) -> list[LogLine]:
    """The lines that a run left in `folder`, of these services (none: of all), oldest first.

    A service without a file has no lines. Raises OSError for a file that cannot be read.
    """
    wanted = set(services)
    by_service: dict[str, list[LogLine]] = {}
    for path in sorted(folder.glob(f"*{_SUFFIX}*"), reverse=True):  # NAME.log.1 before NAME.log
        service = _service_of(path)
        if not wanted or service in wanted:
            by_service.setdefault(service, []).extend(_read(path, service))
    # The lines of a service stay in their order, also where the clock was set back.
    merged = heapq.merge(*map(_with_latest_times, by_service.values()), key=itemgetter(0))
    return [line for _, line in merged]


def _with_latest_times(lines: Iterable[LogLine]) -> Iterator[tuple[float, LogLine]]:
    """Yield each line after the latest time up to it."""
    latest = 0.0
    for line in lines:
        latest = max(latest, line.time)
        yield latest, line


def services_of(folder: Path) -> list[str]:
    """The services of which a run left lines."""
    return sorted({_service_of(path) for path in folder.glob(f"*{_SUFFIX}*")})


def _read(path: Path, service: str) -> list[LogLine]:
    """The records of a file, by their first lines: what was printed is joined and read as when it came."""
    joiners: dict[tuple[str, str], tuple[RecordJoiner, int, float]] = {}
    found: list[tuple[int, LogLine]] = []
    instance, stream = service, "info"
    when = 0.0
    for number, raw in enumerate(path.read_bytes().splitlines()):
        text = raw.decode("utf-8", "replace")
        parts = text.split(" ", 3)
        if len(parts) == 4 and (moment := _parsed(parts[0])) is not None:
            when, (instance, stream, text) = moment, parts[1:]
        joiner, first, began = joiners.get((instance, stream)) or (RecordJoiner(), number, when)
        record = joiner.add(text)
        if record is not None:
            found.append((first, _record(service, instance, stream, record, began)))
            first, began = number, when
        joiners[instance, stream] = joiner, first, began
    for (instance, stream), (joiner, first, began) in joiners.items():
        record = joiner.flush()
        if record is not None:
            found.append((first, _record(service, instance, stream, record, began)))
    found.sort(key=itemgetter(0))
    return [line for _, line in found]


def _record(service: str, instance: str, stream: str, text: str, when: float) -> LogLine:
    instance = unquote(instance)
    shown = "" if instance == service else instance
    if stream not in STREAMS:
        return LogLine(0, when, service, stream, text, shown)
    found = parse_record(text)
    return LogLine(
        0, when, service, found.level or "info", found.text, shown, found.trace, found.fields, stream
    )


def _moment(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _parsed(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
