"""A real nginx with the exported files: in front of a running stack, and of servers that echo requests."""

from __future__ import annotations

import base64
import json
import re
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from msctl.export import ExportOptions, export
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    HostHeader,
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
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY
from msctl.model.upstream_policy import Balance, UpstreamPolicy
from tests.support import tools
from tests.support.certificates import Certificates
from tests.support.course import Course
from tests.support.ports import reserved_port
from tests.tools.servers import Answer, Asked, answering, ask, echo, nginx, said
from tests.unit.export import projects
from tests.unit.gateway.test_basic_auth import HASHES


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def write(folder: Path, project: Project, listen: int) -> None:
    for file in export("nginx", project, ExportOptions(listen=listen)).files:
        (folder / file.path).write_text(file.text)


def test_in_front_of_a_running_stack_it_serves_the_courses_urls(
    course: Course, stack: ExitStack, tmp_path: Path
) -> None:
    tools.require("nginx")
    course.msctl.ok("up", "-d")
    out = tmp_path / "out"
    with reserved_port() as listen:
        course.msctl.ok("export", "nginx", "-o", str(out), "--listen", str(listen))
        stack.enter_context(nginx(out))
        hello, users = ask(listen, "/hello"), ask(listen, "/users")
        lost = ask(listen, "/nowhere")
        refused = ask(listen, "/messages", "POST")  # there is no broker, as the producer says
    assert (hello.status, hello.body) == (200, b"Hello, World!")
    assert hello.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert users.body == b'[{"id":1,"name":"Alice"},{"id":2,"name":"Bob"}]\n'
    assert (lost.status, lost.headers["Content-Type"]) == (404, "application/problem+json")
    assert refused.status == 503
    assert b"no broker" in refused.body


class Front:
    """nginx in front of servers that stand for a project's services and its gateway."""

    def __init__(self, listen: int) -> None:
        self.listen = listen

    def asked(self, target: str, method: str = "GET", **headers: str) -> tuple[str, str, str] | int:
        """The service, the method and the path that arrived, or the status of nginx's own answer."""
        reply = ask(self.listen, target, method, **headers)
        return reply.asked if reply.status == 200 else reply.status


def with_routes(stack: ExitStack, tmp_path: Path, *routes: RouteSpec, **settings: Any) -> Front:
    """Services by the names that the routes have, each an echo server, and a gateway with these settings."""
    named = (name for route in routes for name in (route.service, *route.other_services))
    names = dict.fromkeys(name for name in named if name)
    owner = next(iter(names))
    services = tuple(
        ServiceSpec(
            name,
            app="x:y",
            port=stack.enter_context(echo(name)),
            routes=tuple(route for route in routes if (route.service or owner) == name),
        )
        for name in names
    )
    port = stack.enter_context(echo(GATEWAY))
    gateway = GatewaySpec(port=port, balance=Balance.ROUND_ROBIN, **settings)
    project = Project(
        "test", None, "", (*services, ServiceSpec(GATEWAY, port=gateway.port)), gateway, BrokerSpec()
    )
    tools.require("nginx")
    listen = stack.enter_context(reserved_port())
    write(tmp_path, project, listen)
    stack.enter_context(nginx(tmp_path))
    return Front(listen)


def test_a_prefix_ends_where_an_element_ends(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack, tmp_path, RouteSpec("/users", "users"), RouteSpec("/users/me", "me", exact=True)
    )
    assert front.asked("/users") == ("users", "GET", "/users")
    assert front.asked("/users/1") == ("users", "GET", "/users/1")
    assert front.asked("/users/me") == ("me", "GET", "/users/me")
    assert front.asked("/users/me/too") == ("users", "GET", "/users/me/too")
    assert front.asked("/userspace") == 404


def test_path_is_passed_on_byte_for_byte(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/raw", "raw"),
        RouteSpec("/cut", "cut", strip_prefix=True),
        RouteSpec("/v/{x}", "v"),
    )
    for rest in ("/a%2Fb", "/a//b", "/a%20b?q=%3B;+x", "?", "/", "/%e4?x=/../y"):
        assert front.asked(f"/raw{rest}") == ("raw", "GET", f"/raw{rest}")
    assert front.asked("//raw") == 404  # an empty element is one too
    assert front.asked("/cut/a%2Fb?x=%20") == ("cut", "GET", "/a%2Fb?x=%20")
    assert front.asked("/v/1//%2F?z") == ("v", "GET", "/v/1//%2F?z")


def test_prefix_is_stripped_or_replaced(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/cut", "one", strip_prefix=True),
        RouteSpec("/new", "one", rewrite="/v2/items"),
        RouteSpec("/by/{id}", "one", rewrite="/"),
    )
    assert front.asked("/cut") == ("one", "GET", "/")
    assert front.asked("/cut?a=1") == ("one", "GET", "/?a=1")
    assert front.asked("/cut/x/y?a=1") == ("one", "GET", "/x/y?a=1")
    assert front.asked("/new") == ("one", "GET", "/v2/items")
    assert front.asked("/new/7?a") == ("one", "GET", "/v2/items/7?a")
    assert front.asked("/by/7/z") == ("one", "GET", "/z")


def test_methods_and_headers_choose_among_routes_of_one_path(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/", "rest"),
        RouteSpec("/items", "reads", methods=("GET", "HEAD")),
        RouteSpec("/items", "writes", methods=("POST",), strip_prefix=True),
        RouteSpec("/only", "reads", exact=True, methods=("PUT",)),
        RouteSpec("/beta", "beta", headers={"X-Track": "beta+1"}),
    )
    assert front.asked("/items/1") == ("reads", "GET", "/items/1")
    assert front.asked("/items/1?x=1", "POST") == ("writes", "POST", "/1?x=1")
    assert front.asked("/items/1", "DELETE") == ("rest", "DELETE", "/items/1")
    assert front.asked("/only", "PUT") == ("reads", "PUT", "/only")
    assert front.asked("/beta", X_Track="beta+1") == ("beta", "GET", "/beta")
    assert front.asked("/beta", X_Track="Beta+1") == ("rest", "GET", "/beta")
    assert front.asked("/beta") == ("rest", "GET", "/beta")


def test_unmatched_method_is_405(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/items", "reads", methods=("GET",)),
        RouteSpec("/beta", "beta", headers={"X-Track": "beta"}),
    )
    assert front.asked("/items", "POST") == 405
    assert front.asked("/beta") == 404
    assert front.asked("/-/msctl/0") == 404
    lost = ask(front.listen, "/none")
    assert lost.headers["Content-Type"] == "application/problem+json"
    assert lost.body == b'{"type":"about:blank","title":"Not Found","status":404}\n'


def test_hosts_come_first_and_fall_back_to_routes_of_every_host(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/a", "everyone"),
        RouteSpec("/b", "everyone"),
        RouteSpec("/a", "shop", hosts=("shop.example",)),
        RouteSpec("/a", "wild", hosts=("*.example",)),
    )
    assert front.asked("/a", Host="shop.example") == ("shop", "GET", "/a")
    assert front.asked("/a", Host="www.example") == ("wild", "GET", "/a")
    assert front.asked("/a", Host="else.test") == ("everyone", "GET", "/a")
    assert front.asked("/b", Host="shop.example") == ("everyone", "GET", "/b")


def test_a_variable_comes_after_a_literal_and_never_spans_elements(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/users", "users"),
        RouteSpec("/users/{id}/orders", "orders"),
        RouteSpec("/users/me", "me"),
    )
    assert front.asked("/users/7/orders/1") == ("orders", "GET", "/users/7/orders/1")
    assert front.asked("/users/7/ordersX") == ("users", "GET", "/users/7/ordersX")
    assert front.asked("/users/me/orders") == ("me", "GET", "/users/me/orders")


def test_nginx_answers_redirects(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/x", "one"),
        RouteSpec("/old", "", redirect=RedirectSpec(308, prefix="/new")),
        RouteSpec("/all", "", redirect=RedirectSpec(301, scheme="https", host="shop.example", path="/start")),
        RouteSpec("/port", "", redirect=RedirectSpec(port=9000)),
    )
    base = f"http://127.0.0.1:{front.listen}"
    old, everything, port = (
        ask(front.listen, target) for target in ("/old/a%2F?x=1", "/all/z?x=1", "/port/a")
    )
    assert (old.status, old.headers["Location"]) == (308, f"{base}/new/a%2F?x=1")
    assert (everything.status, everything.headers["Location"]) == (301, "https://shop.example/start?x=1")
    assert (port.status, port.headers["Location"]) == (302, "http://127.0.0.1:9000/port/a")


def test_more_requests_than_a_route_allows_are_429(stack: ExitStack, tmp_path: Path) -> None:
    limit = RateLimitSpec(2, period=3600.0)
    by_header = RateLimitSpec(1, period=3600.0, key=RateLimitKey.HEADER, header="X-Client")
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/slow", "one", rate_limit=limit),
        RouteSpec("/each", "one", rate_limit=by_header),
        RouteSpec("/free", "one"),
    )
    assert [front.asked("/slow") for _ in range(3)][1:] == [("one", "GET", "/slow"), 429]
    assert [front.asked("/each", X_Client="a") for _ in range(2)][1] == 429
    assert front.asked("/each", X_Client="b") == ("one", "GET", "/each")
    assert front.asked("/free") == ("one", "GET", "/free")


def test_requests_that_need_the_gateway_are_passed_to_it(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/open", "one"),
        RouteSpec("/guarded", "one", compose=ComposeSpec({"a": "/a"})),
    )
    assert front.asked("/open") == ("one", "GET", "/open")
    assert front.asked("/guarded/x") == ("gateway", "GET", "/guarded/x")


def test_upstream_gets_forwarded_headers(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(stack, tmp_path, RouteSpec("/a", "one"))
    sent = ask(front.listen, "/a", Host="shop.example:81", X_Forwarded_For="9.9.9.9").sent
    assert sent["Host"] == "shop.example:81"
    assert sent["X-Forwarded-For"] == "127.0.0.1"
    assert (sent["X-Forwarded-Proto"], sent["X-Forwarded-Host"]) == ("http", "shop.example:81")
    assert "Connection" not in sent


def test_a_body_that_is_too_large_is_413(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(stack, tmp_path, RouteSpec("/a", "one", policy=UpstreamPolicy(max_body=10)))
    assert ask(front.listen, "/a", "POST", Content_Length="11").status == 413


def test_a_large_site_with_long_names_is_accepted_without_a_warning(tmp_path: Path) -> None:
    host = f"{'x' * 60}.{'y' * 60}.example"
    routes = [RouteSpec("/", "one", hosts=(host,))]
    routes += [RouteSpec(f"/r{n}", "one", strip_prefix=True, cors=CorsSpec(("*",))) for n in range(120)]
    services = (ServiceSpec("one", app="x:y", port=9000, routes=tuple(routes)),)
    write(tmp_path, Project("test", None, "", services, GatewaySpec(), BrokerSpec()), 8000)
    said = tools.accepts(
        [tools.require("nginx"), "-t", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"]
    )
    assert "warn" not in said


def of_each_kind(stack: ExitStack, name: str, hosts: tuple[str, ...], *, limited: bool) -> Project:
    """A project whose file has names of every kind: a zone, a cache, ties, maps, captures, a group."""
    auth = ForwardAuthSpec(url=f"http://127.0.0.1:{stack.enter_context(echo('auth'))}/")
    routes = (
        RouteSpec("/cut", "web", hosts=hosts, strip_prefix=True, forward_auth=auth),
        RouteSpec("/one", "web", hosts=hosts, rate_limit=RateLimitSpec(2, period=60)),
        RouteSpec("/tied", "web", hosts=hosts, policy=UpstreamPolicy(sticky=StickySpec(cookie="tie"))),
        RouteSpec("/when", "web", hosts=hosts, headers={"X-When": name}),
        RouteSpec("/files", "", hosts=hosts, static=StaticSpec("/srv", fallback="index.html")),
        RouteSpec(
            "/",
            "web",
            hosts=hosts,
            cors=CorsSpec((f"https://{name}.example",), credentials=True, expose=("A",)),
        ),
    )
    port = stack.enter_context(echo(name))
    services = (ServiceSpec("web", app="x:y", port=port, routes=routes), ServiceSpec(GATEWAY, port=1))
    gateway = GatewaySpec(port=1, trusted_peers=("127.0.0.1",), hosts=hosts if limited else None)
    return Project(name, None, "", services, gateway, BrokerSpec())


@pytest.mark.parametrize("limited", [False, True])
def test_files_of_two_projects_are_included_in_one_nginx(stack: ExitStack, limited: bool) -> None:
    tools.require("nginx")
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
    folder.chmod(0o755)  # nginx keeps its cache as another user
    names = ("a-shop", "a-shop-with-a-long-name-of-its-own", "päckchen")
    ports: dict[str, int] = {}
    shared = stack.enter_context(reserved_port())
    for name in names:
        ports[name] = shared if limited else stack.enter_context(reserved_port())
        hosts = (f"{name.encode('idna').decode()}.example",) if limited else ()
        project = of_each_kind(stack, name, hosts, limited=limited and name == names[0])
        write(folder, project, ports[name])
    sites = sorted(path.name for path in folder.glob("*.conf") if path.name != "nginx.conf")
    assert len(sites) == len(names)
    main = (folder / "nginx.conf").read_text()
    includes = "".join(f"    include {site};\n" for site in sites)
    (folder / "nginx.conf").write_text(re.sub(r"    include .*\n", includes, main))
    stack.enter_context(nginx(folder))
    for name, port in ports.items():
        host = f"{name.encode('idna').decode()}.example"
        cut = ask(port, "/cut/x", Host=host)
        assert (cut.asked, cut.sent["X-Forwarded-Prefix"]) == ((name, "GET", "/x"), "/cut")
        assert ask(port, "/when", Host=host, X_When=name).asked[0] == name
        assert ask(port, "/tied", Host=host).asked[0] == name
        assert [ask(port, "/one", Host=host).status for _ in range(3)] == [200, 200, 429]
        origin = f"https://{name}.example"
        allowed = ask(port, "/", Host=host, Origin=origin.encode().decode("latin-1"))
        assert allowed.headers["Access-Control-Allow-Origin"] == origin.encode().decode("latin-1")
    assert "conflicting" not in (folder / "nginx.log").read_text()
    if limited:
        assert ask(shared, "/", Host="evil.example").status in (404, 421), "as the first file says"


def test_limits_of_a_route_that_is_passed_on_hold_for_nginx_too(stack: ExitStack, tmp_path: Path) -> None:
    large = UpstreamPolicy(max_body=100)
    route = RouteSpec("/large", "one", api_key=ApiKeySpec("KEYS"), policy=large)
    front = with_routes(stack, tmp_path, route, RouteSpec("/small", "one"), max_body=10)
    assert ask(front.listen, "/large", "POST", b"x" * 50).asked[0] == "gateway"
    assert ask(front.listen, "/large", "POST", b"x" * 101).status == 413
    assert ask(front.listen, "/small", "POST", b"x" * 50).status == 413


def test_shop_with_every_construct_is_accepted(tmp_path: Path) -> None:
    write(tmp_path, projects.shop(), 8000)
    tools.accepts([tools.require("nginx"), "-t", "-p", str(tmp_path), "-c", "nginx.conf", "-e", "stderr"])


def test_weights_and_users_are_those_of_the_gateway(stack: ExitStack, tmp_path: Path) -> None:
    shared = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    shared.chmod(0o755)  # nginx reads it as another user
    users = shared / "users"
    users.write_text(f"ann:{HASHES[0]}\n")
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/spread", "one", weights={"one": 3, "two": 1}),
        RouteSpec("/two", "two"),
        RouteSpec("/private", "one", basic_auth=BasicAuthSpec(file=str(users), realm="shop")),
    )
    asked = [front.asked("/spread") for _ in range(40)]
    names = Counter(reply[0] for reply in asked if not isinstance(reply, int))
    assert 6 <= names["two"] <= 14  # each worker of nginx counts for itself
    assert names["one"] == 40 - names["two"]
    login = base64.b64encode("ann:pä$s wörd".encode()).decode()
    assert front.asked("/private") == 401
    assert front.asked("/private", Authorization=f"Basic {login}") == ("one", "GET", "/private")


def test_an_https_service_is_verified_by_nginx(stack: ExitStack, tmp_path: Path) -> None:
    tools.require("nginx")
    certificates = Certificates.of(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.make("server"))
    port = stack.enter_context(echo("far", tls=context))
    listen = stack.enter_context(reserved_port())
    tls = UpstreamTlsSpec(ca=tmp_path / "ca.pem", server_name="localhost")
    services = (
        ServiceSpec("far", url=f"https://127.0.0.1:{port}", tls=tls, routes=(RouteSpec("/far", "far"),)),
        ServiceSpec(
            "strict",
            url=f"https://127.0.0.1:{port}",
            tls=replace(tls, server_name="other.test"),
            host_header=HostHeader.UPSTREAM,
            routes=(RouteSpec("/strict", "strict"),),
        ),
    )
    write(tmp_path, Project("test", None, "", services, GatewaySpec(), BrokerSpec()), listen)
    stack.enter_context(nginx(tmp_path))
    assert ask(listen, "/far").asked == ("far", "GET", "/far")
    assert ask(listen, "/strict").status == 502


def test_a_canary_gets_its_share_and_keeps_a_client_with_a_cookie(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec("/half", "one", canary=CanarySpec("two", 0.5)),
        RouteSpec(
            "/kept",
            "one",
            canary=CanarySpec("two", 0.5),
            policy=UpstreamPolicy(sticky=StickySpec(cookie="c")),
        ),
    )
    names = Counter(ask(front.listen, "/half").asked[0] for _ in range(200))
    assert 50 < names["two"] < 150
    homes = set()
    for _ in range(20):
        first = ask(front.listen, "/kept")
        cookie = first.headers["Set-Cookie"].partition(";")[0]
        assert {ask(front.listen, "/kept", Cookie=cookie).asked[0] for _ in range(3)} == {first.asked[0]}
        homes.add(first.asked[0])
    assert homes == {"one", "two"}


def test_what_a_trusted_peer_says_of_the_client_goes_on(stack: ExitStack, tmp_path: Path) -> None:
    route = RouteSpec("/a", "one", rate_limit=RateLimitSpec(1, period=3600.0))
    cut = RouteSpec("/cut", "one", strip_prefix=True)
    front = with_routes(stack, tmp_path, route, cut, trusted_peers=("127.0.0.0/8",))
    said = {"X_Forwarded_For": "9.9.9.9, 8.8.8.8", "X_Forwarded_Proto": "https", "X_Real_IP": "9.9.9.9"}
    sent = ask(front.listen, "/a", **said).sent
    assert sent["X-Forwarded-For"] == "9.9.9.9, 8.8.8.8, 127.0.0.1"
    assert (sent["X-Forwarded-Proto"], sent["X-Real-IP"]) == ("https", "9.9.9.9")
    told = ask(front.listen, "/cut/x", X_Forwarded_Prefix="/outer").sent
    assert told["X-Forwarded-Prefix"] == "/outer/cut"
    assert front.asked("/a", **said) == 429  # by the client's address
    assert front.asked("/a", X_Forwarded_For="8.8.8.9") == ("one", "GET", "/a")
    assert front.asked("/a") == ("one", "GET", "/a")


def test_other_hosts_than_the_gateways_are_refused(stack: ExitStack, tmp_path: Path) -> None:
    routes = (RouteSpec("/a", "one"), RouteSpec("/b", "one", hosts=("named.test",)))
    front = with_routes(stack, tmp_path, *routes, hosts=("shop.test", "*.shop.test"))
    for host in ("shop.test", "www.shop.test", "localhost", "x.localhost", "127.0.0.1", "[::1]"):
        assert front.asked("/a", Host=host) == ("one", "GET", "/a")
    assert front.asked("/b", Host="named.test") == ("one", "GET", "/b")
    assert front.asked("/a", Host="evil.test") == 421


def test_what_nginx_refuses_is_a_problem_document(stack: ExitStack, tmp_path: Path) -> None:
    front = with_routes(stack, tmp_path, RouteSpec("/a", "one", policy=UpstreamPolicy(max_body=1)))
    refused = ask(front.listen, "/a", "POST", b"12")
    assert (refused.status, refused.headers["Content-Type"]) == (413, "application/problem+json")
    assert json.loads(refused.body)["status"] == 413


@pytest.mark.parametrize(
    "text",
    [
        '"; } location /evil { return 200; } #',
        "'; } location /evil { return 200; } #",
        "\\",
        '\\"; return 200; #',
        "$request_uri ${uri} $1 $$",
        "{}[](.*)+?|^&~<>=\\n\\d%",
        "ünï",
    ],
)
def test_no_text_of_the_configuration_breaks_or_extends_the_file(
    text: str, stack: ExitStack, tmp_path: Path
) -> None:
    path = "/" + "".join(char for char in text if char not in " ?#%")
    edit = HeaderEdit(set={"X-Set": text}, add={"X-Added": text})
    front = with_routes(
        stack,
        tmp_path,
        RouteSpec(f"{path}/a", "one", rewrite=path, request_headers=edit, response_headers=edit),
        RouteSpec(f"{path}/b", "one", redirect=RedirectSpec(prefix=path)),
        RouteSpec(f"{path}/c", "one", redirect=RedirectSpec(path=path), headers={"X-When": text}),
        RouteSpec(f"{path}/d/{{x}}", "one", canary=CanarySpec("one", 0.5, header="X-Canary", value=text)),
        RouteSpec(f"{path}/e", "one", canary=CanarySpec("one", cookie="a$'*|", value=text)),
        RouteSpec(f"{path}/f", "one", forward_auth=ForwardAuthSpec(url=f"http://127.0.0.1:1{path}")),
        RouteSpec(f"{path}/g", "one", static=StaticSpec(f"/srv/{text}", fallback=f"f{text}")),
        RouteSpec(f"{path}/h", "one", basic_auth=BasicAuthSpec(file=f"/srv/{text}", realm=text)),
        RouteSpec(f"{path}/i", "one", policy=UpstreamPolicy(sticky=StickySpec(cookie="a$'*|"))),
    )
    assert front.asked("/evil") == 404
    sent = ask(front.listen, quote(f"{path}/a/x"))
    assert sent.sent["X-Set"].encode("latin-1").decode() == text
    assert sent.headers["X-Set"].encode("latin-1").decode() == text
    assert sent.asked[2].encode("latin-1").decode() == f"{path}/x"
    moved = ask(front.listen, quote(f"{path}/b/x"))
    assert moved.headers["Location"].encode("latin-1").decode().endswith(f"{path}/x")


@pytest.mark.parametrize(
    "fields", [{"Upgrade": "websocket", "Connection": "Upgrade"}, {"Accept": "text/event-stream"}]
)
def test_a_stream_may_be_silent_for_longer_than_other_responses(
    fields: dict[str, str], stack: ExitStack, tmp_path: Path
) -> None:
    asked, goes_on = threading.Event(), threading.Event()

    def answer(request: Asked) -> Answer:
        asked.set()
        goes_on.wait(tools.PATIENCE)
        return said(request)

    port = stack.enter_context(answering("slow", answer))
    service = ServiceSpec("slow", app="x:y", port=port, routes=(RouteSpec("/a", "slow"),))
    gateway = GatewaySpec(idle_timeout=0.2, retries=0)
    listen = stack.enter_context(reserved_port())
    write(tmp_path, Project("test", None, "", (service,), gateway, BrokerSpec()), listen)
    tools.require("nginx")
    stack.enter_context(nginx(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(ask, listen, "/a", **fields)
        assert asked.wait(tools.PATIENCE)
        assert ask(listen, "/a").status == 504  # which came later, and was silent for as long
        goes_on.set()
        assert stream.result().asked == ("slow", "GET", "/a")
