"""The metrics as delimited Protocol Buffers (`io.prometheus.client.MetricFamily`): a ninth of the text.

Prometheus asks for this format where `scrape_protocols` or native histograms say so. A histogram is one
message, in which the labels stand once and a bucket takes thirteen bytes, instead of seventeen lines that
repeat the labels.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.metrics_core import Metric

from msctl.telemetry.metrics.histogram import BUCKETS, HistogramFamily

CONTENT_TYPE = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
_PARAMETERS = {"proto": "io.prometheus.client.metricfamily", "encoding": "delimited"}

_COUNTER, _GAUGE, _UNTYPED, _HISTOGRAM = 0, 1, 3, 4
_TYPES = {"counter": _COUNTER, "gauge": _GAUGE, "histogram": _HISTOGRAM}
_VALUE_FIELDS = {_COUNTER: 3, _GAUGE: 2, _UNTYPED: 5}
"""The field of Metric that has the value of each type."""
_DOUBLE = struct.Struct("<d")


def preferred(accept: str) -> bool:
    """Whether a scraper that sends this Accept header wants Protocol Buffers rather than text."""
    wanted = text = 0.0
    for media_range in accept.split(","):
        kind, *rest = (part.strip().lower() for part in media_range.split(";"))
        parameters = dict(part.partition("=")[::2] for part in rest)
        try:
            quality = float(parameters.get("q", 1))
        except ValueError:
            quality = 0.0
        if kind == "application/vnd.google.protobuf" and parameters.items() >= _PARAMETERS.items():
            wanted = max(wanted, quality)
        elif kind in ("text/plain", "application/openmetrics-text"):
            text = max(text, quality)
    return wanted > text


def encode(families: Iterable[Metric]) -> bytes:
    """Return the families, each after its length."""
    return b"".join(_sized(message) for family in families for message in _families(family))


def _families(family: Metric) -> Iterator[bytes]:
    if isinstance(family, HistogramFamily):
        yield _family(family.name, family.documentation, _HISTOGRAM, _rows(family))
    elif family.type == "histogram":
        yield _family(family.name, family.documentation, _HISTOGRAM, _histograms(family))
    else:
        kind = _TYPES.get(family.type, _UNTYPED)
        by_name: dict[str, list[bytes]] = {}  # summaries and the like have several
        for sample in family.samples:
            value = _field(_VALUE_FIELDS[kind], _double(1, sample.value))
            by_name.setdefault(sample.name, []).append(_labels(sample.labels) + value)
        for name, metrics in by_name.items():
            yield _family(name, family.documentation, kind, metrics)


def _family(name: str, documentation: str, kind: int, metrics: Iterable[bytes]) -> bytes:
    head = _field(1, name.encode()) + _field(2, documentation.encode()) + _number(3, kind)
    return head + b"".join(_field(4, metric) for metric in metrics)


_EDGES = [_DOUBLE.pack(edge) for edge in (*BUCKETS, math.inf)]


def _rows(family: HistogramFamily) -> Iterator[bytes]:
    for values, row in family.rows:
        labels = _labels(dict(zip(family.labels, values, strict=True)))
        yield labels + _histogram(list(zip(_EDGES, accumulate(map(int, row[:-1])), strict=True)), row[-1])


def _histograms(family: Metric) -> Iterator[bytes]:
    """The histograms of a family of samples, put together again."""
    found: dict[tuple[tuple[str, str], ...], tuple[list[tuple[bytes, int]], list[float]]] = {}
    for sample in family.samples:
        labels = {name: value for name, value in sample.labels.items() if name != "le"}
        buckets, total = found.setdefault(tuple(labels.items()), ([], [0.0]))
        if sample.name.endswith("_bucket"):
            buckets.append((_DOUBLE.pack(float(sample.labels["le"])), int(sample.value)))
        elif sample.name.endswith("_sum"):
            total[0] = sample.value
    for names, (buckets, total) in found.items():
        yield _labels(dict(names)) + _histogram(buckets, total[0])


def _histogram(buckets: Sequence[tuple[bytes, int]], total: float) -> bytes:
    """Field 7 of Metric; the buckets are cumulative, and the last has no upper bound."""
    inner = [_number(1, buckets[-1][1] if buckets else 0), _double(2, total)]
    for edge, count in buckets:
        bucket = b"\x08" + _varint(count) + b"\x11" + edge
        inner.append(b"\x1a" + bytes((len(bucket),)) + bucket)
    return _field(7, b"".join(inner))


def _labels(values: Mapping[str, str]) -> bytes:
    """Field 1 of Metric, once a label."""
    return b"".join(
        _field(1, _field(1, name.encode()) + _field(2, value.encode("utf-8", "replace")))
        for name, value in values.items()
    )


def _field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _sized(data)


def _number(number: int, value: int) -> bytes:
    return bytes((number << 3,)) + _varint(value)


def _double(number: int, value: float) -> bytes:
    return bytes((number << 3 | 1,)) + _DOUBLE.pack(value)


def _sized(data: bytes) -> bytes:
    return _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
