"""Active faults: what each draws from its seed, and when each ends. Pure; time comes from a Clock.

The sequence of draws of a fault depends on its seed alone: the same seed hits the same requests or messages
again, if they come in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

from msctl.clock import Clock
from msctl.errors import UsageError
from msctl.faults.kinds import Place
from msctl.faults.spec import Distribution, FaultSpec
from msctl.hints import did_you_mean
from msctl.model.snapshots import FaultSnapshot

_PARETO_SHAPE = 3.0
MAX_FAULTS = 100


class ActiveFault:
    """A fault between its begin and its end. `hits` counts the requests, messages or processes it touched."""

    __slots__ = ("ends_at", "hits", "id", "random", "seed", "spec")

    def __init__(self, number: str, spec: FaultSpec, seed: int, ends_at: float) -> None:
        self.id = number
        self.spec = spec
        self.seed = seed
        self.ends_at = ends_at
        self.hits = 0
        self.random = Random(seed)  # noqa: S311 - reproducible on purpose

    def strikes(self) -> bool:
        """Draw whether the next request or message is hit; counts it if so."""
        share = self.spec.share
        if share < 1 and self.random.random() >= share:
            return False
        self.hits += 1
        return True

    def delay(self) -> float:
        """Draw a delay in seconds, never negative."""
        spec = self.spec
        jitter = spec.jitter
        if not jitter:
            return spec.delay
        if spec.distribution is Distribution.NORMAL:
            drawn = self.random.gauss(0.0, jitter)
        elif spec.distribution is Distribution.PARETO:
            # A long tail to one side: most delays are a little below the mean, few far above.
            mean = _PARETO_SHAPE / (_PARETO_SHAPE - 1)
            drawn = jitter * (self.random.paretovariate(_PARETO_SHAPE) - mean)
        else:
            drawn = self.random.uniform(-jitter, jitter)
        return max(0.0, spec.delay + drawn)

    def snapshot(self, now: float) -> FaultSnapshot:
        spec = self.spec
        return FaultSnapshot(
            id=self.id,
            kind=spec.kind.value,
            target=str(spec.target),
            effect=spec.effect,
            remaining_s=round(max(0.0, self.ends_at - now), 3),
            hits=self.hits,
            seed=self.seed,
        )


class FaultBook:
    """The active faults of a stack, in the order in which they were added."""

    def __init__(self, clock: Clock, draw_seed: Callable[[], int]) -> None:
        self._clock = clock
        self._draw_seed = draw_seed
        self._faults: dict[str, ActiveFault] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._faults)

    def add(self, spec: FaultSpec) -> ActiveFault:
        """Begin a fault. Raises UsageError for too many at a time."""
        if len(self._faults) >= MAX_FAULTS:
            raise UsageError(
                f"{MAX_FAULTS} faults are active already", hint="end them with: msctl fault clear"
            )
        self._last += 1
        number = f"f{self._last}"
        seed = self._draw_seed() if spec.seed is None else spec.seed
        fault = self._faults[number] = ActiveFault(number, spec, seed, self._clock.monotonic() + spec.lasts)
        return fault

    def of(self, place: Place) -> list[ActiveFault]:
        """Return the active faults that this part of the stack carries out."""
        return [fault for fault in self._faults.values() if fault.spec.info.place is place]

    def find(self, ids: Iterable[str]) -> list[ActiveFault]:
        """Return the faults with these ids, all if there are none. Raises UsageError for an unknown one."""
        names = list(dict.fromkeys(ids))
        for name in names:
            if name not in self._faults:
                hint = did_you_mean(name, self._faults) or "no fault is active: it may have ended"
                raise UsageError(f"there is no fault {name!r}", hint=hint)
        return [self._faults[name] for name in names] if names else list(self._faults.values())

    def remove(self, faults: Iterable[ActiveFault]) -> list[ActiveFault]:
        """Remove faults, and return those that were active."""
        return [fault for fault in faults if self._faults.pop(fault.id, None) is not None]

    def snapshot(self) -> tuple[FaultSnapshot, ...]:
        now = self._clock.monotonic()
        return tuple(fault.snapshot(now) for fault in self._faults.values())
