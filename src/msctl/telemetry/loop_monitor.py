"""Measures the event loop's lag and names the code that blocks the loop.

Invariant: a timer in the loop beats every `BEAT_S`, and a thread checks the beat every `CHECK_S`. While a
beat is overdue, the thread samples the stack of the loop's thread (`sys._current_frames`). When the loop
continues, the location seen most often is reported as the cause, by service, file and line.

Code that holds the GIL (a C extension that never releases it) stops the sampling thread too: the stall is
then reported without a location. Both sides together cost less than half a percent of a core when idle.
"""

from __future__ import annotations

import asyncio
import linecache
import selectors
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import FrameType

BLOCKED_S = 0.25
BEAT_S = 0.05
CHECK_S = 0.1
SUSPECT_S = 0.075
"""How overdue a beat is when the thread starts to sample."""
STUCK_S = 5.0
QUIET_S = 10.0
"""Each location is reported at most once within this time."""
PERIOD_S = 10.0
_MAX_LOCATIONS = 200


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """A line of code; `service` is empty for code outside every service."""

    service: str
    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        """The text of the line; empty if the file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        position = f"{_short(self.file)}:{self.line} in {self.function}"
        return f"{position}: {self.code}" if self.code else position


@dataclass(frozen=True, slots=True)
class Stall:
    """The event loop did not run for `seconds`.

    `location` is the code that ran instead; None if no Python code did (busy or suspended machine).
    `unreported` counts earlier stalls at the same location that were not reported.
    """

    seconds: float
    location: CodeLocation | None
    unreported: int = 0

    def __str__(self) -> str:
        if self.location is None:
            return f"the event loop did not run for {_ms(self.seconds)}: the machine was busy or suspended"
        more = f" ({self.unreported} more times since the last report)" if self.unreported else ""
        owner = self.location.service or "code outside every service"
        return f"{owner} blocked the event loop for {_ms(self.seconds)}{more}, at {self.location}"


class LoopMonitor:
    """Monitors the running event loop from `start` to `stop`."""

    def __init__(
        self,
        report: Callable[[Stall], None],
        *,
        stuck: Callable[[Stall], None] | None = None,
        service_of: Callable[[FrameType], str | None] = lambda _: None,
        modules: Mapping[str, str] | None = None,
        blocked_s: float = BLOCKED_S,
        stuck_s: float = STUCK_S,
    ) -> None:
        """`report` is called in the loop after each stall of at least `blocked_s`. `stuck` is called in
        another thread, once for each stall that has lasted `stuck_s` and continues.

        `service_of` returns the service that a frame works for. `modules` maps module names to services,
        for frames that `service_of` does not know.
        """
        self._report = report
        self._stuck = stuck
        self._service_of = service_of
        self.set_modules(modules or {})
        self._blocked_s = blocked_s
        self._stuck_s = stuck_s
        self._due = 0.0
        self._samples: Counter[CodeLocation] = Counter()
        self._worst = _RecentMax()
        self._reported: dict[CodeLocation | None, tuple[float, int]] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the timer and the thread; call it in the loop."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped.clear()
        self._schedule_beat()
        self._thread = threading.Thread(target=self._check_beats, name="msctl-loop-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the timer and join the thread."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def set_modules(self, modules: Mapping[str, str]) -> None:
        """Replace the map from module names to services."""
        self._modules = dict(modules)

    def lag(self) -> float:
        """The longest delay of a beat, in seconds, within the last 10 to 20 s."""
        return self._worst.value(time.monotonic())

    # --- in the loop ------------------------------------------------------------------------------

    def _schedule_beat(self) -> None:
        self._due = time.monotonic() + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        late = max(0.0, now - self._due)
        self._worst.record(now, late)
        samples, self._samples = self._samples, Counter()
        # The blocking code may have started right after the last beat.
        if late + BEAT_S >= self._blocked_s:
            self._report_once(Stall(late, _most_seen(samples)), now)
        self._schedule_beat()

    def _report_once(self, stall: Stall, now: float) -> None:
        """Report the stall, unless its location was reported within `QUIET_S`: then count it."""
        reported = self._reported.get(stall.location)
        if reported is not None and now - reported[0] < QUIET_S:
            self._reported[stall.location] = (reported[0], reported[1] + 1)
            return
        if len(self._reported) >= _MAX_LOCATIONS:
            self._reported.clear()
        self._reported[stall.location] = (now, 0)
        self._report(replace(stall, unreported=reported[1] if reported else 0))

    # --- in the thread ----------------------------------------------------------------------------

    def _check_beats(self) -> None:
        alarmed = 0.0
        while not self._stopped.wait(CHECK_S):
            due = self._due
            late = time.monotonic() - due
            if late < SUSPECT_S:
                continue
            location = self._sample()
            if location is not None and self._due == due:
                self._samples[location] += 1
            if self._stuck is not None and late >= self._stuck_s and alarmed != due:
                alarmed = due
                self._stuck(Stall(late, location))

    def _sample(self) -> CodeLocation | None:
        """The location of the loop's thread. Keeps no reference to its frames."""
        frame = sys._current_frames().get(self._loop_thread)
        return None if frame is None else locate(frame, self._service_of, self._modules)


def locate(
    innermost: FrameType, service_of: Callable[[FrameType], str | None], modules: Mapping[str, str]
) -> CodeLocation | None:
    """Find the code that the event loop runs, given the innermost frame of its thread.

    Prefers the innermost line of the project, then of a library, then of msctl. Returns None while the
    loop waits or runs its own code.
    """
    found: dict[_CodeOwner, FrameType] = {}
    service: str | None = None
    by_module: str | None = None
    for frame in _frames_inside_loop(innermost):
        found.setdefault(_owner(frame.f_code.co_filename), frame)
        service = service or service_of(frame)
        by_module = by_module or _service_of_module(frame, modules)
    chosen = found.get(_CodeOwner.PROJECT) or found.get(_CodeOwner.LIBRARY) or found.get(_CodeOwner.MSCTL)
    if chosen is None:
        return None
    code = chosen.f_code
    return CodeLocation(service or by_module or "", code.co_filename, chosen.f_lineno, code.co_name)


class _RecentMax:
    """The largest value of the current and the previous period of `PERIOD_S`."""

    def __init__(self) -> None:
        self._period = 0
        self._current = 0.0
        self._previous = 0.0

    def record(self, now: float, value: float) -> None:
        self._advance(now)
        self._current = max(self._current, value)

    def value(self, now: float) -> float:
        self._advance(now)
        return max(self._current, self._previous)

    def _advance(self, now: float) -> None:
        period = int(now / PERIOD_S)
        if period != self._period:
            self._previous = self._current if period == self._period + 1 else 0.0
            self._current = 0.0
            self._period = period


class _CodeOwner(Enum):
    PROJECT = 1
    LIBRARY = 2
    MSCTL = 3
    LOOP = 4


_ASYNCIO = str(Path(asyncio.__file__).parent)
_MSCTL = str(Path(__file__).parents[1])
_SERVICES = str(Path(__file__).parents[1] / "services")
_PATHS = sysconfig.get_paths()
_LIBRARIES = (
    *(_PATHS[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    "/usr/lib/python3/dist-packages",
    "<frozen",
)
_RUNNERS = frozenset({"_run_once", "run_forever", "run_until_complete", "run"})


def _owner(file: str) -> _CodeOwner:
    if file.startswith((_ASYNCIO, selectors.__file__)):
        return _CodeOwner.LOOP
    if file.startswith(_MSCTL):
        return _CodeOwner.PROJECT if file.startswith(_SERVICES) else _CodeOwner.MSCTL
    return _CodeOwner.LIBRARY if file.startswith(_LIBRARIES) else _CodeOwner.PROJECT


def _frames_inside_loop(innermost: FrameType | None) -> Iterator[FrameType]:
    """The frames from the innermost one up to the event loop's own."""
    frame = innermost
    while frame is not None:
        code = frame.f_code
        if code.co_name in _RUNNERS and code.co_filename.startswith(_ASYNCIO):
            return
        yield frame
        frame = frame.f_back


def _service_of_module(frame: FrameType, modules: Mapping[str, str]) -> str | None:
    name = str(frame.f_globals.get("__name__", ""))
    while name:
        if name in modules:
            return modules[name]
        name = name.rpartition(".")[0]
    return None


def _most_seen(samples: Counter[CodeLocation]) -> CodeLocation | None:
    return samples.most_common(1)[0][0] if samples else None


def _short(file: str) -> str:
    """The path relative to the working directory, if it is below it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
