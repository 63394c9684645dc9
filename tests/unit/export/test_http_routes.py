"""HTTPRoutes to the services themselves choose as msctl's gateway does, or lead to it."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from msctl.export import ExportError, ExportOptions, export
from msctl.export.containers.kubernetes.system import routes_to, system
from msctl.gateway.routing.routes import RouteTable, upstream_path
from msctl.model.project import Project
from msctl.model.route_policies import CanarySpec, ForwardAuthSpec, MirrorSpec, StaticSpec, StickySpec
from msctl.model.route_spec import (
    ApiKeySpec,
    CorsSpec,
    HeaderEdit,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.routing import conflicts
from msctl.model.service_spec import ServiceSpec
from msctl.model.upstream_policy import UpstreamPolicy
from tests.support import yaml_files
from tests.unit.export import projects

GATEWAY = {"name": "gateway", "port": 8080}
NAMED = {
    "type": "object",
    "required": ["name", "value"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "value": {"type": "string", "minLength": 1, "maxLength": 4096},
    },
}
EDIT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "set": {"type": "array", "maxItems": 16, "items": NAMED},
        "add": {"type": "array", "maxItems": 16, "items": NAMED},
        "remove": {"type": "array", "maxItems": 16, "items": {"type": "string"}},
    },
}
BACKEND = {
    "type": "object",
    "required": ["name", "port"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "port": {"type": "integer"},
        "weight": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
    },
}
NEW_PATH = {
    "type": "object",
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {"enum": ["ReplaceFullPath", "ReplacePrefixMatch"]},
        "replaceFullPath": {"type": "string"},
        "replacePrefixMatch": {"type": "string"},
    },
}
FILTER = {
    "type": "object",
    "minProperties": 2,
    "maxProperties": 2,
    "required": ["type"],
    "additionalProperties": False,
    "properties": {
        "type": {
            "enum": [
                *("RequestHeaderModifier", "ResponseHeaderModifier"),
                *("RequestMirror", "RequestRedirect", "URLRewrite"),
            ]
        },
        "requestHeaderModifier": EDIT,
        "responseHeaderModifier": EDIT,
        "requestMirror": {
            "type": "object",
            "required": ["backendRef"],
            "additionalProperties": False,
            "properties": {
                "backendRef": BACKEND,
                "fraction": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "numerator": {"type": "integer", "minimum": 0},
                        "denominator": {"type": "integer", "minimum": 1},
                    },
                },
            },
        },
        "requestRedirect": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "scheme": {"enum": ["http", "https"]},
                "hostname": {"type": "string"},
                "port": {"type": "integer"},
                "path": NEW_PATH,
                "statusCode": {"enum": [301, 302, 303, 307, 308]},
            },
        },
        "urlRewrite": {"type": "object", "properties": {"path": NEW_PATH}},
    },
}
MATCH = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "path": {
            "type": "object",
            "properties": {
                "type": {"enum": ["Exact", "PathPrefix"]},
                "value": {
                    "type": "string",
                    "pattern": "^/(?!.*//)(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$",
                },
            },
        },
        "method": {
            "enum": [
                *("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"),
            ]
        },
        "headers": {"type": "array", "maxItems": 16, "items": NAMED},
    },
}
SPEC = {
    "type": "object",
    "required": ["parentRefs", "rules"],
    "additionalProperties": False,
    "properties": {
        "parentRefs": {"type": "array", "minItems": 1},
        "hostnames": {"type": "array", "maxItems": 16},
        "rules": {
            "type": "array",
            "minItems": 1,
            "maxItems": 16,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "matches": {"type": "array", "maxItems": 64, "items": MATCH},
                    "filters": {"type": "array", "maxItems": 16, "items": FILTER},
                    "backendRefs": {"type": "array", "maxItems": 16, "items": BACKEND},
                },
            },
        },
    },
}
"""The part of config/crd/standard of github.com/kubernetes-sigs/gateway-api that is used."""


def project(*routes: RouteSpec) -> Project:
    names = dict.fromkeys(name for route in routes for name in (route.service, *route.other_services) if name)
    services = tuple(
        ServiceSpec(name, app="x:y", port=9000 + number, routes=tuple(r for r in routes if r.service == name))
        for number, name in enumerate(names)
    )
    gateway = next(spec for spec in projects.course().services if spec.name == "gateway")
    return replace(projects.course(), services=(*services, gateway))


def exported(given: Project, **options: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The HTTPRoutes, and the notices about routes."""
    found = export("kubernetes", given, ExportOptions(gateway_api="public", native_routes=True, **options))
    (text,) = [file.text for file in found.files if file.path == "entry.yaml"]
    documents = list(yaml_files.read_all(text))
    for document in documents:
        jsonschema.validate(document["spec"], SPEC)
        for rule in document["spec"]["rules"]:
            kinds = {each["type"] for each in rule.get("filters", [])}
            if kinds & {"URLRewrite", "RequestRedirect"}:
                assert len(rule["matches"]) == 1
            assert ("backendRefs" in rule) != ("RequestRedirect" in kinds)
    return documents, {notice.key: notice.text for notice in found.notices}


def rules(*routes: RouteSpec) -> list[dict[str, Any]]:
    (document,), _ = exported(project(*routes))
    found: list[dict[str, Any]] = document["spec"]["rules"]
    return found


def chosen(
    documents: list[dict[str, Any]], host: str, method: str, path: str, headers: dict[str, str]
) -> dict[str, Any] | None:
    """The rule that a Gateway takes: the most specific host's, then as the comments of HTTPRouteRule say."""
    hosts = {name for document in documents for name in document["spec"].get("hostnames", [""])}
    fitting = [
        name for name in hosts if name in ("", host) or (name.startswith("*.") and host.endswith(name[1:]))
    ]
    best = max(fitting, key=lambda name: (name == host, len(name)))
    found = []
    order = itertools.count()
    for document in documents:
        if best not in document["spec"].get("hostnames", [""]):
            continue
        for rule in document["spec"]["rules"]:
            for match in rule["matches"]:
                number = next(order)
                kind, value = match["path"]["type"], match["path"]["value"]
                prefix = value.rstrip("/")
                fits = path == value if kind == "Exact" else path == prefix or path.startswith(f"{prefix}/")
                wanted = {each["name"]: each["value"] for each in match.get("headers", [])}
                if not fits or match.get("method", method) != method or not wanted.items() <= headers.items():
                    continue
                rank = (kind != "Exact", -len(value), "method" not in match, -len(wanted), number)
                found.append((rank, rule))
    return min(found, key=lambda each: each[0])[1] if found else None


def rewritten(rule: dict[str, Any], path: str) -> str:
    for each in rule.get("filters", []):
        if each["type"] == "URLRewrite":
            new = each["urlRewrite"]["path"]
            if new["type"] == "ReplaceFullPath":
                return str(new["replaceFullPath"])
            prefix = rule["matches"][0]["path"]["value"].rstrip("/")
            return str(new["replacePrefixMatch"].rstrip("/") + path[len(prefix) :]) or "/"
    return path


PATHS = ["/", "/a", "/a/b", "/a/b/c", "/b", "/{x}", "/a/{x}", "/{x}/b"]
HOSTS = ["", "h.example", "*.example"]


def random_routes(chance: random.Random) -> list[RouteSpec]:
    found: list[RouteSpec] = []
    for number in range(chance.randint(1, 5)):
        host = chance.choice(HOSTS)
        route = RouteSpec(
            chance.choice(PATHS),
            f"s{number}",
            exact=chance.random() < 0.2,
            methods=chance.choice([(), (), ("GET",), ("POST", "PUT")]),
            headers=chance.choice([{}, {}, {"X-A": "1"}, {"X-A": "1", "X-B": "2"}]),
            hosts=(host,) if host else (),
            strip_prefix=chance.random() < 0.3,
            canary=CanarySpec(f"c{number}", 0.5, header="X-C") if chance.random() < 0.2 else None,
        )
        if not conflicts([*found, route]):
            found.append(route)
    return found


REQUESTS = list(
    itertools.product(
        ("h.example", "i.example", "else.test"),
        ("GET", "POST"),
        ("/", "/a", "/a/b", "/a/b/c/d", "/b", "/c", "/c/b", "/ax"),
        ({}, {"X-A": "1"}, {"X-A": "1", "X-B": "2"}, {"X-C": "always"}, {"X-A": "1", "X-C": "never"}),
    )
)


@pytest.mark.parametrize("seed", [*range(12), 29, 37, 59])
def test_a_gateway_chooses_as_msctls_does(seed: int) -> None:
    routes = random_routes(random.Random(seed))
    whole = system(project(*routes), ExportOptions(gateway_api="public", native_routes=True))
    assert whole.gateway is not None
    documents: list[dict[str, Any]] = [
        {"spec": {"rules": route.rules, **({"hostnames": [route.host]} if route.host else {})}}
        for route in routes_to(whole, whole.gateway).routes
    ]
    table = RouteTable(sorted(routes, key=lambda route: route.service))
    for host, method, path, headers in REQUESTS:
        rule = chosen(documents, host, method, path, headers)
        assert rule is not None
        if rule["backendRefs"] == [GATEWAY]:
            continue
        fields = [(name.encode(), value.encode()) for name, value in headers.items()]
        match = table.match(method, host, tuple(path[1:].split("/")), fields)
        assert match is not None, (routes, host, method, path, headers)
        route = match.rule.spec
        expected = {route.service}
        if route.canary is not None:
            asked = {"always": {route.canary.service}, "never": {route.service}}
            expected = asked.get(headers.get("X-C", ""), {route.service, route.canary.service})
        assert {each["name"] for each in rule["backendRefs"]} == expected
        assert rewritten(rule, path) == upstream_path(match.rule, path)


def test_most_routes_are_native() -> None:
    routes = [
        RouteSpec("/", "one"),
        RouteSpec("/users", "users", strip_prefix=True),
        RouteSpec("/users/me", "me", exact=True, methods=("GET",)),
        RouteSpec("/v1", "old", rewrite="/api/v1", hosts=("old.example",)),
    ]
    documents, keys = exported(project(*routes))
    assert [document["spec"].get("hostnames") for document in documents] == [["old.example"], None]
    backends = {
        each["name"]
        for document in documents
        for rule in document["spec"]["rules"]
        for each in rule["backendRefs"]
    }
    assert backends == {"one", "users", "me", "old"}
    assert not [key for key in keys if ".routes." in key]


def test_a_canary_is_weights_and_matches_of_its_field() -> None:
    asked, refused, others, rest = rules(
        RouteSpec("/a", "one", canary=CanarySpec("two", 0.15, header="X-Canary", value="yes"))
    )
    assert asked["matches"][0]["headers"] == [{"name": "X-Canary", "value": "yes"}]
    assert asked["backendRefs"] == [{"name": "two", "port": 9001}]
    assert refused["matches"][0]["headers"] == [{"name": "X-Canary", "value": "never"}]
    assert refused["backendRefs"] == [{"name": "one", "port": 9000}]
    assert [each["weight"] for each in others["backendRefs"]] == [17, 3]
    assert rest["backendRefs"] == [GATEWAY]


def test_weights_mirrors_edits_and_redirects_are_native() -> None:
    edit = HeaderEdit(("X-Gone",), {"X-Set": "a"}, {"X-Added": "b"})
    weighted, mirrored, moved, *_ = rules(
        RouteSpec("/a", "one", weights={"one": 9, "two": 1}, request_headers=edit, response_headers=edit),
        RouteSpec("/b", "one", mirror=MirrorSpec("two", 0.25)),
        RouteSpec("/c", "one", redirect=RedirectSpec(308, scheme="https", host="x.example", prefix="/d")),
    )
    assert {each["name"]: each["weight"] for each in weighted["backendRefs"]} == {"one": 9, "two": 1}
    assert [each["type"] for each in weighted["filters"]] == [
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
    ]
    assert mirrored["filters"][0]["requestMirror"] == {
        "backendRef": {"name": "two", "port": 9001},
        "fraction": {"numerator": 1, "denominator": 4},
    }
    assert moved["filters"][0]["requestRedirect"] == {
        "scheme": "https",
        "hostname": "x.example",
        "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/d"},
        "statusCode": 308,
    }


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("api_key", RouteSpec("/a", "one", api_key=ApiKeySpec("KEYS"))),
        ("forward_auth", RouteSpec("/a", "one", forward_auth=ForwardAuthSpec(path="/auth"))),
        ("rate_limit", RouteSpec("/a", "one", rate_limit=RateLimitSpec(1))),
        ("cors", RouteSpec("/a", "one", cors=CorsSpec(("*",)))),
        ("static", RouteSpec("/a", "one", static=StaticSpec("/srv"))),
        ("canary", RouteSpec("/a", "one", canary=CanarySpec("one", 0.5, cookie="c"))),
        ("sticky", RouteSpec("/a", "one", policy=UpstreamPolicy(sticky=StickySpec(client=True)))),
        ("retries", RouteSpec("/a", "one", policy=UpstreamPolicy(retries=0))),
        ("methods", RouteSpec("/a", "one", methods=("PROPFIND",))),
        ("headers", RouteSpec("/a", "one", headers={"X-A": ""})),
        ("request_headers", RouteSpec("/a", "one", request_headers=HeaderEdit(set={"Authorization": "x"}))),
        ("request_headers", RouteSpec("/a", "one", request_headers=HeaderEdit(set={"X-A": "a\r\nb"}))),
        ("path", RouteSpec("/a/{x}", "one")),
        ("path", RouteSpec('/a"b', "one")),
        ("path", RouteSpec("/a//b", "one")),
    ],
)
def test_what_the_gateway_api_cannot_say_goes_through_msctls_gateway(name: str, route: RouteSpec) -> None:
    (document,), keys = exported(project(route))
    assert all(rule["backendRefs"] == [GATEWAY] for rule in document["spec"]["rules"])
    assert f"services.one.routes.{name}" in keys


def test_many_rules_are_several_httproutes() -> None:
    documents, _ = exported(project(*(RouteSpec(f"/r{number}", "one") for number in range(40))))
    assert [document["metadata"]["name"] for document in documents] == ["gateway", "gateway-2", "gateway-3"]


def test_host_of_the_entry_is_that_of_routes_without_one() -> None:
    given = project(RouteSpec("/a", "one"), RouteSpec("/b", "one", hosts=("b.example",)))
    documents, _ = exported(given, host="shop.example")
    assert [each["spec"]["hostnames"] for each in documents] == [["b.example"], ["shop.example"]]
    documents, _ = exported(given, host="b.example")
    assert [each["spec"]["hostnames"] for each in documents] == [["b.example"]]
    (backends,) = {str(rule["backendRefs"]) for rule in documents[0]["spec"]["rules"][:2]}
    assert "one" in backends


def test_services_with_native_routes_are_open_to_the_gateways_proxies() -> None:
    given = project(RouteSpec("/a", "one"), RouteSpec("/b", "two", api_key=ApiKeySpec("KEYS")))
    found = export("kubernetes", given, ExportOptions(gateway_api="public", native_routes=True))
    (text,) = [file.text for file in found.files if file.path == "network.yaml"]
    policies = {each["metadata"]["name"]: each["spec"] for each in yaml_files.read_all(text)}
    assert "from" not in policies["one"]["ingress"][0]
    assert "from" in policies["two"]["ingress"][0]
    assert "one" in {notice.key: notice.text for notice in found.notices}["--native-routes"]


def test_native_routes_need_a_gateway() -> None:
    with pytest.raises(ExportError, match=r"^--native-routes"):
        export("kubernetes", projects.course(), ExportOptions(native_routes=True))


def test_methods_are_matches_of_one_rule_unless_the_path_is_rewritten() -> None:
    plain, refused, _ = rules(RouteSpec("/a", "one", methods=("GET", "HEAD")))
    assert [match["method"] for match in plain["matches"]] == ["GET", "HEAD"]
    assert refused["backendRefs"] == [GATEWAY]  # it answers 405
    put, post, *_ = rules(RouteSpec("/b", "one", methods=("PUT", "POST"), rewrite="/c"))
    assert [rule["matches"][0]["method"] for rule in (put, post)] == ["PUT", "POST"]


def test_a_request_without_the_field_of_a_route_is_answered_by_msctls_gateway() -> None:
    with_field, without, _ = rules(RouteSpec("/a", "one", headers={"X-A": "1"}))
    assert with_field["matches"][0]["headers"] == [{"name": "X-A", "value": "1"}]
    assert without["matches"] == [{"path": {"type": "PathPrefix", "value": "/a"}}]
    assert without["backendRefs"] == [GATEWAY]


def test_edits_of_fields_are_those_of_the_route() -> None:
    edit = HeaderEdit(("X-Gone", "X-Lost"), {"X-Set": "a"}, {"X-Added": "b"})
    (rule, _) = rules(RouteSpec("/a", "one", response_headers=edit))
    assert rule["filters"] == [
        {
            "type": "ResponseHeaderModifier",
            "responseHeaderModifier": {
                "set": [{"name": "X-Set", "value": "a"}],
                "add": [{"name": "X-Added", "value": "b"}],
                "remove": ["X-Gone", "X-Lost"],
            },
        }
    ]


def test_a_service_elsewhere_and_a_host_that_is_an_address_are_not_native() -> None:
    far = ServiceSpec("far", url="http://far.example", routes=(RouteSpec("/far", "far"),))
    given = project(
        RouteSpec("/a", "one", weights={"one": 1, "far": 1}), RouteSpec("/b", "one", hosts=("127.0.0.1",))
    )
    services = (*(spec for spec in given.services if spec.name != "far"), far)
    documents, keys = exported(replace(given, services=services))
    assert all(rule["backendRefs"] == [GATEWAY] for rule in documents[0]["spec"]["rules"])
    assert len(documents) == 1
    assert {"services.one.routes.weights", "services.far", "services.*.routes.hosts"} <= set(keys)
