"""Makes time and chance virtual for the code under test, and refuses what is real, while a run lasts.

`time`, `datetime`, `random`, `os.urandom`, `uuid` and `secrets` follow the loop's clock and the run's seed,
however a module got them. Modules that were imported before the run and have taken a function itself
(`from time import time`) get the other one in its place. Libraries that are imported during a run keep what
they have taken: so the replacements are the same for all runs, and outside of one do what the real ones do.
`datetime` itself stays, with other class methods: what is a datetime before, is one within a run.
"""

from __future__ import annotations

import ctypes
import datetime
import errno
import gc
import os
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from msctl.simulation.refusals import Refusals
from msctl.simulation.virtual_time import BEGIN_S
from msctl.telemetry.trace_context import forget_drawn

Patch = tuple[object, str, object]


class _Run:
    """The run that lasts now."""

    def __init__(self, now: Callable[[], float], chance: random.Random, refusals: Refusals) -> None:
        self.now = now
        self.chance = chance
        self.refusals = refusals

    def epoch(self) -> float:
        return BEGIN_S + self.now()


_run: _Run | None = None


@contextmanager
def deterministic(now: Callable[[], float], seed: int, refusals: Refusals) -> Iterator[None]:
    """Patch the process's sources of time and chance; `now` is the loop's time."""
    global _run
    chance = random.Random(f"{seed} chance")  # noqa: S311 - not for secrets
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        random.seed(f"{seed} random")
        for owner, name, value in (*_patches(), *_taken()):
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        stack.callback(_replace_datetime, _replace_datetime(_DATETIME))
        forget_drawn()
        stack.callback(forget_drawn)
        _run = _Run(now, chance, refusals)
        try:
            yield
        finally:
            _run = None


# --- time ----------------------------------------------------------------------------------------------


def _clock(real: Callable[[], Any], virtual: Callable[[_Run], Any]) -> Callable[[], Any]:
    """A function without arguments that reads the clock of the run."""
    return lambda: real() if _run is None else virtual(_run)


def _moment(real: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose argument is a time in seconds, by default the present one."""

    def at(seconds: float | None = None) -> Any:
        return real(_run.epoch() if seconds is None and _run is not None else seconds)

    return at


def _strftime(form: str, moment: Any = None) -> Any:
    return _REAL_STRFTIME(form, time.localtime() if moment is None else moment)


def _clock_gettime(clock: int) -> float:
    if _run is None:
        return _REAL_CLOCK(clock)
    return _run.epoch() if clock == time.CLOCK_REALTIME else _run.now()


_REAL_STRFTIME, _REAL_CLOCK = time.strftime, time.clock_gettime
_CLOCKS: list[Patch] = [
    (time, "time", _clock(time.time, lambda run: run.epoch())),
    (time, "time_ns", _clock(time.time_ns, lambda run: int(run.epoch() * 1e9))),
    *(
        (time, name, _clock(getattr(time, name), lambda run: run.now()))
        for name in ("monotonic", "perf_counter", "process_time", "thread_time")
    ),
    *(
        (time, name, _clock(getattr(time, name), lambda run: int(run.now() * 1e9)))
        for name in ("monotonic_ns", "perf_counter_ns", "process_time_ns", "thread_time_ns")
    ),
    *((time, name, _moment(getattr(time, name))) for name in ("localtime", "gmtime", "ctime")),
    (time, "strftime", _strftime),
    (time, "clock_gettime", _clock_gettime),
    (time, "clock_gettime_ns", lambda clock: int(_clock_gettime(clock) * 1e9)),
]


def _now(cls: type[datetime.datetime], tz: datetime.tzinfo | None = None) -> datetime.datetime:
    return cls.fromtimestamp(time.time(), tz)


def _utcnow(cls: type[datetime.datetime]) -> datetime.datetime:
    return cls.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)


_DATETIME: dict[str, object] = {"now": classmethod(_now), "utcnow": classmethod(_utcnow)}


def _replace_datetime(methods: dict[str, object]) -> dict[str, object]:
    """Replace class methods of datetime, which Python has no other way to do; return the former ones."""
    (attributes,) = gc.get_referents(datetime.datetime.__dict__)
    former = {name: attributes[name] for name in methods}
    attributes.update(methods)
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime.datetime))
    return former


# --- chance --------------------------------------------------------------------------------------------


def _urandom(size: int) -> bytes:
    return _REAL_URANDOM(size) if _run is None else _run.chance.randbytes(size)


_REAL_URANDOM = os.urandom
_CHANCE: list[Patch] = [
    (os, "urandom", _urandom),
    (os, "getpid", lambda: 1),
    (random.SystemRandom, "random", lambda _self: (int.from_bytes(os.urandom(7)) >> 3) * 2.0**-53),
    (random.SystemRandom, "getrandbits", lambda _self, bits: _bits(bits)),
    (random.SystemRandom, "randbytes", lambda _self, size: os.urandom(size)),
]


def _bits(count: int) -> int:
    size = (count + 7) // 8
    return int.from_bytes(os.urandom(size)) >> (size * 8 - count)


# --- what cannot be virtual ----------------------------------------------------------------------------


def _refuse(text: str) -> Exception:
    return RuntimeError(text) if _run is None else _run.refusals.refuse(text)


def _sleep(seconds: float) -> None:
    if _run is None:
        _REAL_SLEEP(seconds)
        return
    raise _refuse(f"time.sleep({seconds}) blocks every service: use asyncio.sleep")


def _start(thread: threading.Thread) -> None:
    raise _refuse(f"the thread {thread.name!r} cannot be started in a simulation")


def _connect(_sock: object, address: object) -> None:
    raise _refuse(f"a blocking socket to {address} cannot be opened in a simulation")


def _look_up(host: object, *_: object, **__: object) -> None:
    raise _refuse(f"a blocking socket to {host} cannot be opened in a simulation")


def _bind(_sock: object, address: object) -> None:
    # Not the end of the run: urllib3 tries it when it is imported.
    raise OSError(errno.EADDRNOTAVAIL, f"a real socket cannot be bound to {address} in a simulation")


def _listen(_sock: object, *_: object) -> None:
    raise _refuse("a real socket cannot listen in a simulation")


def _popen(_process: object, arguments: object = None, *_: object, **__: object) -> None:
    raise _refuse(f"the subprocess {arguments!r} cannot run in a simulation")


def _command(*arguments: object) -> None:
    raise _refuse(f"the subprocess {arguments[0] if arguments else ''!r} cannot run in a simulation")


_REAL_SLEEP = time.sleep
_REFUSED: list[Patch] = [
    (time, "sleep", _sleep),
    (threading.Thread, "start", _start),
    (socket.socket, "connect", _connect),
    (socket.socket, "connect_ex", _connect),
    (socket.socket, "bind", _bind),
    (socket.socket, "listen", _listen),
    (socket, "getaddrinfo", _look_up),
    (socket, "gethostbyname", _look_up),
    (subprocess.Popen, "__init__", _popen),
    *((os, name, _command) for name in ("system", "fork", "posix_spawn") if hasattr(os, name)),
]


def _patches() -> list[Patch]:
    return [*_CLOCKS, *_CHANCE, *_REFUSED, *_threads_of_anyio()]


def _threads_of_anyio() -> list[Patch]:
    """Starlette and FastAPI run plain functions in threads of anyio: here they run at once."""
    if "anyio" not in sys.modules and find_spec("anyio") is None:
        return []
    module = import_module("anyio.to_thread")

    async def run_sync(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        return function(*arguments)

    return [(module, "run_sync", run_sync)]


# --- functions that modules have taken -----------------------------------------------------------------

_REPLACED = {
    id(getattr(owner, name)): value
    for owner, name, value in (*_CLOCKS, *_CHANCE, *_REFUSED)
    if owner in (time, os)
}
_OWNERS = {"time", "os", "posix", "nt"}
_found: list[Patch] = []
_looked_at: set[str] = set()


def _taken() -> list[Patch]:
    """The attributes of modules that are one of the functions; each module is looked at once."""
    if len(_looked_at) != len(sys.modules):
        for name, module in list(sys.modules.items()):
            if name in _looked_at:
                continue
            _looked_at.add(name)
            if name in _OWNERS or name.startswith("msctl.simulation") or module is None:
                continue
            for attribute, value in list(vars(module).items()):
                if id(value) in _REPLACED:
                    _found.append((module, attribute, _REPLACED[id(value)]))
    return _found
