"""The histogram on the request path counts as prometheus-client's own does, within a bound."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Reference

from msctl.telemetry.metrics.histogram import (
    BUCKETS,
    MAX_SERIES,
    OTHER,
    ActiveRequests,
    Histogram,
    bounded,
    estimate,
)


def samples(registry: CollectorRegistry) -> dict[str, float]:
    lines = generate_latest(registry).decode().splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if not name.startswith("#") and "_created" not in name and "# HELP" not in name
    }


def test_the_buckets_are_those_that_dashboards_of_the_field_use() -> None:
    # The client's defaults without those at three quarters, and shorter ones for hosted services.
    own = {bucket for bucket in Reference.DEFAULT_BUCKETS if bucket != float("inf")}
    assert set(BUCKETS) == (own - {0.075, 0.75, 7.5}) | {0.0005, 0.001, 0.0025}
    assert list(BUCKETS) == sorted(BUCKETS)


def test_it_counts_as_the_reference_does() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("x_seconds", "X.", ("a", "b"), ours)
    reference = Reference("x_seconds", "X.", ("a", "b"), buckets=BUCKETS, registry=theirs)
    values = [0.0, 100.0, *BUCKETS, *(bucket * 1.01 for bucket in BUCKETS)]
    for number, seconds in enumerate(values):
        labels = ("s", str(number % 2))
        histogram.observe(labels, seconds)
        reference.labels(*labels).observe(seconds)
    assert samples(ours) == pytest.approx(samples(theirs))
    assert len(samples(ours)) == 2 * (len(BUCKETS) + 3)


def test_past_the_bound_only_the_first_label_is_kept() -> None:
    assert bounded(("s", "a", 2), range(MAX_SERIES - 1)) == ("s", "a", 2)
    assert bounded(("s", "a", 2), range(MAX_SERIES)) == ("s", OTHER, OTHER)
    assert MAX_SERIES == 4096


def test_requests_in_flight_are_a_gauge_by_service() -> None:
    registry = CollectorRegistry()
    active = ActiveRequests(registry)
    active.counts.update({"a": 2, "b": 1})
    assert samples(registry) == {
        'http_server_active_requests{service="a"}': 2.0,
        'http_server_active_requests{service="b"}': 1.0,
    }


@pytest.mark.parametrize(
    ("counts", "share", "seconds"),
    [
        ([0] * 15, 0.5, 0.0),
        ([10] + [0] * 14, 0.5, 0.00025),
        ([0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0.75, 0.00875),
        ([0] * 14 + [3], 0.99, 10.0),
    ],
)
def test_a_quantile_is_estimated_within_its_bucket(counts: list[int], share: float, seconds: float) -> None:
    assert estimate(counts, share) == pytest.approx(seconds)
