"""The histogram and gauge on the request path, at a fifth of the cost of prometheus-client's own.

prometheus-client still collects them. Written on the event loop, read in any thread: each row is a list
that is copied before it is read, and rows are never removed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""
MAX_SERIES = 4096
"""Label combinations of one metric."""
OTHER = "_OTHER"

Labels = tuple[str | int, ...]
_EDGES = (*map(floatToGoString, BUCKETS), "+Inf")


def bounded(labels: Labels, known: Sized) -> Labels:
    """Return the labels of a new series: past `MAX_SERIES`, all labels but the first become `_OTHER`.

    The first label is the service or the route, which the configuration bounds.
    """
    if len(known) >= MAX_SERIES:
        return (labels[0], *(OTHER for _ in labels[1:]))
    return labels


class Histogram(Collector):
    """A histogram of seconds: per label combination, one row of bucket counts and the sum."""

    def __init__(self, name: str, help: str, labels: Sequence[str], registry: CollectorRegistry) -> None:  # noqa: A002 - prometheus-client's word
        self._name = name
        self._help = help
        self._labels = labels
        self._rows: dict[Labels, list[float]] = {}
        registry.register(self)

    def observe(self, labels: Labels, seconds: float) -> None:
        row = self._rows.get(labels) or self._row(labels)
        row[bisect_left(BUCKETS, seconds)] += 1
        row[-1] += seconds

    def observe_all(self, labels: Labels, seconds: Sequence[float]) -> None:
        """As `observe`, for each of `seconds`."""
        row = self._rows.get(labels) or self._row(labels)
        for value in seconds:
            row[bisect_left(BUCKETS, value)] += 1
        row[-1] += sum(seconds)

    def _row(self, labels: Labels) -> list[float]:
        labels = bounded(labels, self._rows)
        return self._rows.setdefault(labels, [0] * (len(BUCKETS) + 2))

    def rows(self) -> list[tuple[Labels, list[int]]]:
        """The bucket counts of each label combination; the last bucket has no upper bound."""
        return [(labels, [int(count) for count in row[:-1]]) for labels, row in list(self._rows.items())]

    def collect(self) -> Iterator[Metric]:
        family = HistogramMetricFamily(self._name, self._help, labels=self._labels)
        for labels, row in list(self._rows.items()):
            counts = row[:]
            total = counts.pop()
            buckets = list(zip(_EDGES, accumulate(counts), strict=True))
            family.add_metric([str(label) for label in labels], buckets, total)
        yield family


def estimate(counts: Sequence[int], share: float) -> float:
    """The quantile of these bucket counts in seconds, by linear interpolation within a bucket; 0 for none.

    As Prometheus' histogram_quantile: in the last bucket, its lower bound.
    """
    rank = share * sum(counts)
    if not rank:
        return 0.0
    below, lower = 0, 0.0
    for count, upper in zip(counts, BUCKETS, strict=False):
        if count and below + count >= rank:
            return lower + (upper - lower) * (rank - below) / count
        below += count
        lower = upper
    return lower


class ActiveRequests(Collector):
    """A gauge of requests in flight, by the service that accepted them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.counts: Counter[str] = Counter()
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "http_server_active_requests",
            "Requests in flight, by the service that accepted them.",
            labels=("service",),
        )
        for service, count in list(self.counts.items()):
            family.add_metric((service,), count)
        yield family
