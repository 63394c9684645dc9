"""What nginx cannot do is an error or a warning that names the key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from msctl.export import ExportError, export
from msctl.model.project import RouteSpec, ServiceSpec, UpstreamPolicy
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
)
from tests.unit.export import projects

UPSTREAM_ONLY = ("weights", "canary", "mirror", "static", "basic_auth", "forward_auth")


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


def test_an_https_service_is_verified_and_several_urls_are_servers() -> None:
    service = ServiceSpec(
        "far",
        url="https://a.example,https://b.example",
        resolve=30,
        routes=(RouteSpec("/far", "far"),),
        policy=UpstreamPolicy(sticky=StickySpec(header="X-User")),
    )
    exported = export("nginx", replace(projects.course(), services=(service,)))
    site = exported.files[1].text
    for line in (
        "hash $http_x_user consistent;",
        "server a.example:443 ",
        "server b.example:443 ",
        "proxy_set_header Host a.example;",
        "proxy_ssl_name a.example;",
        "proxy_ssl_verify on;",
    ):
        assert line in site
    keys = {notice.key for notice in exported.notices}
    assert {"services.far.tls.ca", "services.far.tls.server_name", "services.far.resolve"} <= keys


@pytest.mark.parametrize(
    "route",
    [
        RouteSpec("/", "one", weights={"one": 1, "inside": 1}),
        RouteSpec("/", "one", canary=CanarySpec("two", 0.1)),
        RouteSpec("/", "one", mirror=MirrorSpec("two")),
        RouteSpec("/", "one", static=StaticSpec("/srv")),
        RouteSpec("/", "one", basic_auth=BasicAuthSpec(env="USERS")),
        RouteSpec("/", "one", forward_auth=ForwardAuthSpec(path="/auth")),
    ],
)
def test_what_only_the_gateway_does_is_passed_to_it_with_a_notice(route: RouteSpec) -> None:
    services = (
        ServiceSpec("one", app="x:y", port=1, routes=(route,)),
        ServiceSpec("two", app="x:z", port=2),
        ServiceSpec("inside", app="x:z"),
    )
    project = replace(projects.course(), services=services)
    [name] = [name for name in UPSTREAM_ONLY if getattr(route, name)]
    for kind in ("nginx", "kong"):
        keys = {notice.key for notice in export(kind, project).notices}
        assert f"services.one.routes.{name}" in keys


def test_weights_of_services_with_ports_are_those_of_servers() -> None:
    route = RouteSpec("/", "one", weights={"one": 90_000, "two": 10_000, "off": 0})
    services = (
        ServiceSpec("one", app="x:y", port=1, routes=(route,)),
        ServiceSpec("two", app="x:z", port=2),
        ServiceSpec("off", app="x:z"),
    )
    project = replace(projects.course(), services=services)
    site = export("nginx", project).files[1].text
    assert "server 127.0.0.1:1 weight=90000 " in site
    assert "server 127.0.0.1:2 weight=10000 " in site
    kong = export("kong", project)
    assert (kong.notices, "weight: 65535" in kong.files[0].text) == ((), True)


def test_a_file_of_users_is_read_by_nginx_itself() -> None:
    route = RouteSpec("/", "one", basic_auth=BasicAuthSpec(file="/srv/users", realm="shop"))
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1, routes=(route,)),))
    exported = export("nginx", project)
    assert 'auth_basic "shop";' in exported.files[1].text
    assert "auth_basic_user_file /srv/users;" in exported.files[1].text
    assert exported.notices == ()


def test_a_path_that_nginx_cannot_write_is_an_error() -> None:
    routes = (RouteSpec("/a", "one", rewrite="/$x"),)
    project = replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1, routes=routes),))
    with pytest.raises(ExportError, match=r"nginx cannot express"):
        export("nginx", project)
