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


def test_a_service_that_only_the_gateway_reaches_goes_through_it_and_that_is_said() -> None:
    exported = export("nginx", projects.course())
    assert [notice.key for notice in exported.notices] == ["services.producer.port"]
    site = exported.files[1].text
    assert "location = /messages {\n        proxy_pass http://msctl_gateway;" in site


def test_without_a_gateway_such_a_service_is_an_error_that_names_the_key() -> None:
    project = replace(projects.course(), gateway=None)
    with pytest.raises(ExportError, match=r"^services\.producer\.port: ") as caught:
        export("nginx", project)
    assert caught.value.hint == "give the service a port, or the gateway"


def test_a_project_without_routes_is_an_error() -> None:
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1),))
    with pytest.raises(ExportError, match="no service has routes"):
        export("nginx", project)


def test_a_path_that_nginx_cannot_write_is_an_error() -> None:
    routes = (RouteSpec("/a", "one", rewrite="/$x"),)
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1, routes=routes),))
    with pytest.raises(ExportError, match=r"nginx has no way to write the"):
        export("nginx", project)
