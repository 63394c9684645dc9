"""The tables of a route: what they become, what they refuse, and that they are written back."""

from __future__ import annotations

from pathlib import Path

import pytest

from msctl.config.reading.load import load
from msctl.config.render import to_toml
from msctl.config.schema.quantities import POSITIVE_DURATION
from msctl.errors import ConfigError
from msctl.model.project import Project
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    HostHeader,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
    UpstreamTlsSpec,
)
from msctl.model.route_spec import (
    ApiKeySpec,
    ComposeSpec,
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.services import listens
from msctl.model.upstream_policy import Balance, UpstreamPolicy


def resolve(folder: Path, keys: str) -> Project:
    text = f'[services.one]\napp = "a:b"\n[[services.one.routes]]\npath = "/a/{{id}}"\n{keys}\n'
    text += '[services.two]\napp = "a:c"\n'
    (folder / "msctl.toml").write_text(text)
    return load(cwd=folder, env={}).project


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ('hosts = ["*.example.com"]', "hosts", ("*.example.com",)),
        ('rewrite = "/b"', "rewrite", "/b"),
        ('redirect = { scheme = "https", status = 308 }', "redirect", RedirectSpec(308, "https")),
        (
            'redirect = { status = "301", host = "h", port = 81, prefix = "/b" }',
            "redirect",
            RedirectSpec(301, None, "h", 81, None, "/b"),
        ),
        ('compose = { user = "/users/{id}" }', "compose", ComposeSpec({"user": "/users/{id}"})),
        ('compose = { timeout = "/t?x=1" }', "compose", ComposeSpec({"timeout": "/t?x=1"})),
        (
            'compose = { branches = { a = "/a" }, timeout = "1s" }',
            "compose",
            ComposeSpec({"a": "/a"}, 1.0),
        ),
        (
            'request_headers = { remove = ["A"], set = { B = "1" }, add = { C = "2" } }',
            "request_headers",
            HeaderEdit(("A",), {"B": "1"}, {"C": "2"}),
        ),
        ('response_headers.remove = "A, B"', "response_headers", HeaderEdit(("A", "B"))),
        ('cors.origins = ["*"]', "cors", CorsSpec(("*",))),
        (
            'cors = { origins = ["https://a.b:1"], credentials = true, max_age = "10m", expose = ["X"] }',
            "cors",
            CorsSpec(("https://a.b:1",), credentials=True, max_age=600, expose=("X",)),
        ),
        ('api_key = { env = "KEYS" }', "api_key", ApiKeySpec("KEYS")),
        (
            'jwt = { key_env = "K", algorithms = ["RS256", "EdDSA"], leeway = "5s" }',
            "jwt",
            JwtSpec("K", ("RS256", "EdDSA"), leeway=5.0),
        ),
        (
            'jwt = { issuer = "https://id.test", discovery = true, refresh = "1m" }',
            "jwt",
            JwtSpec(issuer="https://id.test", discovery=True, refresh=60.0),
        ),
        (
            'jwt = { jwks = "https://id.test/keys", key_env = "K" }',
            "jwt",
            JwtSpec("K", jwks="https://id.test/keys"),
        ),
        ('basic_auth = { env = "U", realm = "shop" }', "basic_auth", BasicAuthSpec(env="U", realm="shop")),
        (
            'forward_auth = { path = "/auth", timeout = "1s", response_headers = ["X-User"] }',
            "forward_auth",
            ForwardAuthSpec(path="/auth", timeout=1.0, response_headers=("X-User",)),
        ),
        ("weights = { one = 9, two = 1 }", "weights", {"one": 9, "two": 1}),
        (
            'canary = { service = "two", share = 0.1, header = "X-Canary", value = "yes" }',
            "canary",
            CanarySpec("two", 0.1, "X-Canary", value="yes"),
        ),
        ('mirror = { service = "two", max_body = "1MiB" }', "mirror", MirrorSpec("two", max_body=1024**2)),
        (
            'sticky = { cookie = "tied" }',
            "policy",
            UpstreamPolicy(sticky=StickySpec(cookie="tied")),
        ),
        (
            'rate_limit = { requests = 10, period = "1m", key = "header", header = "X-Client" }',
            "rate_limit",
            RateLimitSpec(10, 60.0, None, RateLimitKey.HEADER, "X-Client"),
        ),
        (
            'response_timeout = "1s"\nbalance = "round-robin"',
            "policy",
            UpstreamPolicy(response_timeout=1.0, balance=Balance.ROUND_ROBIN),
        ),
    ],
)
def test_a_routes_key_is_read_and_written_back(tmp_path: Path, keys: str, field: str, value: object) -> None:
    project = resolve(tmp_path, keys)
    (route,) = project.services[0].routes
    assert route == RouteSpec("/a/{id}", "one", **{field: value})  # type: ignore[arg-type]  # one of many
    (tmp_path / "msctl.toml").write_text(to_toml(project))
    assert load(cwd=tmp_path, env={}).project.services == project.services


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/café/{größe}", "/caf%C3%A9/{größe}"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/%7Eann/%2fx%3b", "/~ann/%2Fx%3B"),
        ("/a\"b;{$}'", "/a\"b;{$}'"),
    ],
)
def test_a_path_is_spelled_as_requests_are_matched(tmp_path: Path, written: str, path: str) -> None:
    quoted = written.replace('"', '\\"')
    (tmp_path / "msctl.toml").write_text(f'[services.one]\napp = "x:y"\nroutes = ["{quoted}"]\n')
    project = load(cwd=tmp_path, env={}).project
    assert [route.path for route in project.services[0].routes] == [path]
    (tmp_path / "msctl.toml").write_text(to_toml(project))
    assert load(cwd=tmp_path, env={}).project.services == project.services


def test_a_services_policy_stands_in_its_own_table(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text('[services.one]\napp = "a:b"\nconnect_timeout = "1s"\n')
    resolved = load(cwd=tmp_path, env={"MSCTL_ONE_RETRIES": "3"})
    assert resolved.project.services[0].policy == UpstreamPolicy(connect_timeout=1.0, retries=3)
    assert str(resolved.sources["services.one.connect_timeout"]) == "msctl.toml:3"
    assert str(resolved.sources["services.one.retries"]) == "variable MSCTL_ONE_RETRIES"
    assert str(resolved.sources["services.one.pool_size"]) == "default"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("redirect = 1", "redirect: expected a table of status, scheme, host, port, path, prefix, found 1"),
        ("redirect = {}", "redirect: a redirect needs a target: scheme, host, port, path or prefix"),
        (
            "redirect = { status = 200 }",
            "redirect.status: expected 301, 302, 303, 307 or 308, found 200",
        ),
        (
            'redirect = { path = "/a", prefix = "/b" }',
            "redirect: a redirect has either path or prefix, not both",
        ),
        (
            'rewrite = "/b"\nstrip_prefix = true',
            "rewrite: a route has either strip_prefix or rewrite, not both",
        ),
        ("compose = {}", "compose: expected a table from member to path, found a table"),
        ('compose = { a = "b" }', 'compose.a: expected a path that starts with "/", found "b"'),
        (
            'compose = { branches = { a = "b" } }',
            'compose.branches.a: expected a path that starts with "/", found "b"',
        ),
        ("cors = {}", 'cors: expected the key "origins", a list of origins'),
        ("cors = { origins = [] }", "cors: origins must not be empty"),
        (
            'cors = { origins = ["*"], credentials = true }',
            'cors: credentials need exact origins, not "*"',
        ),
        (
            'cors = { origins = ["a"] }',
            'cors.origins[0]: expected an origin such as "https://app.example", or "*", found "a"',
        ),
        (
            'cors = { origins = ["*"], max_age = 0.5 }',
            'cors.max_age: expected a duration in whole seconds such as "10m", found 0.5',
        ),
        ('api_key = { env = "A B" }', 'api_key.env: expected the name of a variable, found "A B"'),
        ("api_key = { key = 1 }", "api_key.key: unknown key"),
        ("rate_limit = { requests = 0 }", "rate_limit.requests: expected a whole number from 1, found 0"),
        ("rate_limit = { requests = 1, period = 0 }", "rate_limit: period must be greater than 0"),
        (
            'rate_limit = { requests = 1, key = "header" }',
            'rate_limit: key = "header" needs header = "NAME", and the other way round',
        ),
        ("jwt = {}", "jwt: a token needs a key: set key_env, jwks, or issuer and discovery"),
        (
            'jwt = { jwks = "https://a/b", algorithms = ["HS256"] }',
            "jwt: HS* needs the secret in key_env: keys that anyone can fetch are no secret",
        ),
        (
            'jwt = { issuer = "shop", discovery = true }',
            'jwt: discovery needs the URL of the issuer, such as issuer = "https://login.example"',
        ),
        (
            'jwt = { jwks = "id.test" }',
            'jwt.jwks: expected a URL such as "https://auth.example/keys", found "id.test"',
        ),
        ("basic_auth = {}", "basic_auth: set either file or env"),
        ('forward_auth = { url = "http://a", path = "/a" }', "forward_auth: set either url or path"),
        (
            "weights = { one = 0, two = 0 }",
            "weights: the weights sum to 0, so no service would get a request",
        ),
        ("weights = { one = -1 }", "weights.one: expected a whole number from 0 to 1000000, found -1"),
        ('canary = { service = "two" }', "canary: a canary needs share, header or cookie"),
        ('canary = { service = "two", share = 2 }', "canary.share: expected a number from 0 to 1, found 2"),
        ('sticky = { cookie = "a", client = true }', "sticky: expected one of cookie, header and client"),
        ('mirror = { service = "two", max_body = 0 }', "mirror: max_body must be from 1 to 16 MiB"),
        (
            'weights = { one = 1 }\nredirect = { path = "/b" }',
            "weights: a route has either redirect or weights, not both",
        ),
        ('hosts = ["*"]', 'hosts[0]: expected a host name, which may begin with "*.", found "*"'),
        ('hosts = ["a.test:80"]', 'hosts[0]: expected a host without a port, found "a.test:80"'),
        *(
            (f'{side}_headers = {{ {how} = {{ "{name}" = "1" }} }}', f"{side}_headers: {name} {why}")
            for side in ("request", "response")
            for how in ("set", "add")
            for name, why in (
                ("Content-Length", "belongs to each connection and cannot be edited"),
                ("transfer-encoding", "belongs to each connection and cannot be edited"),
            )
        ),
        (
            'request_headers = { set = { Host = "a" } }',
            "request_headers: Host cannot be edited: host_header of the service chooses it",
        ),
        (
            'request_headers = { remove = ["Traceparent"] }',
            "request_headers: Traceparent cannot be edited: the gateway continues it for each attempt",
        ),
        (
            'response_headers = { remove = ["X-Request-Id"] }',
            "response_headers: X-Request-Id cannot be edited: the gateway names the request in it",
        ),
        (
            r'request_headers = { set = { X-A = "a\nX-B: b" } }',
            "request_headers.set.X-A: expected a value without line ends and control characters",
        ),
        ("compose = { branches = {} }", "compose.branches: a composed document needs a branch"),
        ('compose = { a = "/b/{nr}" }', "compose: branch a: the path of the route has no variable {nr}"),
        (
            'compose = { branches = { a = "/b" }, timeout = 0 }',
            f"compose.timeout: expected {POSITIVE_DURATION.expected}, found 0",
        ),
        ("redirect = { port = 0 }", "redirect.port: expected a port from 1 to 65535, found 0"),
        (
            'rate_limit = { requests = 1, key = "credential" }',
            'rate_limit: key = "credential" needs api_key, jwt or basic_auth',
        ),
        ("pool_size = 3", "pool_size: the routes of a service share its connections"),
        ("connect_timeout = 0", f"connect_timeout: expected {POSITIVE_DURATION.expected}, found 0"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, keys: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(tmp_path, keys)
    assert caught.value.message == f"msctl.toml:5: services.one.routes[0].{message}"


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ("weights = { one = 1, tow = 1 }", "weights.tow"),
        ('canary = { service = "tow", share = 1 }', "canary.service"),
        ('mirror.service = "tow"', "mirror.service"),
    ],
)
def test_a_route_names_services_that_exist(tmp_path: Path, keys: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf'routes\[0\]\.{key}: unknown service "tow"') as caught:
        resolve(tmp_path, keys)
    assert "two" in (caught.value.hint or "")


def test_a_service_that_another_services_route_names_has_to_listen(tmp_path: Path) -> None:
    text = """
[services.one]
app = "a:b"
[[services.one.routes]]
path = "/"
canary = { service = "two", share = 0.5 }
[services.two]
command = "two"
[services.three]
command = "three"
"""
    (tmp_path / "msctl.toml").write_text(text)
    one, two, three, _ = load(cwd=tmp_path, env={}).project.services
    assert [listens(spec) for spec in (one, two, three)] == [True, True, False]


def test_static_files_are_a_folder_of_the_project(tmp_path: Path) -> None:
    (tmp_path / "dist").mkdir()
    (route,) = resolve(tmp_path, 'static = "dist"').services[0].routes
    assert route.static == StaticSpec(str(tmp_path / "dist"))
    keys = 'static = { root = "dist", fallback = "index.html", max_age = "1h", precompressed = true }'
    (route,) = resolve(tmp_path, keys).services[0].routes
    assert route.static == StaticSpec(
        str(tmp_path / "dist"), fallback="index.html", max_age=3600, precompressed=True
    )
    for bad in ('"dost"', '{ root = "dist", index = "../x" }', '{ root = "dist", fallback = ".env" }', "{}"):
        with pytest.raises(ConfigError, match="static"):
            resolve(tmp_path, f"static = {bad}")


def test_a_file_of_users_is_read_and_never_shown(tmp_path: Path) -> None:
    keys = 'basic_auth = { file = "users" }'
    with pytest.raises(ConfigError, match=r"routes\[0\].basic_auth.file: no such file"):
        resolve(tmp_path, keys)
    (tmp_path / "users").write_text("ann:$6$secret\n")
    project = resolve(tmp_path, keys)
    assert project.secrets[str(tmp_path / "users")].reveal() == "ann:$6$secret\n"
    assert "$6$" not in to_toml(project)
    (tmp_path / "users").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        resolve(tmp_path, keys)


URL = """
[services.far]
url = ["https://a.test", "https://b.test:8443/"]
resolve = "30s"
host_header = "client"
tls = { ca = "ca.pem", server_name = "c.test" }
"""


def test_an_external_service_has_several_urls_and_its_own_authorities(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text(URL)
    spec = load(cwd=tmp_path, env={}).project.services[0]
    assert spec.urls == ("https://a.test", "https://b.test:8443")
    assert (spec.resolve, spec.host_header) == (30.0, HostHeader.CLIENT)
    assert spec.tls == UpstreamTlsSpec(ca=tmp_path / "ca.pem", server_name="c.test")
    again = load(cwd=tmp_path, env={"MSCTL_FAR_URL": "https://c.test,https://d.test"}).project.services[0]
    assert again.urls == ("https://c.test", "https://d.test")
    (tmp_path / "msctl.toml").write_text(to_toml(load(cwd=tmp_path, env={}).project))
    assert load(cwd=tmp_path, env={}).project.services[0] == spec


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("url = []", "url: expected"),
        ('url = ["http://a", "http://a/"]', "url: the same URL twice"),
        ('url = ["http://a", "https://b"]', "url: the URLs of one service have one scheme"),
        ('url = ["http://a", "b"]', "url[1]: expected a URL"),
        ('url = "http://a"\ntls = { verify = false }', "tls: tls is for a url with https"),
        ('url = "https://a"\ntls = { cert = "a" }', "tls: set both cert and key, or neither"),
        ('url = "https://a"\ntls = { ca = "a", verify = false }', "tls: ca has no meaning"),
        ('app = "a:b"\nresolve = 5', "resolve: resolve is for a service with a url"),
        ('url = "http://a"\nresolve = 0', "resolve: resolve must be from 1s to 1h"),
        ('app = "a:b"\nstatic = "."', "static: set either app or static, not both"),
    ],
)
def test_a_bad_key_of_an_external_service_is_named(tmp_path: Path, keys: str, message: str) -> None:
    (tmp_path / "msctl.toml").write_text(f"[services.far]\n{keys}\n")
    with pytest.raises(ConfigError) as caught:
        load(cwd=tmp_path, env={})
    assert f"services.far.{message}" in caught.value.message


@pytest.mark.parametrize("algorithm", ["none", "HS255"])
def test_a_token_needs_a_real_algorithm(tmp_path: Path, algorithm: str) -> None:
    with pytest.raises(
        ConfigError, match=rf'jwt\.algorithms\[0\]: expected "HS256", .*, found "{algorithm}"'
    ):
        resolve(tmp_path, f'jwt = {{ key_env = "K", algorithms = ["{algorithm}"] }}')


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("retry_budget = 2", "retry_budget: expected a number from 0 to 1, found 2"),
        ("retry_budget = true", "retry_budget: expected a number from 0 to 1, found true"),
        ('retry_budget = "half"', 'retry_budget: expected a number from 0 to 1, found "half"'),
        (
            'trusted_peers = ["10.0.0.0/33"]',
            'trusted_peers[0]: expected an address or a network such as "10.0.0.0/8", found "10.0.0.0/33"',
        ),
        ('ready_path = "x"', 'ready_path: expected a path that starts with "/", found "x"'),
    ],
)
def test_a_bad_gateway_key_is_named(tmp_path: Path, keys: str, message: str) -> None:
    (tmp_path / "msctl.toml").write_text(f"[gateway]\n{keys}")
    with pytest.raises(ConfigError) as caught:
        load(cwd=tmp_path, env={})
    assert caught.value.message == f"msctl.toml:2: gateway.{message}"


def test_numbers_come_from_variables_too(tmp_path: Path) -> None:
    (tmp_path / "msctl.toml").write_text("")
    env = {"MSCTL_GATEWAY_RETRY_BUDGET": "0.5", "MSCTL_GATEWAY_TRUSTED_PEERS": "10.0.0.0/8,::1"}
    gateway = load(cwd=tmp_path, env=env).project.gateway
    assert gateway is not None
    assert (gateway.retry_budget, gateway.trusted_peers) == (0.5, ("10.0.0.0/8", "::1"))
