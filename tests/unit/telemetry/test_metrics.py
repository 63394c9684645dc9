"""Each metric has the documented name and labels, and clients cannot create series without limit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from msctl.model.snapshots import (
    GATEWAY,
    BreakerState,
    BrokerMode,
    BrokerSnapshot,
    Durability,
    InstanceSnapshot,
    Kind,
    MessageFlow,
    QueueSnapshot,
    ServiceSnapshot,
    Snapshot,
    State,
    StorageSnapshot,
    TargetSnapshot,
)
from msctl.telemetry.metrics.exposition import MAX_QUEUES, render
from msctl.telemetry.metrics.histogram import BUCKETS
from msctl.telemetry.metrics.metrics import Metrics
from tests.support.clock import FakeClock
from tests.unit.telemetry.gateway_requests import request_finished

Samples = dict[str, float]


def scrape(metrics: Metrics, snapshot: Snapshot | None = None, **options: object) -> Samples:
    """Every sample, as Prometheus's own text parser reads it: `name{a="b"}` to its value."""
    text, kind = render(metrics.registry, snapshot, **options)  # type: ignore[arg-type]  # of this test
    assert kind.startswith("text/plain; version=0.0.4")
    return {
        f"{s.name}{{{','.join(f'{k}={v}' for k, v in sorted(s.labels.items()))}}}".replace("{}", ""): s.value
        for family in text_string_to_metric_families(text.decode())
        for s in family.samples
    }


def broker(*queues: QueueSnapshot, told: bool = True) -> BrokerSnapshot:
    return BrokerSnapshot(
        BrokerMode.EXTERNAL, State.READY, "amqp://x/", connections=3, queues=queues if told else None
    )


def stack(*services: ServiceSnapshot, at: BrokerSnapshot | None = None) -> Snapshot:
    return Snapshot("shop", None, "1.2", 1, 60.0, services, at or broker(told=False))


def service(name: str, state: State = State.READY, restarts: int = 0) -> ServiceSnapshot:
    one = InstanceSnapshot(f"{name}-1", state, restarts=restarts)
    return ServiceSnapshot(name, Kind.HOSTED, state, restarts=restarts, instances=(one,))


def test_a_request_through_the_gateway_is_one_observation_of_its_service() -> None:
    metrics = Metrics()
    metrics.active[GATEWAY] += 1
    assert scrape(metrics)["http_server_active_requests{service=gateway}"] == 1
    request_finished(metrics, "users", "/users", "GET", 200, 0.003)
    found = scrape(metrics)
    labels = "http_request_method=GET,http_response_status_code=200,http_route=/users"
    assert found["http_server_active_requests{service=gateway}"] == 0
    assert found[f"http_server_request_duration_seconds_count{{{labels},service=users}}"] == 1
    assert found[f"http_server_request_duration_seconds_sum{{{labels},service=users}}"] == 0.003
    assert found[f"http_server_request_duration_seconds_bucket{{{labels},le=0.0025,service=users}}"] == 0
    assert found[f"http_server_request_duration_seconds_bucket{{{labels},le=0.005,service=users}}"] == 1


def test_the_buckets_are_the_documented_ones() -> None:
    metrics = Metrics()
    request_finished(metrics, "users", "/users", "GET", 200, 0.003)
    prefix = "http_server_request_duration_seconds_bucket"
    text = render(metrics.registry, None)[0].decode()
    edges = [line.split('le="')[1].split('"')[0] for line in text.splitlines() if line.startswith(prefix)]
    assert edges == [*map(str, BUCKETS), "+Inf"]


def test_a_request_without_a_route_belongs_to_the_gateway() -> None:
    metrics = Metrics()
    request_finished(metrics, "", "", "_OTHER", 404, 0.001)
    labels = "http_request_method=_OTHER,http_response_status_code=404,http_route=,service=gateway"
    assert scrape(metrics)[f"http_server_request_duration_seconds_count{{{labels}}}"] == 1


def test_requests_on_a_services_own_listener_count_for_it() -> None:
    metrics = Metrics()
    metrics.service_started("users")
    assert scrape(metrics)["http_server_active_requests{service=users}"] == 1
    metrics.service_finished("users", "/users", "GET", 500, 0.2)
    labels = "http_request_method=GET,http_response_status_code=500,http_route=/users,service=users"
    assert scrape(metrics)[f"http_server_request_duration_seconds_count{{{labels}}}"] == 1


def test_attempts_distinguish_responses_from_no_response() -> None:
    metrics = Metrics()
    metrics.attempts_finished("users", "GET", 200, [0.001])
    metrics.attempts_finished("users", "GET", None, [0.001])
    found = scrape(metrics)
    name = "http_client_request_duration_seconds_count"
    assert (
        found[
            f"{name}{{error_type=,http_request_method=GET,http_response_status_code=200,server_address=users}}"
        ]
        == 1
    )
    assert (
        found[
            f"{name}{{error_type=no_response,http_request_method=GET,http_response_status_code=,server_address=users}}"
        ]
        == 1
    )


def test_retries_and_rate_limits_are_counted() -> None:
    metrics = Metrics()
    metrics.retried("users", "connection_refused")
    metrics.rate_limited("/users")
    found = scrape(metrics)
    assert found["msctl_gateway_retries_total{reason=connection_refused,upstream=users}"] == 1
    assert found["msctl_gateway_ratelimited_total{http_route=/users}"] == 1


def test_the_breaker_of_an_upstream_is_its_worst_instance() -> None:
    metrics = Metrics()
    metrics.target_ready("users", "users-1", True)
    metrics.target_ready("users", "users-2", True)
    assert scrape(metrics)["msctl_gateway_breaker_state{upstream=users}"] == 0
    metrics.breaker_changed("users", "users-2", BreakerState.OPEN)
    assert scrape(metrics)["msctl_gateway_breaker_state{upstream=users}"] == 2
    metrics.breaker_changed("users", "users-2", BreakerState.HALF_OPEN)
    assert scrape(metrics)["msctl_gateway_breaker_state{upstream=users}"] == 1
    metrics.target_ready("users", "users-2", False)
    found = scrape(metrics)
    assert found["msctl_gateway_breaker_state{upstream=users}"] == 0
    assert found["msctl_gateway_target_ready{instance=users-1,upstream=users}"] == 1
    assert found["msctl_gateway_target_ready{instance=users-2,upstream=users}"] == 0


def test_messages_are_counted_by_service_and_queue() -> None:
    metrics = Metrics()
    metrics.message_sent("producer", "hello", "")
    metrics.message_sent("producer", "hello", "BrokerError")
    metrics.message_processed("consumer", "hello", "", 0.02)
    found = scrape(metrics)
    where = "messaging_destination_name=hello,messaging_operation_name=%s,messaging_system=rabbitmq"
    published, where = where % "publish", where % "process"
    assert found[f"messaging_client_sent_messages_total{{error_type=,{published},service=producer}}"] == 1
    assert (
        found[f"messaging_client_sent_messages_total{{error_type=BrokerError,{published},service=producer}}"]
        == 1
    )
    assert found[f"messaging_client_consumed_messages_total{{{where},service=consumer}}"] == 1
    assert found[f"messaging_process_duration_seconds_count{{error_type=,{where},service=consumer}}"] == 1


def test_loop_lag_and_process_metrics_are_exposed() -> None:
    found = scrape(Metrics(loop_lag=lambda: 0.125))
    assert found["msctl_event_loop_lag_seconds"] == 0.125
    assert found["process_resident_memory_bytes"] > 0


def test_two_stacks_in_one_process_have_separate_metrics() -> None:
    one, other = Metrics(), Metrics()
    one.rate_limited("/users")
    assert "msctl_gateway_ratelimited_total{http_route=/users}" not in scrape(other)


@pytest.mark.parametrize(
    "flood",
    [
        lambda m, n: request_finished(m, "users", f"/{n}", "GET", 200, 0.001),
        lambda m, n: m.message_sent("producer", f"queue-{n}", ""),
        lambda m, n: m.retried("users", f"reason-{n}"),
    ],
)
def test_series_are_bounded(flood: Callable[[Metrics, int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("msctl.telemetry.metrics.histogram.MAX_SERIES", 50)
    metrics = Metrics(monotonic=FakeClock().monotonic)
    for number in range(150):
        flood(metrics, number)
    counts = {k: v for k, v in scrape(metrics).items() if "_count{" in k or "_total{" in k}
    of_users = {k: v for k, v in counts.items() if "service=" in k or "upstream=" in k}
    assert len(of_users) == 51
    assert sum(of_users.values()) == 150
    assert [v for k, v in of_users.items() if "=_OTHER" in k] == [100]


def test_a_snapshot_becomes_service_metrics() -> None:
    snapshot = stack(service("users", restarts=4), service("orders", State.FATAL))
    found = scrape(Metrics(), snapshot)
    assert found["msctl_info{project=shop,version=1.2}"] == 1
    assert found["msctl_uptime_seconds"] == 60
    assert found["msctl_service_restarts_total{service=users}"] == 4
    assert found["msctl_service_up{service=users}"] == 1
    assert found["msctl_service_up{service=orders}"] == 0
    assert found["msctl_service_state{service=orders,state=fatal}"] == 1
    assert found["msctl_service_instances_ready{service=orders}"] == 0
    assert found["msctl_broker_up{mode=external}"] == 1
    assert found["msctl_broker_connections"] == 3


def test_queues_are_exposed_if_the_broker_reports_them() -> None:
    queues = (QueueSnapshot("hello", 5, 2, 1, published=9), QueueSnapshot("other", 0, 0, 0))
    found = scrape(Metrics(), stack(at=broker(*queues)))
    assert found["msctl_broker_queue_messages_ready{queue=hello,vhost=/}"] == 5
    assert found["msctl_broker_queue_messages_unacked{queue=hello,vhost=/}"] == 2
    assert found["msctl_broker_queue_consumers{queue=hello,vhost=/}"] == 1
    assert found["msctl_broker_queue_messages_published_total{queue=hello,vhost=/}"] == 9
    assert "msctl_broker_queue_messages_published_total{queue=other,vhost=/}" not in found
    assert not [name for name in scrape(Metrics(), stack()) if name.startswith("msctl_broker_queue")]


def test_queues_beyond_the_limit_are_summed() -> None:
    queues = tuple(QueueSnapshot(f"q{n}", 2, 0, 0) for n in range(MAX_QUEUES + 5))
    found = scrape(Metrics(), stack(at=broker(*queues)))
    assert found["msctl_broker_queue_messages_ready{queue=_OTHER,vhost=_OTHER}"] == 10


def test_connections_to_instances_are_exposed() -> None:
    target = TargetSnapshot("users", "users-1", "127.0.0.1:1", BreakerState.CLOSED, 3, 4, 5)
    found = scrape(Metrics(), stack(), targets=[target])
    assert found["msctl_gateway_target_in_flight{instance=users-1,upstream=users}"] == 3
    assert found["msctl_gateway_target_connections{instance=users-1,upstream=users}"] == 4
    assert found["msctl_gateway_target_waiting{instance=users-1,upstream=users}"] == 5


def test_a_services_own_page_has_only_its_own_series() -> None:
    metrics = Metrics()
    request_finished(metrics, "users", "/users", "GET", 200, 0.001)
    request_finished(metrics, "hello", "/hello", "GET", 200, 0.001)
    metrics.target_ready("users", "users-1", True)
    found = scrape(metrics, stack(service("users"), service("hello")), service="users")
    assert "msctl_gateway_target_ready{instance=users-1,upstream=users}" in found
    assert "msctl_service_up{service=users}" in found
    assert not [name for name in found if "users" not in name]


def test_open_metrics_is_served_on_request() -> None:
    text, kind = render(Metrics().registry, None, accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


def test_a_snapshot_shows_rates_and_the_95th_percentile() -> None:
    clock = FakeClock()
    metrics = Metrics(monotonic=clock.monotonic)
    for number in range(100):
        status, seconds = 500 if number < 10 else 200, 0.001 * (number + 1)
        request_finished(metrics, "users", "/users", "GET", status, seconds, clock.monotonic())
    for _ in range(20):
        metrics.message_sent("users", "hello", "")
    clock.set(5.0)
    users, hello = metrics.annotate([service("users"), service("hello")])
    assert (users.requests_per_s, users.errors_per_s) == (20, 2)
    assert users.p95_s == pytest.approx(0.095, rel=0.06)
    assert users.recent[-5:] == (100, 0, 0, 0, 0)
    assert users.messages == (MessageFlow("hello", sends=True, per_s=4.0),)
    assert (hello.requests_per_s, hello.p95_s, hello.recent) == (None, None, ())


@pytest.mark.parametrize("blocked", [False, True])
def test_memory_alarm_of_the_broker_is_exposed(blocked: bool) -> None:
    at = replace(broker(), blocked=blocked, memory_bytes=600, memory_limit=512)
    found = scrape(Metrics(), stack(at=at))
    assert found["msctl_broker_blocked"] == blocked
    assert found["msctl_broker_memory_bytes"] == 600
    assert found["msctl_broker_memory_limit_bytes"] == 512


def test_what_the_broker_keeps_on_disk_is_exposed() -> None:
    kept = StorageSnapshot(Durability.PROCESS, "/state/broker", 7, 4096)
    found = scrape(Metrics(), stack(at=replace(broker(), storage=kept)))
    assert (found["msctl_broker_stored_messages"], found["msctl_broker_stored_bytes"]) == (7, 4096)
    assert "msctl_broker_stored_bytes" not in scrape(Metrics(), stack(at=broker()))


def test_memory_of_a_broker_that_does_not_report_it_is_left_out() -> None:
    assert "msctl_broker_blocked" not in scrape(Metrics(), stack(at=broker(told=False)))
