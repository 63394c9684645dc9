"""Parses an OTLP ExportMetricsServiceRequest and validates its data points.

Pure, bounded and lazy like otlp.py. Gauges, sums and histograms with explicit buckets are read; exponential
histograms and summaries are ignored, as are exemplars. Sums and histograms are cumulative, the default of
every SDK; a delta is ignored, since its earlier points may have been missed.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from msctl.telemetry.ingest import protobuf
from msctl.telemetry.ingest.otlp import (
    LONGEST_KEY,
    IncomingAttribute,
    IncomingResource,
    MalformedError,
    Sender,
    attributes_of,
    decoded,
    decoded_item,
    integer_of,
    sender_of,
    text_of,
)
from msctl.telemetry.metrics.point import Point

MAX_POINTS = 4096
"""Data points in one request."""
MAX_BUCKETS = 100
_MOST = 2**53
"""Counts below this are exact as floats."""
_REQUEST = "ExportMetricsServiceRequest"
_CUMULATIVE = 2
_DOUBLE = struct.Struct("<d")


class IncomingPoint(msgspec.Struct, rename="camel"):
    """A data point as received: of a number, or of a histogram."""

    attributes: Sequence[IncomingAttribute] | None = None
    as_double: float | str | None = None
    as_int: int | str | None = None
    count: int | str = 0
    sum: float | str | None = None
    bucket_counts: Sequence[int | str] | None = None
    explicit_bounds: Sequence[float] | None = None


class IncomingData(msgspec.Struct, rename="camel"):
    data_points: list[msgspec.Raw] | None = None
    aggregation_temporality: int = _CUMULATIVE
    is_monotonic: bool = False


class IncomingMetric(msgspec.Struct, rename="camel"):
    name: str = ""
    unit: str = ""
    gauge: IncomingData | None = None
    sum: IncomingData | None = None
    histogram: IncomingData | None = None


class Series(NamedTuple):
    """The data points of one metric, decoded when they are asked for; `kind` as in Point."""

    name: str
    unit: str
    kind: str
    points: Iterator[IncomingPoint]


class _Scope(msgspec.Struct):
    metrics: list[msgspec.Raw] | None = None


class _Resource(msgspec.Struct, rename="camel"):
    resource: IncomingResource | None = None
    scope_metrics: list[_Scope] | None = None


class _Request(msgspec.Struct, rename="camel"):
    resource_metrics: list[_Resource] | None = None


_decoder = msgspec.json.Decoder(_Request)
_metric_decoder = msgspec.json.Decoder(IncomingMetric)
_point_decoder = msgspec.json.Decoder(IncomingPoint)


def from_json(body: bytes) -> Iterator[tuple[Sender, Series]]:
    """Yield the metrics of a JSON request, with their senders. Raises MalformedError."""
    for resource in decoded(_decoder, body, _REQUEST).resource_metrics or ():
        sender = sender_of(resource.resource)
        for scope in resource.scope_metrics or ():
            for raw in scope.metrics or ():
                metric = decoded(_metric_decoder, raw, _REQUEST)
                yield sender, _series(metric, "gauge", metric.gauge, _points(metric.gauge))
                yield sender, _series(metric, "counter", metric.sum, _points(metric.sum))
                yield sender, _series(metric, "histogram", metric.histogram, _points(metric.histogram))


def _points(data: IncomingData | None) -> Iterator[IncomingPoint]:
    if data is not None:
        for raw in data.data_points or ():
            yield decoded_item(_point_decoder, raw, _REQUEST)


def from_protobuf(body: bytes) -> Iterator[tuple[Sender, Series]]:
    """Yield the metrics of a binary request, with their senders. Raises MalformedError."""
    for sender, scope in protobuf.scopes(body):
        for message in protobuf.messages(scope, 2):  # ScopeMetrics.metrics
            metric, inner = IncomingMetric(), []
            for number, value in protobuf.fields(message):
                if number == 1:
                    metric.name = protobuf.text_in(value)
                elif number == 3:
                    metric.unit = protobuf.text_in(value)
                elif number in _KINDS:
                    inner.append((*_KINDS[number], protobuf.data_of(value)))
            for kind, read, data in inner:
                described, points = _data(data)
                yield sender, _series(metric, kind, described, map(read, points))


def _series(
    metric: IncomingMetric, kind: str, data: IncomingData | None, points: Iterator[IncomingPoint]
) -> Series:
    name, unit = text_of(metric.name, LONGEST_KEY), text_of(metric.unit, LONGEST_KEY)
    if not name:
        raise MalformedError("a metric has no name")
    if data is None or (kind != "gauge" and data.aggregation_temporality != _CUMULATIVE):
        points = iter(())
    if data is not None and kind == "counter" and not data.is_monotonic:
        kind = "gauge"
    return Series(name, unit, kind, points)


def points_of(series: Series) -> Iterator[Point]:
    """Validate and convert received data points. Raises MalformedError."""
    name, unit, kind, points = series
    for point in points:
        labels = tuple(
            sorted((key, str(value)) for key, value in attributes_of(point.attributes or ()).items())
        )
        if kind == "histogram":
            yield Point(name, unit, kind, labels, _float(point.sum), _buckets(point))
        else:
            value = point.as_double if point.as_double is not None else point.as_int
            yield Point(name, unit, kind, labels, _float(value))


def _buckets(point: IncomingPoint) -> tuple[tuple[float, int], ...]:
    bounds, counts = point.explicit_bounds or (), point.bucket_counts or ()
    if len(bounds) > MAX_BUCKETS or (counts and len(counts) != len(bounds) + 1):
        raise MalformedError(f"a histogram has {len(counts)} buckets for {len(bounds)} bounds")
    edges = (-math.inf, *bounds, math.inf)
    if not all(one < other for one, other in pairwise(edges)):  # a NaN is not less than anything
        raise MalformedError("the bounds of a histogram do not ascend")
    total = 0
    found: list[tuple[float, int]] = []
    for bound, count in zip((*bounds, math.inf), counts, strict=False):
        total += _count(count)
        found.append((float(bound), total))
    return tuple(found) or ((math.inf, _count(point.count)),)


def _count(value: int | str) -> int:
    found = integer_of(value)
    if not 0 <= found < _MOST:
        raise MalformedError(f"{found} is not a count")
    return found


def _float(value: float | str | None) -> float:
    try:
        return float(value or 0)
    except ValueError as error:
        raise MalformedError("a data point's value is not a number") from error


def _data(message: bytes) -> tuple[IncomingData, list[bytes]]:
    """What a metric's data are, and its data points as they were sent."""
    data = IncomingData(aggregation_temporality=0)
    points: list[bytes] = []
    for number, value in protobuf.fields(message):
        if number == 1:
            points.append(protobuf.data_of(value))
        elif number == 2:
            data.aggregation_temporality = protobuf.number_of(value)
        elif number == 3:
            data.is_monotonic = protobuf.number_of(value) != 0
    return data, points


def _number_point(message: bytes) -> IncomingPoint:
    point = IncomingPoint()
    attributes: list[IncomingAttribute] = []
    for number, value in protobuf.fields(message):
        if number == 4:
            point.as_double = _double(protobuf.number_of(value))
        elif number == 6:
            point.as_int = protobuf.signed(protobuf.number_of(value))
        elif number == 7:
            attributes.append(protobuf.attribute(protobuf.data_of(value)))
    point.attributes = attributes
    return point


def _histogram_point(message: bytes) -> IncomingPoint:
    point = IncomingPoint()
    attributes: list[IncomingAttribute] = []
    counts: list[int | str] = []
    bounds: list[float] = []
    for number, value in protobuf.fields(message):
        if number == 4:
            point.count = protobuf.number_of(value)
        elif number == 5:
            point.sum = _double(protobuf.number_of(value))
        elif number == 6:
            counts += _fixed64s(value)
        elif number == 7:
            bounds += [_double(bits) for bits in _fixed64s(value)]
        elif number == 9:
            attributes.append(protobuf.attribute(protobuf.data_of(value)))
        if len(counts) > MAX_BUCKETS + 1:
            raise MalformedError(f"a histogram has more than {MAX_BUCKETS} buckets")
    point.attributes, point.bucket_counts, point.explicit_bounds = attributes, counts, bounds
    return point


def _fixed64s(value: protobuf.WireValue) -> list[int]:
    """The numbers of a repeated fixed64 or double field: packed, or one by one."""
    if isinstance(value, int):
        return [value]
    if len(value) % 8 or len(value) > 8 * (MAX_BUCKETS + 1):
        raise MalformedError(f"a packed field of {len(value)} bytes is not a histogram's")
    return [int.from_bytes(value[at : at + 8], "little") for at in range(0, len(value), 8)]


def _double(bits: int) -> float:
    found: float = _DOUBLE.unpack(bits.to_bytes(8, "little"))[0]
    return found


_KINDS: dict[int, tuple[str, Callable[[bytes], IncomingPoint]]] = {
    5: ("gauge", _number_point),
    7: ("counter", _number_point),
    9: ("histogram", _histogram_point),
}
"""The fields of Metric that have data points."""
