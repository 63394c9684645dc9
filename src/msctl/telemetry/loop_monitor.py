"""How late the event loop runs, and whose code holds it up.

The loop beats twenty times a second; a thread looks whether it still does. While a beat is overdue,
the thread samples what the loop's thread executes (`sys._current_frames`), so that a handler that
blocks everything is named by service, file and line once the loop goes on. Idle, both cost under
half a percent of a core.
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
LOOK_S = 0.1
SUSPECT_S = 0.075
"""How overdue a beat is when the thread starts to sample."""
STUCK_S = 5.0
QUIET_S = 10.0
"""The same place is reported at most once within this time."""
WORST_OF_S = 10.0
_MAX_PLACES = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a service's code; `service` is empty where it belongs to none."""

    service: str
    file: str
    line: int
    function: str

    @property
    def code(self) -> str:
        """The line itself; empty where its file cannot be read."""
        return linecache.getline(self.file, self.line).strip()

    def __str__(self) -> str:
        where = f"{_short(self.file)}:{self.line} in {self.function}"
        return f"{where}: {self.code}" if self.code else where


@dataclass(frozen=True, slots=True)
class Block:
    """The event loop could not run for `seconds`. `place` is what ran instead, None where nothing of
    ours did (the machine was busy, or asleep). `again` counts former ones there that were not told."""

    seconds: float
    place: Place | None
    again: int = 0

    def __str__(self) -> str:
        if self.place is None:
            return f"the event loop did not run for {_ms(self.seconds)}: this machine gave it no time"
        again = f" ({self.again} more times since this was last said)" if self.again else ""
        owner = self.place.service or "code outside of any service"
        return f"{owner} blocked the event loop for {_ms(self.seconds)}{again}, at {self.place}"


class LoopWatch:
    """Watches the loop that `start` is called in, until `stop`."""

    def __init__(
        self,
        report: Callable[[Block], None],
        *,
        stuck: Callable[[Block], None] | None = None,
        service_of: Callable[[FrameType], str | None] = lambda _: None,
        modules: Mapping[str, str] | None = None,
        blocked_s: float = BLOCKED_S,
        stuck_s: float = STUCK_S,
    ) -> None:
        """`report` is called in the loop, after each block of at least `blocked_s`. `stuck` is called
        in another thread, once for each block that has lasted `stuck_s` and goes on.

        `service_of` knows the service that a frame serves; `modules` maps module names to the
        service that is made of them, for frames that nobody knows.
        """
        self._report = report
        self._stuck = stuck
        self._service_of = service_of
        self.attribute(modules or {})
        self._blocked_s = blocked_s
        self._stuck_s = stuck_s
        self._due = 0.0
        self._samples: Counter[Place] = Counter()
        self._worst = _Worst()
        self._told: dict[Place | None, tuple[float, int]] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; called in the loop."""
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._ended.clear()
        self._next()
        self._thread = threading.Thread(target=self._look, name="msctl-loop-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has."""
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def attribute(self, modules: Mapping[str, str]) -> None:
        """From now on these modules' code belongs to these services."""
        self._modules = dict(modules)

    def lag(self) -> float:
        """How late a beat was at the most, in seconds, within the last ten to twenty."""
        return self._worst.value(time.monotonic())

    # --- in the loop ------------------------------------------------------------------------------

    def _next(self) -> None:
        self._due = time.monotonic() + BEAT_S
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _beat(self) -> None:
        now = time.monotonic()
        late = max(0.0, now - self._due)
        self._worst.record(now, late)
        samples, self._samples = self._samples, Counter()
        # What blocked may have begun right after the last beat.
        if late + BEAT_S >= self._blocked_s:
            self._tell(Block(late, _most_seen(samples)), now)
        self._next()

    def _tell(self, block: Block, now: float) -> None:
        told = self._told.get(block.place)
        if told is not None and now - told[0] < QUIET_S:
            self._told[block.place] = (told[0], told[1] + 1)
            return
        if len(self._told) >= _MAX_PLACES:
            self._told.clear()
        self._told[block.place] = (now, 0)
        self._report(replace(block, again=told[1] if told else 0))

    # --- in the thread ----------------------------------------------------------------------------

    def _look(self) -> None:
        alarmed = 0.0
        while not self._ended.wait(LOOK_S):
            due = self._due
            late = time.monotonic() - due
            if late < SUSPECT_S:
                continue
            place = self._sample()
            if place is not None and self._due == due:
                self._samples[place] += 1
            if self._stuck is not None and late >= self._stuck_s and alarmed != due:
                alarmed = due
                self._stuck(Block(late, place))

    def _sample(self) -> Place | None:
        """Where the loop's thread is, without holding on to its frames."""
        frame = sys._current_frames().get(self._watched)
        return None if frame is None else locate(frame, self._service_of, self._modules)


def locate(
    innermost: FrameType, service_of: Callable[[FrameType], str | None], modules: Mapping[str, str]
) -> Place | None:
    """Whose code runs in this stack, inside of the event loop: the innermost line of a project's own,
    else of a library, else of msctl itself. None where the loop only waits, or is itself at work."""
    found: dict[_Kind, FrameType] = {}
    service: str | None = None
    named: str | None = None
    for frame in _inside_of_loop(innermost):
        found.setdefault(_kind(frame.f_code.co_filename), frame)
        service = service or service_of(frame)
        named = named or _by_module(frame, modules)
    chosen = found.get(_Kind.OWN) or found.get(_Kind.LIBRARY) or found.get(_Kind.MSCTL)
    if chosen is None:
        return None
    code = chosen.f_code
    return Place(service or named or "", code.co_filename, chosen.f_lineno, code.co_name)


class _Worst:
    """The largest of the last ten to twenty seconds' values."""

    def __init__(self) -> None:
        self._period = 0
        self._now = 0.0
        self._before = 0.0

    def record(self, now: float, value: float) -> None:
        self._move(now)
        self._now = max(self._now, value)

    def value(self, now: float) -> float:
        self._move(now)
        return max(self._now, self._before)

    def _move(self, now: float) -> None:
        period = int(now / WORST_OF_S)
        if period != self._period:
            self._before = self._now if period == self._period + 1 else 0.0
            self._now = 0.0
            self._period = period


class _Kind(Enum):
    OWN = 1
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


def _kind(file: str) -> _Kind:
    if file.startswith((_ASYNCIO, selectors.__file__)):
        return _Kind.LOOP
    if file.startswith(_MSCTL):
        return _Kind.OWN if file.startswith(_SERVICES) else _Kind.MSCTL
    return _Kind.LIBRARY if file.startswith(_LIBRARIES) else _Kind.OWN


def _inside_of_loop(innermost: FrameType | None) -> Iterator[FrameType]:
    """The frames from the innermost one out to the loop that called them."""
    frame = innermost
    while frame is not None:
        code = frame.f_code
        if code.co_name in _RUNNERS and code.co_filename.startswith(_ASYNCIO):
            return
        yield frame
        frame = frame.f_back


def _by_module(frame: FrameType, modules: Mapping[str, str]) -> str | None:
    name = str(frame.f_globals.get("__name__", ""))
    while name:
        if name in modules:
            return modules[name]
        name = name.rpartition(".")[0]
    return None


def _most_seen(samples: Counter[Place]) -> Place | None:
    return samples.most_common(1)[0][0] if samples else None


def _short(file: str) -> str:
    """Relative to where we are, if it is below that."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
