"""`grafana`: a dashboard of the whole system, and the files that provision it; for Grafana 10 or newer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from msctl.export.kind import ExportKind, ExportOptions, File, Item
from msctl.export.names import project_label
from msctl.export.yaml import dump
from msctl.model.project import Project

PROMETHEUS_URL = "http://127.0.0.1:9090"
DATASOURCE_UID = "msctl-prometheus"
SCHEMA_VERSION = 39
_COLUMNS = 24
_HEIGHT = 8
_LONGEST_UID = 40

_REQUESTS = "http_server_request_duration_seconds"
_PICK = 'service=~"$service"'
_RATE = "[$__rate_interval]"


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph: its queries with their legends, and the unit of its axis."""

    title: str
    description: str
    queries: Sequence[tuple[str, str]]
    unit: str
    stacked: bool = False


def _by_service(selector: str = "") -> str:
    more = f", {selector}" if selector else ""
    return f"sum by (service) (rate({_REQUESTS}_count{{{_PICK}{more}}}{_RATE}))"


def _quantile(share: float) -> str:
    return f"histogram_quantile({share}, sum by (le) (rate({_REQUESTS}_bucket{{{_PICK}}}{_RATE})))"


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
                "The share of requests that were answered 5xx, by service.",
                # A service without errors has no such series: it is shown as 0, not as missing.
                [(f"({_FAILED} or {_by_service()} * 0) / {_by_service()}", "{{service}}")],
                "percentunit",
            ),
            Panel(
                "Duration",
                "How long requests took, over the services chosen.",
                [(_quantile(0.5), "p50"), (_quantile(0.95), "p95"), (_quantile(0.99), "p99")],
                "s",
            ),
            Panel(
                "Duration by service (p95)",
                "The time within which 95 of 100 requests are answered.",
                [
                    (
                        "histogram_quantile(0.95, sum by (service, le) "
                        f"(rate({_REQUESTS}_bucket{{{_PICK}}}{_RATE})))",
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
                "Requests under way",
                "How many requests are being answered, by who took them from the client.",
                [("sum by (service) (http_server_active_requests)", "{{service}}")],
                "short",
            ),
            Panel(
                "Event loop lag",
                "How late the event loop ran at its worst; above 250 ms a handler blocks it.",
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
                "Instances to which the gateway sends requests.",
                [("sum by (upstream) (msctl_gateway_target_ready)", "{{upstream}}")],
                "short",
            ),
            Panel(
                "Circuit breakers",
                "0 closed, 1 half-open, 2 open: the worst of a service's instances.",
                [("max by (upstream) (msctl_gateway_breaker_state)", "{{upstream}}")],
                "short",
            ),
            Panel(
                "Attempts",
                "Requests that the gateway sent on, by service; more than it got are retries.",
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
                "Restarts within an hour after an instance ended by itself.",
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
                "How long services took for a message.",
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
                "Messages that wait for a consumer.",
                [
                    (
                        # The embedded broker's own figures, or those of RabbitMQ's Prometheus plugin.
                        "sum by (queue) (msctl_broker_queue_messages_ready) "
                        "or sum by (queue) (rabbitmq_queue_messages_ready)",
                        "{{queue}}",
                    )
                ],
                "short",
            ),
            Panel(
                "Consumers",
                "Consumers of each queue.",
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


def uid(project: Project) -> str:
    """The dashboard's identity: the same for a project wherever and whenever it is exported."""
    return f"msctl-{project_label(project)}"[:_LONGEST_UID]


def dashboard(project: Project) -> dict[str, object]:
    return {
        "uid": uid(project),
        "title": project.name,
        "description": "Requests, errors, durations, saturation and queues of a system that msctl runs.",
        "tags": ["msctl"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "annotations": {"list": []},
        "links": [],
        "templating": {"list": [_datasource_variable(), _service_variable()]},
        "panels": list(_panels()),
    }


def _datasource_variable() -> dict[str, object]:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "refresh": 1,
    }


def _service_variable() -> dict[str, object]:
    return {
        "name": "service",
        "label": "Service",
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": f"label_values({_REQUESTS}_count, service)", "refId": "services"},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _panels() -> Iterator[dict[str, object]]:
    number, top = 0, 0
    for title, panels in ROWS:
        number += 1
        place = {"x": 0, "y": top, "w": _COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": place,
            "panels": [],
        }
        top += 1
        width = _COLUMNS // len(panels)
        for column, panel in enumerate(panels):
            number += 1
            place = {"x": column * width, "y": top, "w": width, "h": _HEIGHT}
            yield _graph(panel, number, place)
        top += _HEIGHT


def _graph(panel: Panel, number: int, place: dict[str, int]) -> dict[str, object]:
    custom = {
        "lineWidth": 1,
        "fillOpacity": 20 if panel.stacked else 0,
        "showPoints": "never",
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
    }
    return {
        "id": number,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _DATASOURCE,
                "expr": expression,
                "legendFormat": legend,
                "range": True,
            }
            for index, (expression, legend) in enumerate(panel.queries)
        ],
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }


def queries() -> Iterator[tuple[str, str]]:
    """Each panel's title with each of its queries."""
    for _, panels in ROWS:
        for panel in panels:
            for expression, _ in panel.queries:
                yield panel.title, expression


def files(project: Project, prometheus_url: str, folder: str = "") -> Iterator[File]:
    """The dashboard, and what tells Grafana of it and of Prometheus, below `folder`."""
    prefix = f"{folder}/" if folder else ""
    yield File(
        f"{prefix}dashboards/{project_label(project)}.json",
        json.dumps(dashboard(project), indent=2, ensure_ascii=False) + "\n",
    )
    yield File(
        f"{prefix}provisioning/datasources/prometheus.yaml",
        dump(
            {
                "apiVersion": 1,
                "datasources": [
                    {
                        "name": "Prometheus",
                        "uid": DATASOURCE_UID,
                        "type": "prometheus",
                        "access": "proxy",
                        "url": prometheus_url,
                        "isDefault": True,
                        "jsonData": {"timeInterval": "5s"},
                    }
                ],
            },
            comment="Where Grafana finds Prometheus.",
        ),
    )
    yield File(
        f"{prefix}provisioning/dashboards/msctl.yaml",
        dump(
            {
                "apiVersion": 1,
                "providers": [
                    {
                        "name": "msctl",
                        "type": "file",
                        "allowUiUpdates": True,
                        "options": {"path": "/var/lib/grafana/dashboards"},
                    }
                ],
            },
            comment="Where Grafana finds its dashboards.",
        ),
    )


def render(project: Project, options: ExportOptions) -> Iterator[Item]:  # noqa: ARG001 - every kind is given them
    yield from files(project, PROMETHEUS_URL)


KIND = ExportKind("grafana", "A dashboard, and the files that provision it", render, folder="grafana")
