"""Metrics that programs send appear on the metrics page."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from msctl.telemetry.metrics import exposition
from msctl.telemetry.metrics.point import Point
from msctl.telemetry.metrics.received import MAX_SERIES, ReceivedMetrics

INF = float("inf")


def page(received: ReceivedMetrics, registry: CollectorRegistry | None = None) -> dict[str, float]:
    text = exposition.render(registry or CollectorRegistry(), None, received=received)[0].decode()
    families = list(text_string_to_metric_families(text))
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in families
        for sample in family.samples
    }


def test_a_series_has_its_unit_its_service_and_its_instance() -> None:
    received = ReceivedMetrics()
    received.keep([Point("db.client.wait", "s", "gauge", (("db.system", "x"),), 2.5)], "users", "users-1")
    labels = [("db_system", "x"), ("instance", "users-1"), ("service", "users")]
    assert page(received) == {f"db_client_wait_seconds{labels}": 2.5}


def test_counters_and_histograms_have_their_suffixes_and_the_latest_state() -> None:
    received = ReceivedMetrics()
    for count in (1, 4):
        received.keep(
            [
                Point("jobs.total", "1", "counter", (), count),
                Point("took", "s", "histogram", (), 1.5, ((1.0, count), (INF, count + 1))),
            ],
            "users",
            "users-1",
        )
    found = {name.partition("[")[0]: value for name, value in page(received).items()}
    assert found["jobs_total"] == 4
    assert (found["took_seconds_count"], found["took_seconds_sum"]) == (5, 1.5)


def test_a_name_of_the_stack_itself_is_left_out() -> None:
    received = ReceivedMetrics()
    received.keep([Point("took", "", "counter", (), 9)], "users", "users-1")
    registry = CollectorRegistry()
    Counter("took", "ours", registry=registry)
    assert page(received, registry) == {"took_total[]": 0.0}


def test_series_are_bounded_and_go_with_their_service() -> None:
    received = ReceivedMetrics()
    many = [Point("a", "", "gauge", (("n", str(number)),), 1) for number in range(MAX_SERIES + 5)]
    assert received.keep(many, "users", "users-1") == 5
    assert len(page(received)) == MAX_SERIES
    received.forget(["orders"])
    assert page(received) == {}


def test_hostile_names_and_values_give_a_valid_page() -> None:
    received = ReceivedMetrics()
    points = [
        Point('1{}"\n', "\x00", "gauge", (("le", '"\n\\'), ("1 2", "x"), ("service", "other")), INF),
        Point("---", "", "counter", (), float("nan")),
        Point("same", "", "gauge", (), 1),
    ]
    received.keep(points, "users", "users-1")
    received.keep([Point("same", "", "histogram", (), 1, ((INF, 1),))], "users", "users-2")
    assert len(page(received)) == 3
