"""Prometheus takes its files, its alerts ring when they should, and Grafana asks for what is measured."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from msctl.export import ExportError, Options, export, grafana
from msctl.model.project import DashboardSpec, Project
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


def write(folder: Path, kind: str, project: Project, options: Options | None = None) -> None:
    for file in export(kind, project, options).files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)


def test_promtool_takes_the_configuration_and_its_rules(tmp_path: Path) -> None:
    write(tmp_path, "prometheus", projects.course())
    assert "SUCCESS" in tools.accepts(
        [tools.require("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    )


def test_promtool_takes_what_compose_brings_along(tmp_path: Path) -> None:
    write(tmp_path, "compose", projects.shop(), Options(monitoring=True))
    path = tmp_path / "monitoring" / "prometheus" / "prometheus.yml"
    tools.accepts([tools.require("promtool"), "check", "config", str(path)])


def test_alerts_ring_for_what_is_broken_and_for_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, "prometheus", projects.course())
    (tmp_path / "test.yml").write_text(ALERTS)
    tools.accepts([tools.require("promtool"), "test", "rules", "test.yml"], cwd=tmp_path)


def test_it_scrapes_the_stack_of_this_machine_unless_told_otherwise() -> None:
    def targets(options: Options) -> object:
        text = export("prometheus", projects.course(), options).files[0].text
        return yaml.safe_load(text)["scrape_configs"][0]["static_configs"][0]["targets"]

    assert targets(Options()) == ["127.0.0.1:8090"]
    assert targets(Options(targets=("a:1", "[::1]:2"))) == ["a:1", "[::1]:2"]


def test_a_dashboard_with_a_password_is_asked_with_it_and_the_password_is_in_no_file(tmp_path: Path) -> None:
    spec = DashboardSpec(host="0.0.0.0", port=9999, password="hush")
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


@pytest.mark.parametrize("dashboard", [DashboardSpec(enabled=False), DashboardSpec(port=0)])
def test_a_dashboard_that_nobody_can_find_is_an_error_that_says_what_to_do(dashboard: DashboardSpec) -> None:
    with pytest.raises(ExportError, match=r"^dashboard: ") as caught:
        export("prometheus", replace(projects.course(), dashboard=dashboard))
    assert "--target" in str(caught.value.hint)


@pytest.mark.parametrize("target", ["here", "here:", ":80", "here:0", "here:99999", "http://here"])
def test_a_target_that_is_no_address_is_an_error(target: str) -> None:
    with pytest.raises(ExportError, match="is not host:port"):
        export("prometheus", projects.course(), Options(targets=(target,)))


def test_the_dashboard_is_the_same_wherever_it_is_exported() -> None:
    text = export("grafana", projects.shop()).files[0].text
    dashboard = json.loads(text)
    assert dashboard["uid"] == "msctl-my-shop"
    assert dashboard["templating"]["list"][0] == {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
        "refresh": 1,
    }
    uids = {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert uids == {"${datasource}"}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = json.loads(export("grafana", projects.course()).files[0].text)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_rates_go_over_grafanas_own_interval() -> None:
    for _, query in grafana.queries():
        assert not re.search(r"rate\([^[]*\[(?!\$__rate_interval\])", query)


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
