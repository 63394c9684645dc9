"""Makes time and chance virtual for the code under test, while a run lasts.

`time`, `datetime`, `random`, `os.urandom`, `uuid` and `secrets` follow the loop's clock and the run's seed. A
module that is imported during the run gets them however it imports them; one that was imported before, and
took the function itself (`from time import time`), keeps the real one.
"""

from __future__ import annotations

import datetime
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from msctl.simulation.loop import BEGIN_S, NotSimulatedError
from msctl.telemetry.trace_context import forget_drawn


@contextmanager
def deterministic(now: Callable[[], float], seed: int) -> Iterator[None]:
    """Patch the process's sources of time and chance; `now` is the loop's time."""
    chance = random.Random(f"{seed} chance")  # noqa: S311 - not for secrets
    real_date = datetime.datetime

    def epoch() -> float:
        return BEGIN_S + now()

    class VirtualDatetime(real_date):  # type: ignore[valid-type,misc]
        """A datetime whose `now` is the simulation's."""

        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return real_date.fromtimestamp(epoch(), tz)

        @classmethod
        def utcnow(cls) -> datetime.datetime:
            return real_date.fromtimestamp(epoch(), datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> datetime.datetime:
            return real_date.fromtimestamp(epoch())

    def no_sleep(seconds: float) -> None:
        raise NotSimulatedError(f"time.sleep({seconds}) blocks every service: use asyncio.sleep")

    def no_thread(thread: threading.Thread) -> None:
        raise NotSimulatedError(f"the thread {thread.name!r} cannot be started in a simulation")

    def no_socket(_sock: object, address: object) -> None:
        raise NotSimulatedError(f"a blocking socket to {address} cannot be opened in a simulation")

    patches: list[tuple[object, str, object]] = [
        (time, "time", epoch),
        (time, "time_ns", lambda: int(epoch() * 1e9)),
        (time, "monotonic", now),
        (time, "monotonic_ns", lambda: int(now() * 1e9)),
        (time, "perf_counter", now),
        (time, "sleep", no_sleep),
        (threading.Thread, "start", no_thread),
        (socket.socket, "connect", no_socket),
        (datetime, "datetime", VirtualDatetime),
        (os, "urandom", chance.randbytes),
        (os, "getpid", lambda: 1),
        (random.SystemRandom, "random", lambda _self: chance.random()),
        (random.SystemRandom, "getrandbits", lambda _self, bits: chance.getrandbits(bits)),
        (random.SystemRandom, "randbytes", lambda _self, size: chance.randbytes(size)),
    ]
    with ExitStack() as stack:
        stack.callback(random.setstate, random.getstate())
        random.seed(f"{seed} random")
        for owner, name, value in patches:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        forget_drawn()
        stack.callback(forget_drawn)
        yield
