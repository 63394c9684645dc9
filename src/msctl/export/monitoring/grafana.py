"""`grafana`: a dashboard, and the files that provision it, for Grafana 10 or newer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from zlib import crc32

from msctl.export.kind import ExportKind, ExportOptions, File, Item
from msctl.export.monitoring.grafana_panels import REQUESTS, ROWS, Panel
from msctl.export.names import project_label
from msctl.export.yaml import dump
from msctl.model.project import Project

PROMETHEUS_URL = "http://127.0.0.1:9090"
DATASOURCE_UID = "msctl-prometheus"
SCHEMA_VERSION = 39
_COLUMNS = 24
_HEIGHT = 8
_LONGEST_UID = 40


def uid(project: Project) -> str:
    """Return the dashboard's id, the same for every export of a project."""
    name = f"msctl-{project_label(project)}"
    if len(name) <= _LONGEST_UID:
        return name
    checksum = f"{crc32(name.encode()):08x}"
    return f"{name[: _LONGEST_UID - len(checksum) - 1]}-{checksum}"


def dashboard(project: Project) -> dict[str, object]:
    return {
        "uid": uid(project),
        "title": project.name,
        "description": "Requests, errors, latency, saturation and queues.",
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
        "query": {"query": f"label_values({REQUESTS}_count, service)", "refId": "services"},
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
    """Yield each panel's title with each of its queries."""
    for _, panels in ROWS:
        for panel in panels:
            for expression, _ in panel.queries:
                yield panel.title, expression


def files(project: Project, prometheus_url: str, folder: str = "") -> Iterator[File]:
    """Return the dashboard, and the provisioning of it and of Prometheus, in `folder`."""
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
            comment="The Prometheus data source.",
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
            comment="The folder of dashboards.",
        ),
    )


def render(project: Project, options: ExportOptions) -> Iterator[Item]:  # noqa: ARG001 - the signature of a kind
    yield from files(project, PROMETHEUS_URL)


KIND = ExportKind("grafana", "A dashboard, and the files that provision it", render, folder="grafana")
