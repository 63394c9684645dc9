"""The histogram and gauge on the request path, at a fifth of the cost of prometheus-client's own.

prometheus-client still collects them. Written on the event loop, read in any thread: each row is a list
that is copied before it is read, and rows are never removed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence, Sized
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""
MAX_SERIES = 4096
"""Label combinations of one metric."""
OTHER = "_OTHER"

Labels = tuple[str | int, ...]
EDGES = (*map(floatToGoString, BUCKETS), "+Inf")
Row = tuple[tuple[str, ...], list[float]]
"""The labels' values; the counts of the buckets, the last of which has no upper bound, and the sum."""


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
        row[-1] += sum(seconds)
        ordered = sorted(seconds)  # so that a bucket is counted at once, and not each of `seconds`
        counted = 0
        for place, edge in enumerate(BUCKETS):
            below = bisect_right(ordered, edge, counted)
            row[place] += below - counted
            counted = below
            if counted == len(ordered):
                return
        row[len(BUCKETS)] += len(ordered) - counted

    def _row(self, labels: Labels) -> list[float]:
        labels = bounded(labels, self._rows)
        return self._rows.setdefault(labels, [0] * (len(BUCKETS) + 2))

    def rows(self) -> list[tuple[Labels, list[int]]]:
        """The bucket counts of each label combination; the last bucket has no upper bound."""
        return [(labels, [int(count) for count in row[:-1]]) for labels, row in list(self._rows.items())]

    def collect(self) -> Iterator[Metric]:
        rows = [(tuple(map(str, labels)), row[:]) for labels, row in list(self._rows.items())]
        yield HistogramFamily(self._name, self._help, self._labels, rows)


class HistogramFamily(Metric):
    """What a scrape finds of a histogram: rows, of which the encoders write the samples.

    Samples are made only for those who read `samples`: seventeen a row are what a scrape takes long for.
    """

    def __init__(self, name: str, help: str, labels: Sequence[str], rows: Sequence[Row]) -> None:  # noqa: A002 - prometheus-client's word
        self.labels = labels
        self.rows = rows
        super().__init__(name, help, "histogram")

    @property
    def samples(self) -> list[Sample]:
        family = HistogramMetricFamily(self.name, self.documentation, labels=self.labels)
        for labels, row in self.rows:
            family.add_metric(labels, list(zip(EDGES, accumulate(row[:-1]), strict=True)), row[-1])
        return family.samples

    @samples.setter
    def samples(self, found: list[Sample]) -> None:
        """prometheus-client's constructor sets an empty list."""

    def of(self, owners: Sequence[str], service: str) -> HistogramFamily:
        """The same with only the rows of which a label named in `owners` is `service`."""
        at = [position for position, label in enumerate(self.labels) if label in owners]
        rows = [row for row in self.rows if any(row[0][position] == service for position in at)]
        return HistogramFamily(self.name, self.documentation, self.labels, rows)


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
