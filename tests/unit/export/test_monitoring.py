"""Prometheus's scrape configuration, its rules, and Grafana's dashboard."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from msctl.export import ExportError, ExportOptions, export, grafana
from msctl.model.project import DashboardSpec
from tests.support import yaml_files
from tests.unit.export import projects


def test_default_target_is_the_stack_on_this_machine() -> None:
    def targets(options: ExportOptions) -> object:
        text = export("prometheus", projects.course(), options).files[0].text
        return yaml_files.read(text)["scrape_configs"][0]["static_configs"][0]["targets"]

    assert targets(ExportOptions()) == ["127.0.0.1:8090"]
    assert targets(ExportOptions(targets=("a:1", "[::1]:2"))) == ["a:1", "[::1]:2"]


@pytest.mark.parametrize("dashboard", [DashboardSpec(enabled=False), DashboardSpec(port=0)])
def test_dashboard_without_a_fixed_port_is_an_error_with_a_hint(dashboard: DashboardSpec) -> None:
    with pytest.raises(ExportError, match=r"^dashboard: ") as caught:
        export("prometheus", replace(projects.course(), dashboard=dashboard))
    assert "--target" in str(caught.value.hint)


@pytest.mark.parametrize("target", ["here", "here:", ":80", "here:0", "here:99999", "http://here"])
def test_a_target_that_is_no_address_is_an_error(target: str) -> None:
    with pytest.raises(ExportError, match="is not host:port"):
        export("prometheus", projects.course(), ExportOptions(targets=(target,)))


def test_dashboard_is_the_same_in_every_export() -> None:
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


def test_two_projects_fit_into_one_prometheus_and_one_grafana() -> None:
    long = "a-project-with-a-long-name-of-its-own-and-"
    jobs: set[str] = set()
    uids: set[str] = set()
    names = ("shop", "Blog ö", f"{long}1", f"{long}2")
    for name in names:
        project = replace(projects.course(), name=name)
        uids.add(grafana.uid(project))
        (scrape,) = yaml_files.read(export("prometheus", project).files[0].text)["scrape_configs"]
        jobs.add(scrape["job_name"])
    assert len(jobs) == len(uids) == len(names)
    assert max(map(len, uids)) <= 40
