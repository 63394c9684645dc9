"""The graphs of the dashboard: titles, queries, units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

REQUESTS = "http_server_request_duration_seconds"
_PICK = 'service=~"$service"'
_RATE = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph: its queries with their legends, and the unit of its axis."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str
    stacked: bool = False


def _by_service(selector: str = "") -> str:
    more = f", {selector}" if selector else ""
    return f"sum by (service) (rate({REQUESTS}_count{{{_PICK}{more}}}{_RATE}))"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({REQUESTS}_bucket{{{_PICK}}}{_RATE})))"


_FAILED = _by_service('http_response_status_code=~"5.."')

ROWS: Sequence[tuple[str, Sequence[Panel]]] = (
    (
        "Requests",
        (
            Panel(
                "Rate", "Requests per second, by service.", [(_by_service(), "{{service}}")], "reqps", True
            ),
            Panel(
                "Errors",
                "Share of 5xx responses, by service.",
                # A service without errors has no 5xx series: show 0, not a gap.
                [(f"({_FAILED} or {_by_service()} * 0) / {_by_service()}", "{{service}}")],
                "percentunit",
            ),
            Panel(
                "Duration",
                "Request duration over the selected services.",
                [(_quantile(0.5), "p50"), (_quantile(0.95), "p95"), (_quantile(0.99), "p99")],
                "s",
            ),
            Panel(
                "Duration by service (p95)",
                "95th percentile of the request duration, by service.",
                [
                    (
                        "histogram_quantile(0.95, sum by (service, le) "
                        f"(rate({REQUESTS}_bucket{{{_PICK}}}{_RATE})))",
                        "{{service}}",
                    )
                ],
                "s",
            ),
        ),
    ),
    (
        "Saturation",
        (
            Panel(
                "Requests in flight",
                "Requests in flight, by the service that accepted them.",
                [("sum by (service) (http_server_active_requests)", "{{service}}")],
                "short",
            ),
            Panel(
                "Event loop lag",
                "Maximum delay of the event loop; above 250 ms, a handler blocks it.",
                [("max by (job, instance) (msctl_event_loop_lag_seconds)", "{{instance}}")],
                "s",
            ),
            Panel(
                "CPU",
                "Cores in use, by process.",
                [(f"rate(process_cpu_seconds_total{_RATE})", "{{job}} {{instance}}")],
                "short",
            ),
            Panel(
                "Memory",
                "Resident memory, by process.",
                [("process_resident_memory_bytes", "{{job}} {{instance}}")],
                "bytes",
            ),
        ),
    ),
    (
        "Gateway and services",
        (
            Panel(
                "Targets ready",
                "Ready instances behind the gateway, by service.",
                [("sum by (upstream) (msctl_gateway_target_ready)", "{{upstream}}")],
                "short",
            ),
            Panel(
                "Circuit breakers",
                "0 closed, 1 half-open, 2 open: the worst state of a service's instances.",
                [("max by (upstream) (msctl_gateway_breaker_state)", "{{upstream}}")],
                "short",
            ),
            Panel(
                "Attempts",
                "Requests that the gateway sent upstream, retries included.",
                [
                    (
                        f"sum by (server_address) (rate(http_client_request_duration_seconds_count{_RATE}))",
                        "{{server_address}}",
                    )
                ],
                "reqps",
            ),
            Panel(
                "Restarts",
                "Restarts within an hour of instances that exited unexpectedly.",
                [
                    (
                        f"sum by (service) (increase(msctl_service_restarts_total{{{_PICK}}}[1h]))",
                        "{{service}}",
                    )
                ],
                "short",
            ),
        ),
    ),
    (
        "Messages",
        (
            Panel(
                "Sent and consumed",
                "Messages per second, by service and queue.",
                [
                    (
                        "sum by (service, messaging_destination_name) "
                        f"(rate(messaging_client_sent_messages_total{_RATE}))",
                        "sent: {{service}} to {{messaging_destination_name}}",
                    ),
                    (
                        "sum by (service, messaging_destination_name) "
                        f"(rate(messaging_client_consumed_messages_total{_RATE}))",
                        "consumed: {{service}} from {{messaging_destination_name}}",
                    ),
                ],
                "cps",
            ),
            Panel(
                "Time per message (p95)",
                "95th percentile of the processing time of a message, by service.",
                [
                    (
                        "histogram_quantile(0.95, sum by (service, le) "
                        f"(rate(messaging_process_duration_seconds_bucket{_RATE})))",
                        "{{service}}",
                    )
                ],
                "s",
            ),
            Panel(
                "Queues",
                "Ready messages, by queue.",
                [
                    (
                        # The embedded broker's metrics, or those of RabbitMQ's Prometheus plugin.
                        "sum by (queue) (msctl_broker_queue_messages_ready) "
                        "or sum by (queue) (rabbitmq_queue_messages_ready)",
                        "{{queue}}",
                    )
                ],
                "short",
            ),
            Panel(
                "Consumers",
                "Consumers, by queue.",
                [
                    (
                        "sum by (queue) (msctl_broker_queue_consumers) "
                        "or sum by (queue) (rabbitmq_queue_consumers)",
                        "{{queue}}",
                    )
                ],
                "short",
            ),
        ),
    ),
)
