"""Makes time and chance virtual for the code under test, and refuses what is real, while a run lasts.

`time`, `datetime`, `random`, `os.urandom`, `uuid` and `secrets` follow the loop's clock and the run's seed,
however a module got them: modules that were imported before the run and have taken a function itself
(`from time import time`) get the other one in its place, too.
"""

from __future__ import annotations

import datetime
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

from msctl.simulation.loop import BEGIN_S
from msctl.simulation.refusals import Refusals
from msctl.telemetry.trace_context import forget_drawn

Patch = tuple[object, str, object]


@contextmanager
def deterministic(now: Callable[[], float], seed: int, refusals: Refusals) -> Iterator[None]:
    """Patch the process's sources of time and chance; `now` is the loop's time."""
    chance = random.Random(f"{seed} chance")  # noqa: S311 - not for secrets
    patches = [*_clocks(now), *_chance(chance), *_refused(refusals), *_threads_of_anyio()]
    replaced = {id(vars(owner)[name]): value for owner, name, value in patches if owner in _TAKEN_FROM}
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        random.seed(f"{seed} random")
        for owner, name, number in _taken():
            patches.append((owner, name, replaced[number]))
        for owner, name, value in patches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        forget_drawn()
        stack.callback(forget_drawn)
        yield


# --- time ----------------------------------------------------------------------------------------------


def _clocks(now: Callable[[], float]) -> list[Patch]:
    def epoch() -> float:
        return BEGIN_S + now()

    def at(seconds: float | None) -> float:
        return epoch() if seconds is None else seconds

    clocks = {time.CLOCK_REALTIME: epoch}

    real = {name: getattr(time, name) for name in ("localtime", "gmtime", "ctime", "strftime")}

    def strftime(form: str, moment: Any = None) -> Any:
        return real["strftime"](form, real["localtime"](epoch()) if moment is None else moment)

    return [
        (time, "time", epoch),
        (time, "time_ns", lambda: int(epoch() * 1e9)),
        (time, "localtime", lambda seconds=None: real["localtime"](at(seconds))),
        (time, "gmtime", lambda seconds=None: real["gmtime"](at(seconds))),
        (time, "ctime", lambda seconds=None: real["ctime"](at(seconds))),
        (time, "strftime", strftime),
        (time, "clock_gettime", lambda clock: clocks.get(clock, now)()),
        (time, "clock_gettime_ns", lambda clock: int(clocks.get(clock, now)() * 1e9)),
        *((time, name, now) for name in ("monotonic", "perf_counter", "process_time", "thread_time")),
        *((time, f"{name}_ns", lambda: int(now() * 1e9)) for name in ("monotonic", "perf_counter")),
        *((time, f"{name}_ns", lambda: int(now() * 1e9)) for name in ("process_time", "thread_time")),
        *_dates(epoch),
    ]


def _dates(epoch: Callable[[], float]) -> list[Patch]:
    real_datetime, real_date = datetime.datetime, datetime.date

    class LooksReal(type):
        """What is a real date is a virtual one, too."""

        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime if issubclass(cls, real_datetime) else real_date)

    class VirtualDatetime(real_datetime, metaclass=LooksReal):  # type: ignore[valid-type,misc]
        """A datetime whose `now` is the simulation's."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real_datetime.fromtimestamp(epoch(), tz)

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return real_datetime.fromtimestamp(epoch(), datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> datetime.datetime:
            return real_datetime.fromtimestamp(epoch())

    class VirtualDate(real_date, metaclass=LooksReal):  # type: ignore[valid-type,misc]
        """A date whose `today` is the simulation's."""

        @classmethod
        def today(cls) -> datetime.date:
            return real_date.fromtimestamp(epoch())

    return [(datetime, "datetime", VirtualDatetime), (datetime, "date", VirtualDate)]


# --- chance --------------------------------------------------------------------------------------------


def _chance(chance: random.Random) -> list[Patch]:
    return [
        (os, "urandom", chance.randbytes),
        (os, "getpid", lambda: 1),
        (random.SystemRandom, "random", lambda _self: chance.random()),
        (random.SystemRandom, "getrandbits", lambda _self, bits: chance.getrandbits(bits)),
        (random.SystemRandom, "randbytes", lambda _self, size: chance.randbytes(size)),
    ]


# --- what cannot be virtual ----------------------------------------------------------------------------


def _refused(refusals: Refusals) -> list[Patch]:
    def sleep(seconds: float) -> None:
        raise refusals.refuse(f"time.sleep({seconds}) blocks every service: use asyncio.sleep")

    def start(thread: threading.Thread) -> None:
        raise refusals.refuse(f"the thread {thread.name!r} cannot be started in a simulation")

    def connect(_sock: object, address: object) -> None:
        raise refusals.refuse(f"a blocking socket to {address} cannot be opened in a simulation")

    def look_up(host: object, *_: object, **__: object) -> None:
        raise refusals.refuse(f"a blocking socket to {host} cannot be opened in a simulation")

    def bind(_sock: object, address: object) -> None:
        raise refusals.refuse(f"a real socket cannot be bound to {address} in a simulation")

    def run(_process: object, arguments: object = None, *_: object, **__: object) -> None:
        raise refusals.refuse(f"the subprocess {arguments!r} cannot run in a simulation")

    def command(*arguments: object) -> None:
        run(None, *arguments)

    return [
        (time, "sleep", sleep),
        (threading.Thread, "start", start),
        (socket.socket, "connect", connect),
        (socket.socket, "connect_ex", connect),
        (socket.socket, "bind", bind),
        (socket, "getaddrinfo", look_up),
        (socket, "gethostbyname", look_up),
        (subprocess.Popen, "__init__", run),
        *((os, name, command) for name in ("system", "fork", "posix_spawn") if hasattr(os, name)),
    ]


def _threads_of_anyio() -> list[Patch]:
    """Starlette and FastAPI run plain functions in threads of anyio: here they run at once."""
    if "anyio" not in sys.modules and find_spec("anyio") is None:
        return []
    module = import_module("anyio.to_thread")

    async def run_sync(function: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        return function(*arguments)

    return [(module, "run_sync", run_sync)]


# --- functions that modules have taken -----------------------------------------------------------------

_TAKEN_FROM: tuple[object, ...] = (time, datetime, os)
_NAMES = {
    id(value): value
    for value in (
        time.time,
        time.time_ns,
        time.monotonic,
        time.monotonic_ns,
        time.perf_counter,
        time.perf_counter_ns,
        time.sleep,
        datetime.datetime,
        datetime.date,
        os.urandom,
    )
}
_OWNERS = {"time", "datetime", "_datetime", "_pydatetime", "os", "posix", "nt"}
_found: list[tuple[object, str, int]] = []
_looked_at: set[str] = set()


def _taken() -> list[tuple[object, str, int]]:
    """The attributes of modules that are one of the functions, with its id; each module is looked at once."""
    if len(_looked_at) != len(sys.modules):
        for name, module in list(sys.modules.items()):
            if name in _looked_at:
                continue
            _looked_at.add(name)
            if name in _OWNERS or name.startswith("msctl.simulation") or module is None:
                continue
            for attribute, value in list(vars(module).items()):
                if id(value) in _NAMES:
                    _found.append((module, attribute, id(value)))
    return _found
