"""`prometheus`: scrape configuration and alerts, for Prometheus 2.40 or newer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import project_label
from msctl.export.workloads import HostPort, reachable
from msctl.export.yaml import dump
from msctl.model.project import Project
from msctl.model.snapshots import Kind as ServiceKind

INTERVAL = "5s"
RULES = "alerts.yml"
PASSWORD_FILE = "dashboard-password"  # noqa: S105 - the name of a file


@dataclass(frozen=True, slots=True)
class Job:
    """A scrape job; with `resolve`, every address of a target's host name is scraped."""

    name: str
    targets: tuple[str, ...]
    resolve: bool = False
    path: str = "/metrics"
    password_file: str | None = None


def files(
    project: Project, jobs: Sequence[Job], folder: str = "", *, is_exported: bool = False
) -> Iterator[File]:
    """Return `prometheus.yml` and its rules, in `folder`.

    An exported system has a process for each service, which an engine restarts, and RabbitMQ.
    """
    prefix = f"{folder}/" if folder else ""
    document = {
        "global": {
            "scrape_interval": INTERVAL,
            "evaluation_interval": INTERVAL,
            "external_labels": {"project": project.name},
        },
        "rule_files": [RULES],
        "scrape_configs": [_scrape(job) for job in jobs],
    }
    comment = f"{project.name}: scrape configuration.\n\n  prometheus --config.file=prometheus.yml"
    yield File(f"{prefix}prometheus.yml", dump(document, comment=comment))
    yield File(f"{prefix}{RULES}", dump(_rules(is_exported=is_exported), comment=f"{project.name}: alerts."))


def _scrape(job: Job) -> dict[str, object]:
    scrape: dict[str, object] = {"job_name": job.name}
    if job.path != "/metrics":
        scrape["metrics_path"] = job.path
    if job.password_file is not None:
        scrape["basic_auth"] = {"username": "msctl", "password_file": job.password_file}
    if not job.resolve:
        return scrape | {"static_configs": [{"targets": list(job.targets)}]}
    found = []
    for target in job.targets:
        host, _, port = target.rpartition(":")
        found.append({"names": [host], "type": "A", "port": int(port)})
    return scrape | {"dns_sd_configs": found}


_REQUESTS = "http_server_request_duration_seconds"


def rules(*, is_exported: bool) -> list[tuple[str, str]]:
    """Return the name and the expression of each alert."""
    document: Any = _rules(is_exported=is_exported)
    return [(rule["alert"], rule["expr"]) for group in document["groups"] for rule in group["rules"]]


def _rules(*, is_exported: bool) -> dict[str, object]:
    restarts = "increase(msctl_service_restarts_total[10m])"
    restarted = "{{ $labels.service }}"
    ready = "msctl_broker_queue_messages_ready"
    if is_exported:
        restarts, restarted = "changes(process_start_time_seconds[10m])", "{{ $labels.job }}"
        ready = "rabbitmq_queue_messages_ready"
    errors = f'sum by (service) (rate({_REQUESTS}_count{{http_response_status_code=~"5.."}}[5m]))'
    total = f"sum by (service) (rate({_REQUESTS}_count[5m]))"
    alerts = [
        _alert(
            "TargetDown",
            "up == 0",
            "1m",
            "critical",
            "{{ $labels.job }} at {{ $labels.instance }} does not answer scrapes",
        ),
        _alert(
            "ServiceDown",
            'msctl_service_up == 0 unless on (service, instance) msctl_service_state{state="stopped"} == 1',
            "1m",
            "critical",
            "{{ $labels.service }} is not ready",
        ),
        _alert(
            "BrokerDown",
            "msctl_broker_up == 0",
            "1m",
            "critical",
            "the broker ({{ $labels.mode }}) does not answer",
        ),
        _alert(
            "ErrorRate",
            f"{errors} / {total} > 0.05",
            "5m",
            "critical",
            "{{ $labels.service }} fails {{ $value | humanizePercentage }} of its requests",
        ),
        _alert(
            "Latency",
            f"histogram_quantile(0.99, sum by (service, le) (rate({_REQUESTS}_bucket[5m]))) > 1",
            "5m",
            "warning",
            "the p99 latency of {{ $labels.service }} is {{ $value | humanizeDuration }}",
        ),
        _alert(
            "BreakerOpen",
            "msctl_gateway_breaker_state == 2",
            "1m",
            "warning",
            "a circuit breaker of {{ $labels.upstream }} is open",
        ),
        _alert(
            "RestartLoop",
            f"{restarts} > 3",
            "0m",
            "warning",
            f"{restarted} was restarted {{{{ $value | humanize }}}} times in ten minutes",
        ),
        _alert(
            "EventLoopLag",
            "msctl_event_loop_lag_seconds > 0.25",
            "1m",
            "warning",
            "the event loop was blocked for {{ $value | humanizeDuration }}",
        ),
        _alert(
            "QueueGrows",
            f"{ready} > 1000 and deriv({ready}[10m]) > 0",
            "10m",
            "warning",
            "queue {{ $labels.queue }} has {{ $value | humanize }} ready messages, and grows",
        ),
    ]
    return {"groups": [{"name": "msctl", "rules": alerts}]}


def _alert(name: str, expression: str, wait: str, severity: str, summary: str) -> dict[str, object]:
    return {
        "alert": f"Msctl{name}",
        "expr": expression,
        "for": wait,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    for target in options.targets:
        host, _, port = target.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ExportError(
                f"--target: {target!r} is not host:port", hint="example: --target 127.0.0.1:8090"
            )
    secret = PASSWORD_FILE if project.dashboard.password is not None else None
    targets = options.targets or (_dashboard(project),)
    yield from files(project, [Job(project_label(project), targets, password_file=secret)])
    if secret is not None:
        yield Notice("dashboard.password", f"write it to {secret}, next to prometheus.yml")
    for spec in project.services:
        if spec.kind is ServiceKind.COMMAND and spec.url is None:
            yield Notice(
                f"services.{spec.name}.command",
                "its own metrics are not included; if it has /metrics, add its address with --target",
            )


def _dashboard(project: Project) -> str:
    """Return the address of the stack's dashboard, which has the metrics of all its services."""
    spec = project.dashboard
    if not spec.enabled or not spec.port:
        raise ExportError(
            "dashboard: the stack's metrics are on the dashboard, which has no fixed port",
            hint="set [dashboard] port, or use --target",
        )
    return str(HostPort(reachable(spec.host), spec.port))


KIND = ExportKind(
    "prometheus",
    "prometheus.yml and alerts, for a stack on this machine",
    render,
    frozenset({"targets"}),
)
