"""Kong's declarative configuration has only fields of Kong's documentation."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from msctl.export import ExportError, export
from msctl.model.project import Project
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
    UpstreamTlsSpec,
)
from msctl.model.route_spec import (
    ApiKeySpec,
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.service_spec import ServiceSpec
from msctl.model.upstream_policy import UpstreamPolicy
from tests.support import yaml_files
from tests.unit.export import projects

NAME = {"type": "string", "pattern": "^[A-Za-z0-9._~-]+$"}
MILLIS = {"type": "integer", "minimum": 1, "maximum": 2147483646}
STRINGS = {"type": "array", "items": {"type": "string"}}
FIELD = "[A-Za-z0-9_-]+"


def _plugin(name: str, **config: Any) -> dict[str, Any]:
    """A plugin with these keys of its schema in github.com/Kong/kong, kong/plugins/NAME/schema.lua."""
    return {
        "type": "object",
        "required": ["name", "config"],
        "additionalProperties": False,
        "properties": {
            "name": {"const": name},
            "config": {"type": "object", "additionalProperties": False, "properties": config},
        },
    }


def _fields(pattern: str) -> dict[str, Any]:
    names = {"type": "array", "items": {"type": "string", "pattern": f"^{pattern}$"}}
    return {"type": "object", "additionalProperties": False, "properties": {"headers": names}}


_PAIRS = _fields(f"{FIELD}:[^:].*")
_TRANSFORMER = {"remove": _fields(FIELD), "replace": _PAIRS, "add": _PAIRS, "append": _PAIRS}
PLUGIN = {
    "oneOf": [
        _plugin(
            "rate-limiting",
            **{
                period: {"type": "number", "exclusiveMinimum": 0}
                for period in ("second", "minute", "hour", "day")
            },
            limit_by={"enum": ["consumer", "credential", "ip", "service", "header", "path"]},
            header_name={"type": "string", "pattern": f"^{FIELD}$"},
            policy={"enum": ["local", "redis"]},
        ),
        _plugin(
            "request-size-limiting",
            allowed_payload_size={"type": "integer"},
            size_unit={"enum": ["megabytes", "kilobytes", "bytes"]},
        ),
        _plugin(
            "cors",
            origins=STRINGS,
            headers=STRINGS,
            exposed_headers=STRINGS,
            methods={
                "type": "array",
                "items": {
                    "enum": [
                        *("GET", "HEAD", "PUT", "PATCH", "POST"),
                        *("DELETE", "OPTIONS", "TRACE", "CONNECT"),
                    ]
                },
            },
            max_age={"type": "number"},
            credentials={"type": "boolean"},
            preflight_continue={"type": "boolean"},
        ),
        _plugin("request-transformer", **_TRANSFORMER),
        _plugin("response-transformer", **_TRANSFORMER),
    ]
}
HEALTH = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "interval": {"type": "number", "minimum": 0, "maximum": 65535},
        **{
            key: {"type": "integer", "minimum": 0, "maximum": 255}
            for key in ("successes", "tcp_failures", "timeouts", "http_failures")
        },
    },
}
ROUTE = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["paths"]}, {"required": ["hosts"]}, {"required": ["methods"]}],
    "properties": {
        "name": NAME,
        "protocols": {"type": "array", "items": {"enum": ["http", "https"]}},
        "paths": {"type": "array", "items": {"type": "string", "pattern": "^(~/|/)"}},
        "methods": {"type": "array", "items": {"type": "string", "pattern": "^[A-Z]+$"}},
        "hosts": {"type": "array", "items": {"type": "string"}},
        "headers": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        "regex_priority": {"type": "integer", "minimum": 0},
        "strip_path": {"type": "boolean"},
        "preserve_host": {"type": "boolean"},
        "request_buffering": {"type": "boolean"},
        "response_buffering": {"type": "boolean"},
        "plugins": {"type": "array", "items": PLUGIN},
    },
}
SERVICE = {
    "type": "object",
    "required": ["host"],
    "additionalProperties": False,
    "properties": {
        "name": NAME,
        "protocol": {"enum": ["http", "https"]},
        "host": NAME,
        "port": {"type": "integer", "minimum": 0, "maximum": 65535},
        "path": {"type": "string", "pattern": "^/"},
        "retries": {"type": "integer", "minimum": 0, "maximum": 32767},
        "tls_verify": {"type": "boolean"},
        "connect_timeout": MILLIS,
        "read_timeout": MILLIS,
        "write_timeout": MILLIS,
        "routes": {"type": "array", "items": ROUTE, "minItems": 1},
        "plugins": {"type": "array", "items": PLUGIN},
    },
}
UPSTREAM = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": NAME,
        "algorithm": {"enum": ["round-robin", "least-connections", "consistent-hashing", "latency"]},
        "hash_on": {"enum": ["none", "consumer", "ip", "header", "cookie", "path", "query_arg"]},
        "hash_on_cookie": NAME,
        "hash_on_header": NAME,
        "host_header": NAME,
        "targets": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["target"],
                "additionalProperties": False,
                "properties": {"target": {"type": "string"}, "weight": {"type": "integer", "maximum": 65535}},
            },
        },
        "healthchecks": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "active": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "type": {"enum": ["tcp", "http", "https", "grpc", "grpcs"]},
                        "http_path": {"type": "string", "pattern": "^/"},
                        "timeout": {"type": "number"},
                        "healthy": HEALTH,
                        "unhealthy": HEALTH,
                    },
                }
            },
        },
    },
}
SCHEMA = {
    "type": "object",
    "required": ["_format_version"],
    "additionalProperties": False,
    "properties": {
        "_format_version": {"const": "3.0"},
        "services": {"type": "array", "items": SERVICE},
        "upstreams": {"type": "array", "items": UPSTREAM},
    },
}
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def document(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = yaml_files.read(export("kong", project).files[0].text)
    return found


def routes(project: Project) -> dict[str, dict[str, Any]]:
    return {route["name"]: route for service in document(project)["services"] for route in service["routes"]}


def one(*given: RouteSpec, **policy: Any) -> Project:
    service = ServiceSpec("one", app="x:y", port=9000, routes=given, policy=UpstreamPolicy(**policy))
    return replace(projects.course(), services=(service,))


@pytest.mark.parametrize("project", [projects.course(), projects.shop()], ids=["course", "shop"])
def test_objects_have_only_documented_fields(project: Project) -> None:
    found = document(project)
    VALIDATOR.validate(found)
    names = [service["name"] for service in found["services"]]
    names += [route["name"] for service in found["services"] for route in service["routes"]]
    assert len(names) == len(set(names))
    assert {service["host"] for service in found["services"]} == {one["name"] for one in found["upstreams"]}


def test_two_projects_in_one_kong_share_no_name_and_no_plugin() -> None:
    first, second = (
        document(replace(one(RouteSpec("/a", "one"), RouteSpec("/b", "one", rewrite="/")), name=name))
        for name in ("shop", "Blog ö")
    )
    for found in (first, second):
        VALIDATOR.validate(found)
        assert set(found) == {"_format_version", "services", "upstreams"}
        assert all(service["plugins"][0]["name"] == "request-size-limiting" for service in found["services"])
    assert named(first).isdisjoint(named(second))


def named(found: dict[str, Any]) -> set[str]:
    routes = [route for service in found["services"] for route in service["routes"]]
    return {one["name"] for one in (*found["services"], *found["upstreams"], *routes)}


def test_a_prefix_ends_where_an_element_ends() -> None:
    (route,) = routes(one(RouteSpec("/users", "one"))).values()
    (path,) = route["paths"]
    pattern = re.compile(path.removeprefix("~"))
    assert pattern.match("/users")
    assert pattern.match("/users/1")
    assert not pattern.match("/userspace")


def test_the_more_specific_path_is_tried_first() -> None:
    found = routes(
        one(
            RouteSpec("/", "one"),
            RouteSpec("/a", "one"),
            RouteSpec("/a/{x}", "one"),
            RouteSpec("/a/b", "one"),
        )
    )
    ranked = sorted(found.values(), key=lambda route: -route["regex_priority"])
    assert [route["paths"][0] for route in ranked] == ["~/a/b(?:/|$)", "~/a/[^/]+(?:/|$)", "~/a(?:/|$)", "/"]


def test_a_route_without_methods_does_not_lose_to_one_with_them() -> None:
    found = routes(one(RouteSpec("/", "one", methods=("GET",)), RouteSpec("/a", "one")))
    assert all(route["methods"] for route in found.values())


def test_a_route_with_cors_matches_its_preflights() -> None:
    cors = CorsSpec(origins=("https://a.example",))
    (route,) = routes(one(RouteSpec("/", "one", methods=("PUT",), cors=cors))).values()
    assert route["methods"] == ["PUT", "OPTIONS"]


def test_route_settings_of_a_kong_service_add_a_service() -> None:
    project = one(
        RouteSpec("/a", "one"),
        RouteSpec("/b", "one", rewrite="/v2"),
        RouteSpec(
            "/c", "one", policy=UpstreamPolicy(connect_timeout=0.5, idle_timeout=7.0, retries=4, max_body=9)
        ),
    )
    plain, moved, patient = document(project)["services"]
    assert (plain["name"], plain["retries"]) == ("course.one", 1)
    assert (moved["name"], moved["path"], moved["routes"][0]["strip_path"]) == ("course.one-1", "/v2", True)
    assert (patient["connect_timeout"], patient["read_timeout"], patient["retries"]) == (500, 7000, 4)
    assert patient["routes"][0]["plugins"][0]["config"]["allowed_payload_size"] == 9


def test_rate_limits_become_a_plugin_with_notices_for_the_rest() -> None:
    limit = RateLimitSpec(10, period=120.0, burst=20, key=RateLimitKey.HEADER, header="X-Client")
    project = one(
        RouteSpec("/a", "one", rate_limit=limit),
        RouteSpec("/b", "one", rate_limit=RateLimitSpec(3, key=RateLimitKey.ROUTE)),
    )
    first, second = routes(project).values()
    assert first["plugins"][0]["config"] == {
        "minute": 5,
        "policy": "local",
        "limit_by": "header",
        "header_name": "X-Client",
    }
    assert second["plugins"][0]["config"]["second"] == 3
    keys = {notice.key for notice in export("kong", project).notices}
    base = "services.one.routes.rate_limit"
    assert keys == {f"{base}.burst", f"{base}.period"}


def test_remote_service_is_reached_at_its_url() -> None:
    service = ServiceSpec(
        "far", app="x:y", url="https://u:p@far.example/base", routes=(RouteSpec("/far", "far"),)
    )
    project = replace(projects.course(), services=(service,))
    (found,) = document(project)["services"]
    assert (found["protocol"], found["port"]) == ("https", 443)
    assert document(project)["upstreams"][0]["targets"] == [{"target": "far.example:443", "weight": 100}]
    assert {notice.key for notice in export("kong", project).notices} == {"services.far.url"}


def test_several_urls_are_targets_and_sticky_clients_are_hashed() -> None:
    service = ServiceSpec(
        "far",
        url="https://a.example,https://b.example:8443",
        tls=UpstreamTlsSpec(verify=False, server_name="c.example"),
        routes=(RouteSpec("/far", "far"), RouteSpec("/x", "far", canary=CanarySpec("far", header="X-Far"))),
        policy=UpstreamPolicy(sticky=StickySpec(cookie="tied")),
    )
    project = replace(projects.course(), services=(service,))
    found = document(project)
    VALIDATOR.validate(found)
    far = next(one for one in found["upstreams"] if one["name"].startswith("course.far"))
    assert [target["target"] for target in far["targets"]] == ["a.example:443", "b.example:8443"]
    assert (far["hash_on"], far["hash_on_cookie"], far["host_header"]) == ("cookie", "tied", "a.example")
    assert found["services"][0]["tls_verify"] is False
    keys = {notice.key for notice in export("kong", project).notices}
    assert {"services.far.tls.server_name", "services.far.routes.canary", "services.far.host_header"} <= keys


def test_a_project_without_routes_is_an_error() -> None:
    with pytest.raises(ExportError, match="no service has routes"):
        export("kong", one())


@pytest.mark.parametrize("kind", ["kong", "nginx"])
def test_joined_document_is_left_to_msctls_gateway(kind: str) -> None:
    project = one(RouteSpec("/a", "a"))
    assert project.gateway is not None
    documented = replace(project, gateway=replace(project.gateway, openapi="/openapi.json"))
    assert "gateway.openapi" in {notice.key for notice in export(kind, documented).notices}
    assert "gateway.openapi" not in {notice.key for notice in export(kind, project).notices}


def test_cors_and_edits_of_fields_become_plugins() -> None:
    cors = CorsSpec(("https://a.example", "http://[::1]:3000"), headers=("X-A",), expose=("X-B",), max_age=9)
    edit = HeaderEdit(("X-Gone",), {"X-Set": "a:$b"}, {"X-Added": "c d"})
    project = one(
        RouteSpec("/a", "one", cors=cors, request_headers=edit, response_headers=edit),
        RouteSpec("/b", "one", cors=CorsSpec(("*", "https://b.example"), expose=("X-B",))),
        RouteSpec("/c", "one", cors=CorsSpec(("https://c.example",), credentials=True)),
        RouteSpec("/d", "one", response_headers=HeaderEdit(add={"X-A": "$(no template)"})),
    )
    found = document(project)
    jsonschema.validate(found, SCHEMA)
    first, *others = routes(project).values()
    named = {plugin["name"]: plugin["config"] for plugin in first["plugins"]}
    assert named["cors"] == {
        "origins": ["https://a.example", r"^http://\[::1\]:3000$"],
        "methods": list(cors.methods),
        "headers": ["X-A"],
        "exposed_headers": ["X-B"],
        "credentials": False,
        "max_age": 9,
        "preflight_continue": False,
    }
    expected = {
        "remove": {"headers": ["X-Gone"]},
        "replace": {"headers": ["X-Set:a:$b"]},
        "add": {"headers": ["X-Set:a:$b"]},
        "append": {"headers": ["X-Added:c d"]},
    }
    assert named["request-transformer"] == expected
    # The service's own field would stay beside Kong's.
    own = {"headers": ["X-Gone", "Access-Control-Allow-Credentials"]}
    assert named["response-transformer"] == {**expected, "remove": own}
    anyone, known, plain = (
        {plugin["name"]: plugin["config"] for plugin in route["plugins"]} for route in others
    )
    assert anyone["cors"]["origins"] == ["*"]
    assert "headers" not in known["cors"]
    assert known["response-transformer"] == {"remove": {"headers": ["Access-Control-Expose-Headers"]}}
    assert plain == {"response-transformer": {"append": {"headers": ["X-A:$(no template)"]}}}
    assert export("kong", project).notices == ()


@pytest.mark.parametrize(
    ("period", "name"), [(1.0, "second"), (60.0, "minute"), (3600.0, "hour"), (86400.0, "day")]
)
def test_a_period_that_kong_has_is_kept(period: float, name: str) -> None:
    project = one(RouteSpec("/a", "one", rate_limit=RateLimitSpec(7, period=period)))
    (route,) = routes(project).values()
    assert route["plugins"][0]["config"] == {name: 7, "policy": "local", "limit_by": "ip"}
    assert export("kong", project).notices == ()


def test_the_body_limit_is_the_routes_or_its_services() -> None:
    given = (RouteSpec("/a", "one", policy=UpstreamPolicy(max_body=9)), RouteSpec("/b", "one"))
    limits = [
        route["plugins"][0]["config"]["allowed_payload_size"]
        for route in routes(one(*given, max_body=20)).values()
    ]
    assert limits == [9, 20]


def test_limits_of_a_route_that_is_passed_on_hold_for_kong_too() -> None:
    policy = UpstreamPolicy(max_body=0, idle_timeout=600.0, retries=5)
    project = one(RouteSpec("/a", "one", api_key=ApiKeySpec("KEYS"), policy=policy), RouteSpec("/b", "one"))
    passed, own = document(project)["services"]
    assert (passed["name"], passed["read_timeout"], passed["retries"]) == ("course.gateway-0", 600_000, 1)
    (plugin,) = passed["routes"][0]["plugins"]
    assert plugin["config"]["allowed_payload_size"] == 2**31 - 1
    assert own["read_timeout"] == 60_000


@pytest.mark.parametrize(
    "route",
    [
        RouteSpec("/", "one", canary=CanarySpec("two", 0.1, header="X-Canary")),
        RouteSpec("/", "one", canary=CanarySpec("two", 0.1, cookie="canary")),
        RouteSpec("/", "one", canary=CanarySpec("inside", 0.1)),
        RouteSpec("/", "one", mirror=MirrorSpec("two")),
        RouteSpec("/", "one", static=StaticSpec("/srv")),
        RouteSpec("/", "one", forward_auth=ForwardAuthSpec(url="http://a.example/")),
        RouteSpec("/", "one", basic_auth=BasicAuthSpec("/srv/users")),
        RouteSpec("/", "one", jwt=JwtSpec("KEY")),
        RouteSpec("/", "one", api_key=ApiKeySpec("KEYS")),
        RouteSpec("/", "one", redirect=RedirectSpec(path="/x")),
        RouteSpec("/", "one", cors=CorsSpec(("*",), methods=("PROPFIND",))),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"X-A": "$(os.exit())"})),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"X-A": ":a"})),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"X-A": ""})),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"X-Forwarded-For": "a"})),
        RouteSpec("/", "one", request_headers=HeaderEdit(remove=("X-Real-IP",))),
        RouteSpec("/", "one", request_headers=HeaderEdit(set={"Authorization": "Basic aHVzaA=="})),
        RouteSpec("/", "one", response_headers=HeaderEdit(add={"X.A": "a"})),
        RouteSpec("/", "one", response_headers=HeaderEdit(set={"X-A": "a\r\nX-B: c"})),
    ],
)
def test_what_only_the_gateway_does_is_passed_to_it_with_a_notice(route: RouteSpec) -> None:
    project = one(route)
    more = (ServiceSpec("two", app="x:y", port=9001), ServiceSpec("inside", app="x:y"))
    project = replace(project, services=(*project.services, *more))
    found = document(project)
    jsonschema.validate(found, SCHEMA)
    keys = ("canary", "mirror", "static", "forward_auth", "basic_auth", "jwt", "api_key", "redirect")
    names = [name for name in (*keys, "cors", "request_headers", "response_headers") if getattr(route, name)]
    assert {notice.key for notice in export("kong", project).notices} >= {
        f"services.one.routes.{name}" for name in names
    }
    (service,) = found["services"]
    assert service["host"] == "course.gateway.upstream"
    assert "plugins" not in service["routes"][0]


@pytest.mark.parametrize(("sticky", "hashed"), [(None, "none"), (StickySpec(cookie="c"), "cookie")])
def test_share_of_a_canary_is_its_weight(sticky: StickySpec | None, hashed: str) -> None:
    route = RouteSpec("/", "one", canary=CanarySpec("two", 0.25), policy=UpstreamPolicy(sticky=sticky))
    project = one(route, RouteSpec("/plain", "one"))
    project = replace(project, services=(*project.services, ServiceSpec("two", app="x:y", port=9001)))
    found = document(project)
    jsonschema.validate(found, SCHEMA)
    shared, plain = found["upstreams"]
    assert [target["target"] for target in shared["targets"]] == ["127.0.0.1:9000", "127.0.0.1:9001"]
    stable, canary = (target["weight"] for target in shared["targets"])
    assert canary / (stable + canary) == pytest.approx(0.25, abs=0.0001)
    assert shared.get("hash_on", "none") == hashed
    assert len(plain["targets"]) == 1
    assert export("kong", project).notices == ()


def test_no_limit_is_a_long_one_in_kong() -> None:
    found = document(one(RouteSpec("/a", "one"), idle_timeout=0.0))
    assert found["services"][0]["read_timeout"] == 3_600_000


def test_a_route_may_be_sticky_in_its_own_way() -> None:
    sticky = UpstreamPolicy(sticky=StickySpec(header="X-User"))
    project = one(RouteSpec("/a", "one", policy=sticky), RouteSpec("/b", "one"), idle_timeout=7.0)
    found = document(project)
    jsonschema.validate(found, SCHEMA)
    by_user, any_ = found["upstreams"]
    assert (by_user["hash_on"], by_user["hash_on_header"]) == ("header", "X-User")
    assert "hash_on" not in any_
    assert [service["host"] for service in found["services"]] == [by_user["name"], any_["name"]]
    assert {service["read_timeout"] for service in found["services"]} == {7000}  # the service's own
