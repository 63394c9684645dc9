"""The metrics that programs send: the latest state of each series, bounded, for the metrics page.

Names follow OpenTelemetry's rules for Prometheus: dots become underscores, the unit a suffix, a counter ends
with `_total`. A series whose name the stack itself uses is left out: the same request would be counted twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from msctl.telemetry.metrics.point import Point

MAX_SERIES = 1000
"""Series kept of one service; more are counted as refused."""
_UNITS = {
    "s": "seconds",
    "ms": "milliseconds",
    "us": "microseconds",
    "ns": "nanoseconds",
    "min": "minutes",
    "h": "hours",
    "By": "bytes",
    "KiBy": "kibibytes",
    "MiBy": "mebibytes",
    "%": "percent",
    "1": "ratio",
}
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_]+")

_Series = dict[tuple[str, str, tuple[tuple[str, str], ...]], tuple[str, Point]]


class ReceivedMetrics:
    """Keeps the latest point of each series, by service."""

    def __init__(self) -> None:
        self._services: dict[str, _Series] = {}

    def keep(self, points: Iterable[Point], service: str, instance: str) -> int:
        """Keep these points; returns how many were refused because their service has too many series."""
        series = self._services.setdefault(service, {})
        refused = 0
        for point in points:
            key = instance, point.name, point.labels
            if key in series or len(series) < MAX_SERIES:
                series[key] = instance, point
            else:
                refused += 1
        return refused

    def forget(self, services: Collection[str]) -> None:
        """Drop the series of services other than these."""
        for service in self._services.keys() - set(services):
            del self._services[service]

    def families(self, taken: Collection[str]) -> Iterator[Metric]:
        """Yield a family per name; those with a name in `taken` are left out."""
        found: dict[str, tuple[str, Metric]] = {}
        for service, series in list(self._services.items()):
            for instance, point in list(series.values()):
                name = prometheus_name(point)
                if name in taken:
                    continue
                kind, family = found.setdefault(name, (point.kind, _family(name, point)))
                if kind == point.kind:  # two programs may use one name for different kinds
                    _add(family, point, service, instance)
        yield from (family for _, family in found.values())


def prometheus_name(point: Point) -> str:
    """The name of the point's family, without a counter's `_total`."""
    name = _ILLEGAL.sub("_", point.name).strip("_") or "_"
    if name[0].isdigit():
        name = f"_{name}"
    unit = _UNITS.get(point.unit, "")
    if unit and not (unit == "ratio" and point.kind != "gauge") and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return name.removesuffix("_total") if point.kind == "counter" else name


def _family(name: str, point: Point) -> Metric:
    text = f"Sent by the service: {point.name}"
    if point.kind == "histogram":
        return HistogramMetricFamily(name, text)
    return CounterMetricFamily(name, text) if point.kind == "counter" else GaugeMetricFamily(name, text)


def _add(family: Metric, point: Point, service: str, instance: str) -> None:
    labels = {_ILLEGAL.sub("_", key).strip("_") or "_": value for key, value in point.labels}
    labels = {f"_{key}" if key[0].isdigit() else key: value for key, value in labels.items()}
    labels |= {"service": service, "instance": instance}
    if point.kind == "histogram":
        for bound, count in point.buckets:
            family.add_sample(f"{family.name}_bucket", {**labels, "le": _bound(bound)}, count)
        family.add_sample(f"{family.name}_count", labels, point.buckets[-1][1])
        family.add_sample(f"{family.name}_sum", labels, point.value)
    else:
        family.add_sample(
            f"{family.name}_total" if point.kind == "counter" else family.name, labels, point.value
        )


def _bound(value: float) -> str:
    return "+Inf" if math.isinf(value) else repr(value)
