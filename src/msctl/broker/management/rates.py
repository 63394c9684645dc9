"""Counters per second: what `..._details.rate` of the management API shows. Pure.

Samples are taken every SAMPLE_SECONDS. A rate is the difference between the counters now and in the sample
before the last, which is one to two intervals old. Only what has changed between samples is kept, so that
a hundred thousand idle queues cost nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

SAMPLE_SECONDS = 5.0
Counters = Mapping[str, int]


class _Samples:
    __slots__ = ("before", "before_at", "last", "last_at")

    def __init__(self, at: float, counters: Counters) -> None:
        # Nothing was counted at the sample before, or it would be known: no rate is over a moment.
        self.before: Counters = {}
        self.before_at = at - SAMPLE_SECONDS
        self.last, self.last_at = counters, at


class Rates:
    """The samples of many things, by object; an object that is gone takes its samples with it."""

    def __init__(self) -> None:
        self._samples: WeakKeyDictionary[Any, _Samples] = WeakKeyDictionary()

    def sample(self, thing: Hashable, counters: Counters, now: float) -> None:
        known = self._samples.get(thing)
        if known is None:
            if any(counters.values()):
                self._samples[thing] = _Samples(now, counters)
            return
        known.before, known.before_at = known.last, known.last_at
        known.last, known.last_at = counters, now

    def of(self, thing: Hashable, counters: Counters, now: float) -> dict[str, float]:
        """The rate of each counter per second; 0 for a thing that has no sample yet."""
        known = self._samples.get(thing)
        if known is None:
            return dict.fromkeys(counters, 0.0)
        base, since = known.before, now - known.before_at
        if since <= 0:
            return dict.fromkeys(counters, 0.0)
        return {name: max(0.0, (value - base.get(name, 0)) / since) for name, value in counters.items()}


def with_rates(counters: Counters, rates: Mapping[str, float]) -> dict[str, object]:
    """`publish` and `publish_details` for each counter, as the management API writes them."""
    document: dict[str, object] = {}
    for name, value in counters.items():
        document[name] = value
        document[f"{name}_details"] = {"rate": round(rates.get(name, 0.0), 3)}
    return document
