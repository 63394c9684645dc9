"""What nginx cannot do is an error or a warning that names the key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.export import ExportError, export
from msctl.model.project import (
    RouteSpec,
    ServiceSpec,
)
from tests.unit.export import projects


def test_service_without_a_port_is_proxied_through_the_gateway_with_a_notice() -> None:
    exported = export("nginx", projects.course())
    assert [notice.key for notice in exported.notices] == ["services.producer.port"]
    site = exported.files[1].text
    assert "location = /messages {\n        proxy_pass http://msctl_gateway;" in site


def test_service_without_a_port_and_gateway_is_an_error() -> None:
    project = replace(projects.course(), gateway=None)
    with pytest.raises(ExportError, match=r"^services\.producer\.port: ") as caught:
        export("nginx", project)
    assert caught.value.hint == "set a port for the service or the gateway"


def test_a_project_without_routes_is_an_error() -> None:
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1),))
    with pytest.raises(ExportError, match="no service has routes"):
        export("nginx", project)


def test_a_path_that_nginx_cannot_write_is_an_error() -> None:
    routes = (RouteSpec("/a", "one", rewrite="/$x"),)
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1, routes=routes),))
    with pytest.raises(ExportError, match=r"nginx cannot express"):
        export("nginx", project)
