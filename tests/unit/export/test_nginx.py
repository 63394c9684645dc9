"""What nginx cannot do is an error or a warning that names the key."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from msctl.export import ExportError, export
from msctl.export.proxies.nginx.syntax import at_most
from msctl.model.project import Project
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
)
from msctl.model.route_spec import (
    ApiKeySpec,
    HeaderEdit,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.service_spec import ServiceSpec
from msctl.model.upstream_policy import UpstreamPolicy
from tests.unit.export import projects

GATEWAY_ONLY = (
    *("weights", "canary", "mirror", "api_key", "jwt", "basic_auth", "forward_auth"),
    *("request_headers", "response_headers", "rate_limit"),
)


def location(site: str, name: str) -> str:
    """The body of a location."""
    found = re.search(rf"^    location {re.escape(name)} {{\n(.*?)^    }}", site, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_service_without_a_port_is_proxied_through_the_gateway_with_a_notice() -> None:
    exported = export("nginx", projects.course())
    keys = [notice.key for notice in exported.notices]
    assert keys == ["services.producer.port", "gateway.hosts", "gateway.trusted_peers"]
    site = exported.files[1].text
    assert "proxy_pass http://msctl_course__gateway;" in location(site, "= /messages")


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
        "hash $msctl_course__tie_0 consistent;",
        "map $http_x_user $msctl_course__tie_0 {",
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
        RouteSpec("/", "one", canary=CanarySpec("inside", 0.1)),
        RouteSpec("/", "one", canary=CanarySpec("other-host", 0.1)),
        RouteSpec("/", "one", mirror=MirrorSpec("inside")),
        RouteSpec("/", "one", api_key=ApiKeySpec("KEYS")),
        RouteSpec("/", "one", jwt=JwtSpec("KEY")),
        RouteSpec("/", "one", basic_auth=BasicAuthSpec(env="USERS")),
        RouteSpec("/", "one", forward_auth=ForwardAuthSpec(path="/inside")),
        RouteSpec("/", "one", forward_auth=ForwardAuthSpec(path="/by-header")),
        RouteSpec("/", "one", forward_auth=ForwardAuthSpec(url="http://a/"), basic_auth=BasicAuthSpec("/u")),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"Authorization": "Basic aHVzaA=="})),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"Connection": "close"})),
        RouteSpec("/", "one", response_headers=HeaderEdit(remove=("Server",))),
        RouteSpec("/", "one", static=StaticSpec("/srv"), response_headers=HeaderEdit(remove=("ETag",))),
        RouteSpec("/", "one", redirect=RedirectSpec(path="/x"), rate_limit=RateLimitSpec(1)),
    ],
)
def test_what_only_the_gateway_does_is_passed_to_it_with_a_notice(route: RouteSpec) -> None:
    services = (
        ServiceSpec("one", app="x:y", port=1, routes=(route, RouteSpec("/by-header", "one"))),
        ServiceSpec("inside", app="x:z", routes=(RouteSpec("/inside", "inside"),)),
        ServiceSpec("two", app="x:z", port=2, routes=(RouteSpec("/by-header", "two", headers={"X-A": "b"}),)),
        ServiceSpec("other-host", url="http://far.example"),
    )
    project = replace(projects.course(), services=services)
    names = [name for name in GATEWAY_ONLY if getattr(route, name)]
    exported = export("nginx", project)
    keys = {notice.key for notice in exported.notices if "msctl's gateway" in notice.text}
    assert keys & {f"services.one.routes.{name}" for name in names}
    site = exported.files[1].text
    assert "proxy_pass http://msctl_course__gateway;" in location(site, "/")
    assert "aHVzaA==" not in site


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
    exported = export("nginx", one(route))
    assert 'auth_basic "shop";' in exported.files[1].text
    assert 'auth_basic_user_file "/srv/users";' in exported.files[1].text
    assert exported.notices == ()


@pytest.mark.parametrize(
    "route",
    [
        RouteSpec("/caf%E9", "one"),
        RouteSpec("/a", "one", headers={"X.Dot": "1"}),
        RouteSpec("/a", "one", headers={"X-A": "1\n2"}),
        RouteSpec("/a", "one", canary=CanarySpec("one", header="X_Under")),
        RouteSpec("/a", "one", response_headers=HeaderEdit(set={"X-A": "1\r\nX-B: 2"})),
    ],
)
def test_what_nginx_cannot_write_is_an_error(route: RouteSpec) -> None:
    with pytest.raises(ExportError, match=r"nginx cannot"):
        export("nginx", one(route))


def test_what_is_rounded_is_said() -> None:
    routes = (
        RouteSpec("/a", "one", canary=CanarySpec("one", 1 / 3), rate_limit=RateLimitSpec(1, 7.0)),
        RouteSpec("/b", "one", canary=CanarySpec("one", 0.125), rate_limit=RateLimitSpec(3, 60.0)),
    )
    keys = [notice.key for notice in export("nginx", one(*routes)).notices]
    assert keys == ["services.one.routes.rate_limit.period", "services.one.routes.canary.share"]


def one(*routes: RouteSpec) -> Project:
    return replace(projects.course(), services=(ServiceSpec("one", app="x:y", port=1, routes=routes),))


def test_no_limit_is_a_long_one_in_nginx() -> None:
    """nginx takes 0 for no time at all."""
    project = one(RouteSpec("/a", "one", policy=UpstreamPolicy(idle_timeout=0.0)), RouteSpec("/b", "one"))
    gateway = project.gateway
    assert gateway is not None
    for without in (project, replace(project, gateway=replace(gateway, idle_timeout=0.0))):
        text = "".join(file.text for file in export("nginx", without).files)
        assert set(re.findall(r"proxy_(?:read|send)_timeout (\S+);", text)) <= {"3600s", "60s"}
        assert "3600s" in text


@pytest.mark.parametrize("limit", [1, 9, 10, 100, 4096, 65536, 16777216])
def test_a_number_is_matched_up_to_its_limit(limit: int) -> None:
    pattern = re.compile(at_most(limit))
    near = {0, 1, limit - 1, limit, limit // 2, limit // 10}
    assert all(pattern.fullmatch(str(number)) for number in near)
    assert not any(pattern.fullmatch(str(number)) for number in (limit + 1, limit * 2, limit * 10, limit + 9))
    assert pattern.fullmatch("")
