"""The state of one series that a program sent."""

from __future__ import annotations

from typing import NamedTuple


class Point(NamedTuple):
    """The state of one series: `kind` is gauge, counter or histogram.

    `value` is the number, or the sum of a histogram; `buckets` are its upper bounds with cumulative counts,
    the last of them infinite.
    """

    name: str
    unit: str
    kind: str
    labels: tuple[tuple[str, str], ...]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()
