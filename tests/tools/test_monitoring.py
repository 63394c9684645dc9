"""promtool accepts the exported rules and queries, and the alerts fire when they should."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import yaml

from msctl.export import ExportOptions, export, grafana
from msctl.model.project import DashboardSpec, Project
from msctl.secret import Secret
from tests.support import tools
from tests.unit.export import projects

ALERTS = """\
rule_files: [alerts.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: 'http_server_request_duration_seconds_count{service="users",http_response_status_code="200"}'
        values: '0+90x30'
      - series: 'http_server_request_duration_seconds_count{service="users",http_response_status_code="500"}'
        values: '0+10x30'
      - series: 'http_server_request_duration_seconds_count{service="hello",http_response_status_code="200"}'
        values: '0+90x30'
      - series: 'msctl_service_up{service="orders",instance="a"}'
        values: '0x30'
      - series: 'msctl_service_state{service="orders",instance="a",state="fatal"}'
        values: '1x30'
      - series: 'msctl_service_up{service="consumer",instance="a"}'
        values: '0x30'
      - series: 'msctl_service_state{service="consumer",instance="a",state="stopped"}'
        values: '1x30'
    alert_rule_test:
      - alertname: MsctlErrorRate
        eval_time: 20m
        exp_alerts:
          - exp_labels: {severity: critical, service: users}
            exp_annotations: {summary: users fails 10% of its requests}
      - alertname: MsctlServiceDown
        eval_time: 20m
        exp_alerts:
          - exp_labels: {severity: critical, service: orders, instance: a}
            exp_annotations: {summary: orders is not ready}
      - alertname: MsctlErrorRate
        eval_time: 3m
        exp_alerts: []
"""


def write(folder: Path, kind: str, project: Project, options: ExportOptions | None = None) -> None:
    for file in export(kind, project, options).files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


def test_promtool_accepts_the_configuration_and_its_rules(tmp_path: Path) -> None:
    write(tmp_path, "prometheus", projects.course())
    assert "SUCCESS" in tools.accepts(
        [tools.require("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    )


def test_promtool_accepts_the_files_of_compose(tmp_path: Path) -> None:
    write(tmp_path, "compose", projects.shop(), ExportOptions(monitoring=True))
    path = tmp_path / "monitoring" / "prometheus" / "prometheus.yml"
    tools.accepts([tools.require("promtool"), "check", "config", str(path)])


def test_alerts_fire_for_each_failure_and_for_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "prometheus", projects.course())
    (tmp_path / "test.yml").write_text(ALERTS)
    tools.accepts([tools.require("promtool"), "test", "rules", "test.yml"], cwd=tmp_path)


def test_dashboard_password_is_used_and_written_to_no_file(tmp_path: Path) -> None:
    spec = DashboardSpec(host="0.0.0.0", port=9999, password=Secret("hush"))
    project = replace(projects.course(), dashboard=spec)
    exported = export("prometheus", project)
    (scrape,) = yaml.safe_load(exported.files[0].text)["scrape_configs"]
    assert scrape["static_configs"] == [{"targets": ["127.0.0.1:9999"]}]
    assert scrape["basic_auth"] == {"username": "msctl", "password_file": "dashboard-password"}
    assert [notice.key for notice in exported.notices] == ["dashboard.password"]
    for kind in ("prometheus", "compose", "kubernetes"):
        assert not [file.path for file in export(kind, project).files if "hush" in file.text]
    write(tmp_path, "prometheus", project)
    (tmp_path / "dashboard-password").write_text("hush")
    tools.accepts([tools.require("promtool"), "check", "config", str(tmp_path / "prometheus.yml")])


def test_every_query_is_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": resolved(query)}
        for number, (_, query) in enumerate(grafana.queries())
    ]
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    tools.accepts([tools.require("promtool"), "check", "rules", str(tmp_path / "rules.yml")])


def resolved(query: str) -> str:
    """The query as Grafana sends it with all services chosen."""
    return query.replace("$__rate_interval", "1m").replace("$service", ".*")
