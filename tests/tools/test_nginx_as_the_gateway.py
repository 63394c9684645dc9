"""The exported nginx and `msctl up` in front of the same services give the same answers."""

from __future__ import annotations

import base64
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support import tools
from tests.support.cli import Msctl
from tests.support.ports import reserved_port
from tests.support.waiting import eventually
from tests.tools.servers import Answer, Asked, Reply, answering, ask, echo, nginx, said
from tests.unit.gateway.test_basic_auth import HASHES

TOML = r"""
[services.one]
url = "http://127.0.0.1:{one}"

[[services.one.routes]]
path = "/plain"

[[services.one.routes]]
path = "/cut"
strip_prefix = true

[[services.one.routes]]
path = "/v/{id}"
rewrite = "/new"

[[services.one.routes]]
path = "/canary"
canary = { service = "two", header = "X-Canary", cookie = "c.a*n", value = "a$b\"c;{" }

[[services.one.routes]]
path = "/all"
canary = { service = "two", share = 1 }

[[services.one.routes]]
path = "/dead-canary"
canary = { service = "dead", share = 1, header = "X-Canary" }

[[services.one.routes]]
path = "/fields"
[services.one.routes.request_headers]
remove = ["X-Gone"]
set = { X-Set = "a$b\"c;{}\\ 'd'", X-Forwarded-Proto = "gopher" }
add = { X-Added = "more", X-New = "n" }
[services.one.routes.response_headers]
set = { X-Set = "$request_uri\"; }" }
add = { X-Added = "ours" }
remove = ["X-Gone"]

[[services.one.routes]]
path = "/cors"
[services.one.routes.cors]
origins = ["https://a.example", "https://b.example"]
credentials = true
expose = ["X-One", "X-Two"]
max_age = 60

[[services.one.routes]]
path = "/anyone"
cors = { origins = ["*"], headers = ["X-A"], methods = ["GET"] }

[[services.one.routes]]
path = "/users"
basic_auth = { file = "users.txt", realm = "a $realm; {}" }

[[services.one.routes]]
path = "/asked"
strip_prefix = true
forward_auth = { path = "/auth/check", response_headers = ["X-User"] }
request_headers = { remove = ["Cookie"], set = { X-Other = "ours" } }

[[services.one.routes]]
path = "/asked-cors"
forward_auth = { url = "http://127.0.0.1:{auth}/a$b?x=1;{}", request_headers = ["X-Want", "Cookie"] }
cors = { origins = ["https://a.example"] }

[[services.one.routes]]
path = "/unasked"
forward_auth = { url = "http://127.0.0.1:{nobody}/" }

[[services.one.routes]]
path = "/limited"
rate_limit = { requests = 2, period = "1h", key = "header", header = "X-Client" }

[[services.one.routes]]
path = "/old"
redirect = { scheme = "https", prefix = "/new$x" }

[[services.one.routes]]
path = "/od\"d;{}$1\\n'(.*)+[a]|^~"

[[services.one.routes]]
path = "/odd-cut/a\"b;{$1}\\n'(.*)+"
strip_prefix = true

[[services.one.routes]]
path = "/café/%7eann"
rewrite = "/naïve"

[[services.one.routes]]
path = "/when"
headers = { X-When = "a$b\"c;{}\\n.*" }

[[services.one.routes]]
path = "/only"
methods = ["PUT"]
hosts = ["shop.localhost"]

[[services.one.routes]]
path = "/only-cors"
methods = ["PUT"]
cors = { origins = ["https://a.example"] }

[[services.one.routes]]
path = "/copied"
mirror = { service = "mirror", max_body = "10" }
request_headers = { set = { X-Copy = "yes" } }

[[services.one.routes]]
path = "/copied-cut"
strip_prefix = true
mirror = { service = "mirror" }
cors = { origins = ["*"] }

[[services.one.routes]]
path = "/uncopied"
mirror = { service = "mirror", share = 0 }

[[services.one.routes]]
path = "/files"
strip_prefix = true
cors = { origins = ["*"] }

[services.one.routes.static]
root = "site $x;{}"
index = "home.html"
fallback = "app$.html"
max_age = "1h"
precompressed = true

[[services.one.routes]]
path = "/exact"
exact = true
strip_prefix = true
static = { root = "site $x;{}", index = "home.html" }

[[services.one.routes]]
path = "/docs"
static = "site $x;{}"
basic_auth = { file = "users.txt" }

[[services.one.routes]]
path = "/docs"
methods = ["PUT"]

[services.two]
url = "http://127.0.0.1:{two}"

[services.mirror]
url = "http://127.0.0.1:{mirror}"

[services.dead]
url = "http://127.0.0.1:{nobody}"

[services.auth]
url = "http://127.0.0.1:{auth}"
routes = [{ path = "/auth", rewrite = "/ask" }]

[services.web]
static = { root = "site $x;{}/sub", fallback = "index.html" }

[[services.web.routes]]
path = "/web.app"

[[services.web.routes]]
path = "/cut.app"
strip_prefix = true

[[services.web.routes]]
path = "/moved"
rewrite = "/web.app"

[services.stuck]
url = ["http://127.0.0.1:{one}", "http://127.0.0.1:{two}", "http://127.0.0.1:{three}"]
sticky = { cookie = "s-i.d$" }
routes = ["/tied", { path = "/by-user", sticky = { header = "X-User" } }]

[gateway]
port = {gateway}

[broker]
mode = "external"
url = "amqp://127.0.0.1:{nobody}/"
"""
LOGIN = "Basic " + base64.b64encode("ann:pä$s wörd".encode()).decode()
ORIGIN = "https://a.example"
ANSWERS = {
    "200": Answer(200, [("X-User", "ann"), ("Set-Cookie", "not=sent")]),
    "204": Answer(204, [("X-User", "bob")]),
    "302": Answer(
        302, [("Location", "https://login.example/?a=b"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    ),
    "401": Answer(
        401, [("WWW-Authenticate", 'Bearer realm="x"'), ("Content-Type", "text/x")], b"who are you"
    ),
    "403": Answer(403, [("Cache-Control", "no-store"), ("Vary", "*")], b"not you"),
    "418": Answer(418, [("X-Accel-Redirect", "/-/msctl/0")], b"teapot"),
    "500": Answer(500, [], b"failed"),
}


class Both(NamedTuple):
    """The ports of msctl's gateway and of nginx, and what the authenticator and the mirror were asked."""

    gateway: int
    nginx: int
    questions: list[Asked]
    copies: list[Asked]
    warnings: str

    def ask(
        self, target: str, method: str = "GET", body: bytes = b"", /, **headers: str
    ) -> tuple[Reply, Reply]:
        headers.setdefault("Host", "shop.localhost")
        ours, its = (ask(port, target, method, body, **headers) for port in (self.gateway, self.nginx))
        return ours, its


def authenticator(questions: list[Asked]) -> Any:
    def answer(asked: Asked) -> Answer:
        questions.append(asked)
        return ANSWERS[asked.headers.get("X-Want", "200")]

    return answer


def recorder(copies: list[Asked]) -> Any:
    def answer(asked: Asked) -> Answer:
        copies.append(asked)
        return Answer(500, body=b"dropped")

    return answer


def talkative(asked: Asked) -> Answer:
    fields = [("X-Gone", "1"), ("X-Set", "upstream"), ("X-Added", "upstream"), ("Server", "theirs")]
    fields += [
        ("Access-Control-Allow-Origin", "upstream"),
        ("Vary", "X-Other"),
        ("X-Accel-Redirect", "/web.app"),
    ]
    if asked.path == "/plain/long":
        fields.append(("X-Long", "x" * 40_000))
    return said(asked)._replace(headers=fields)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    tools.require("nginx")
    questions: list[Asked] = []
    copies: list[Asked] = []
    with ExitStack() as stack:
        project = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        project.chmod(0o755)  # nginx reads files as another user
        gateway, listen, nobody = (stack.enter_context(reserved_port()) for _ in range(3))
        ports = {
            "one": stack.enter_context(answering("one", talkative)),
            "two": stack.enter_context(echo("two")),
            "three": stack.enter_context(echo("three")),
            "auth": stack.enter_context(answering("auth", authenticator(questions))),
            "mirror": stack.enter_context(answering("mirror", recorder(copies))),
            "gateway": gateway,
            "nobody": nobody,
        }
        make_files(project)
        text = re.sub(r"\{(\w+)\}", lambda match: str(ports.get(match[1], match[0])), TOML)
        (project / "msctl.toml").write_text(text)
        msctl = Msctl(project, tmp_path_factory.mktemp("run"), {})
        stack.callback(msctl.run, "down")
        msctl.ok("up", "-d")
        exported = msctl.run("export", "nginx", "-o", str(project / "out"), "--listen", str(listen))
        assert exported.returncode == 0, exported.stderr
        stack.enter_context(nginx(project / "out"))
        yield Both(gateway, listen, questions, copies, exported.stderr)


def make_files(project: Path) -> None:
    (project / "users.txt").write_text(f"# people\nann:{HASHES[0]}\n")
    site = project / "site $x;{}"
    for name, text in {
        "home.html": "home",
        "app$.html": "app",
        "a.js": "script",
        "a.js.gz": "packed",
        "x y$z;{}.txt": "odd",
        "sub/home.html": "sub home",
        "sub/index.html": "sub index",
        "empty/.keep": "",
        ".env": "SECRET=1",
        ".well-known/a": "known",
        "docs/index.html": "docs index",
        "docs/page": "a page",
        "sub/web.app/index.html": "web index",
        "data.webmanifest": "{}",
    }.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (project / "outside").write_text("outside")
    (site / "link").symlink_to(project / "outside")


ONE_OF_SEVERAL = ("/tied", "/dead-canary")


def told(reply: Reply) -> Any:
    """What an echo server was asked, in all that must be alike; for other answers their body."""
    if not reply.body.startswith(b'{"name"'):
        return None if reply.status >= 300 else reply.body
    if reply.asked[2] in ONE_OF_SEVERAL:
        return reply.asked[1:]
    sent = {name.lower(): value for name, value in reply.sent.items()}
    for name in ("via", "traceparent", "x-request-id", "connection", "accept-encoding"):
        sent.pop(name, None)
    return reply.asked, sent


def fields(reply: Reply, *names: str) -> dict[str, list[str]]:
    return {name: sorted(value for key, value in reply.fields if key.lower() == name) for name in names}


Case = tuple[str, str, Mapping[str, str]]

FORWARDED: list[Case] = [
    ("/plain?a=%2F&b=;", "GET", {}),
    ("/plain/a%2Fb//c", "POST", {}),
    ("/plain", "GET", {"X_Forwarded_For": "6.6.6.6", "X_Real_IP": "6.6.6.6", "X_Forwarded_Prefix": "/evil"}),
    ("/plain", "GET", {"X_Original_URL": "/admin", "Forwarded": "for=x", "True_Client_IP": "1.2.3.4"}),
    ("/cut/x?y", "GET", {"X_Forwarded_Prefix": "/evil"}),
    ("/c%75t/x", "GET", {}),
    ("/v/7/x", "GET", {}),
    ("/plain/../cut", "GET", {}),
    ("/plain/%2e%2E/cut", "GET", {}),
    ("/plain/..;/cut", "GET", {}),
    ("/plain/..%2fcut", "GET", {}),
    ("/plain/...", "GET", {}),
    ("/plain%2f./cut", "GET", {}),
    ("/plain/./..", "GET", {}),
    ("/plain\\.\\cut", "GET", {}),
    ("/plain/%2e/cut", "GET", {}),
    ("/plain/.;/cut", "GET", {}),
    ("/canary", "GET", {}),
    ("/canary", "GET", {"X_Canary": 'a$b"c;{'}),
    ("/canary", "GET", {"X_Canary": 'A$B"C;{'}),
    ("/canary", "GET", {"X_Canary": "never", "Cookie": "c.a*n=x"}),
    ("/canary", "GET", {"Cookie": 'a=b; c.a*n=never; d="e"'}),
    ("/canary", "GET", {"Cookie": "cxaan=never"}),
    ("/all/x", "GET", {}),
    ("/dead-canary", "GET", {}),
    ("/dead-canary", "POST", {}),
    ("/fields", "GET", {"X_Gone": "1", "X_Set": "client", "X_Added": "client"}),
    ("/users", "GET", {}),
    ("/users/x", "GET", {"Authorization": LOGIN}),
    ("/users", "GET", {"Authorization": "Basic YW5uOndyb25n"}),
    ("/od\"d;{}$1\\n'(.*)+[a]|^~/x", "GET", {}),
    ("/odd-cut/a\"b;{$1}\\n'(.*)+/x?$1", "GET", {}),
    ("/caf%C3%A9/~ann/x", "GET", {}),
    ("/caf%c3%a9/%7eann?x", "GET", {}),
    ("/caf%C3%A9", "GET", {}),
    ("/when", "GET", {"X_When": 'a$b"c;{}\\n.*'}),
    ("/when", "GET", {"X_When": 'a$b"c;{}\\n..'}),
    ("/only", "PUT", {}),
    ("/only", "GET", {}),
    ("/only", "PUT", {"Host": "localhost"}),
    ("/only-cors", "PUT", {"Origin": ORIGIN}),
    ("/only-cors", "OPTIONS", {"Origin": ORIGIN}),
    ("/only-cors/x", "OPTIONS", {"Origin": ORIGIN, "Access_Control_Request_Method": "POST"}),
    ("/unasked", "GET", {}),
    ("/docs", "PUT", {}),
    ("/tied", "GET", {"Cookie": "s-i.d$=forged"}),
    ("/nowhere", "GET", {}),
    ("/asked", "GET", {"Cookie": "a=b"}),
    ("/asked", "HEAD", {"X_Want": "401"}),
    ("/asked/x?y", "POST", {"X_Want": "204", "X_User": "forged"}),
    *(("/asked", "POST", {"X_Want": status}) for status in ("302", "401", "403", "418", "500")),
    ("/asked-cors", "GET", {"Origin": ORIGIN}),
    ("/asked-cors", "GET", {"Origin": ORIGIN, "X_Want": "401"}),
]


@pytest.mark.parametrize(("target", "method", "headers"), FORWARDED)
def test_request_gets_the_same_answer(
    both: Both, target: str, method: str, headers: Mapping[str, str]
) -> None:
    ours, its = both.ask(target, method, **headers)
    assert its.status == ours.status
    assert told(its) == told(ours)
    names = ("x-gone", "x-set", "x-added", "server", "location", "access-control-allow-origin", "retry-after")
    if ours.status < 300 and target not in ONE_OF_SEVERAL:
        assert fields(its, *names) == fields(ours, *names)
    elif ours.status >= 300:
        assert fields(its, "location", "set-cookie") == fields(ours, "location", "set-cookie")


@pytest.mark.parametrize("status", ["302", "401", "403", "418", "500"])
def test_a_refusal_is_the_authenticators_own(both: Both, status: str) -> None:
    del both.questions[:]
    ours, its = both.ask("/asked", "POST", b"body", X_Want=status)
    assert len(both.questions) == 2
    assert its.body == ours.body == ANSWERS[status].body
    names = [name.lower() for name, _ in ANSWERS[status].headers if name != "X-Accel-Redirect"]
    assert fields(its, *names) == fields(ours, *names)


@pytest.mark.parametrize(
    "target", ["/plain/./x?a=%2F/./", "/./cut/x", "/cut/./x", "/cut/.", "/./files/./a.js"]
)
def test_a_dot_that_names_where_it_stands_is_left_out(both: Both, target: str) -> None:
    """nginx redirects, since it forwards the path as it was sent."""
    ours, its = both.ask(target)
    for _ in range(target.count("/.", 0, target.find("?") % 100)):
        assert its.status == 308
        its = both.ask(its.headers["Location"])[1]
    assert its.status == ours.status == 200
    assert told(its) == told(ours)


@pytest.mark.parametrize("target", ["/.//evil.example", "//evil.example/./x", "/././/evil.example"])
def test_no_dot_leads_to_another_host(both: Both, target: str) -> None:
    its = both.ask(target)[1]
    assert not its.headers.get("Location", "/").startswith("//")


@pytest.mark.parametrize("size", [7_000, 9_000, 40_000, 70_000])
def test_long_fields_pass_up_to_the_limit_of_all(both: Both, size: int) -> None:
    ours, its = both.ask("/plain", Cookie="c=" + "x" * size)
    assert its.status == ours.status == (200 if size < 65_536 else 431)
    assert told(its) == told(ours)
    assert its.headers.get("Content-Type") == ours.headers.get("Content-Type")


def test_a_service_may_answer_with_a_long_field(both: Both) -> None:
    for reply in both.ask("/plain/long"):
        assert (reply.status, len(reply.headers["X-Long"])) == (200, 40_000)


def test_an_authenticator_that_does_not_answer_is_a_problem_document(both: Both) -> None:
    for reply in both.ask("/unasked"):
        assert (reply.status, reply.headers["Content-Type"]) == (502, "application/problem+json")


def test_nothing_is_left_to_msctls_gateway(both: Both) -> None:
    assert "msctl's gateway" not in both.warnings
    keys = [line.split(": ")[1] for line in both.warnings.splitlines() if line.startswith("warning: ")]
    known = {"mirror", "sticky", "static.precompressed", "rate_limit.period"}
    assert {key.removeprefix("services.one.routes.") for key in keys} <= known, keys


CORS_FIELDS = [f"access-control-{name}" for name in ("allow-origin", "allow-credentials", "allow-methods")]
CORS_FIELDS += [f"access-control-{name}" for name in ("allow-headers", "expose-headers", "max-age")]


@pytest.mark.parametrize(
    "path", ["/cors/x", "/anyone", "/files/a.js", "/copied-cut/x", "/asked-cors", "/only-cors/x"]
)
@pytest.mark.parametrize("origin", [None, ORIGIN, "https://a.example.evil", "https://aXexample", 'x"y:1'])
@pytest.mark.parametrize("wanted", [None, "PUT"])
def test_pages_get_the_same_permission(both: Both, path: str, origin: str | None, wanted: str | None) -> None:
    headers = {} if origin is None else {"Origin": origin}
    for method in ("GET", "OPTIONS"):
        if wanted is not None:
            headers |= {"Access_Control_Request_Method": wanted, "Access_Control_Request_Headers": "X-B, X-C"}
        ours, its = both.ask(path, method, **headers)
        assert its.status == ours.status
        assert fields(its, *CORS_FIELDS) == fields(ours, *CORS_FIELDS)
        assert vary(its) == vary(ours)


def vary(reply: Reply) -> set[str]:
    return {
        name for line in fields(reply, "vary")["vary"] for name in line.replace(" ", "").lower().split(",")
    }


FILES: list[Case] = [
    ("/files/", "GET", {}),
    ("/files", "GET", {}),
    ("/files?x", "HEAD", {}),
    ("/files/a.js", "GET", {}),
    ("/files/a.js", "GET", {"Accept_Encoding": "gzip"}),
    ("/files/a.js", "GET", {"Range": "bytes=2-3"}),
    ("/files/a.js", "GET", {"Range": "bytes=99-"}),
    ("/files/a.js", "GET", {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"}),
    ("/files/a.js", "POST", {}),
    ("/files/a.js", "DELETE", {}),
    ("/files/none", "DELETE", {}),
    ("/files/x%20y$z;%7B%7D.txt", "GET", {}),
    ("/files/sub/", "GET", {}),
    ("/files/sub", "GET", {}),
    ("/files/sub?a=%2F", "GET", {}),
    ("/files/empty/", "GET", {}),
    ("/files/data.webmanifest", "GET", {}),
    ("/files/deep/page", "GET", {}),
    ("/files/missing.js", "GET", {}),
    ("/files/missing.js", "GET", {"Accept": "a/b, TEXT/html"}),
    ("/files/.env", "GET", {}),
    ("/files/%2eenv", "GET", {}),
    ("/files/sub/.git/config", "GET", {"Accept": "text/html"}),
    ("/files/.well-known/a", "GET", {}),
    ("/files/sub/.well-known/a", "GET", {}),
    ("/files/link", "GET", {}),
    ("/files//a.js", "GET", {}),
    ("/files/sub//index.html", "GET", {}),
    ("/files/sub%2Findex.html", "GET", {}),
    ("/files/sub%5Cindex.html", "GET", {}),
    ("/docs/page", "GET", {}),
    ("/docs/page", "GET", {"Authorization": LOGIN}),
    ("/docs/", "GET", {"Authorization": LOGIN}),
    ("/docs", "GET", {"Authorization": LOGIN}),
    ("/docs/none", "GET", {"Authorization": LOGIN}),
    ("/docs/none", "POST", {}),
    ("/web.app", "GET", {}),
    ("/cut.app", "GET", {}),
    ("/cut.app?x=%2F", "GET", {}),
    ("/cut.app/", "GET", {}),
    ("/moved", "GET", {}),
    ("/moved/", "GET", {}),
    ("/exact", "GET", {}),
    ("/web.app/", "GET", {}),
    ("/web.app/deep", "GET", {}),
    ("/web.app/x.js", "GET", {}),
]


@pytest.mark.parametrize(("target", "method", "headers"), FILES)
def test_files_are_the_same(both: Both, target: str, method: str, headers: Mapping[str, str]) -> None:
    ours, its = both.ask(target, method, **headers)
    assert its.status == ours.status
    assert told(its) == told(ours)
    names = ["location", "www-authenticate", "allow", "content-range"]
    if ours.status in (200, 206):
        names += [
            "content-type",
            "cache-control",
            "content-encoding",
            "x-content-type-options",
            "content-length",
        ]
        assert its.headers["ETag"]
        assert its.headers["Last-Modified"] == ours.headers["Last-Modified"]
    got, expected = fields(its, *names), fields(ours, *names)
    assert [value.removesuffix(', charset="UTF-8"') for value in expected.pop("www-authenticate")] == got.pop(
        "www-authenticate"
    )
    assert got == expected


def test_an_authenticator_is_asked_the_same(both: Both) -> None:
    for target, headers in (
        (
            "/asked/a%2Fb?c",
            {"Content_Type": "text/x", "If_Match": "*", "Range": "bytes=0-1", "Cookie": "a=b"},
        ),
        ("/asked-cors", {"Cookie": "a=b", "X_Other": "1", "X_Want": "403"}),
        ("/asked", {"X_Forwarded_Method": "GET", "X_Forwarded_Uri": "/forged", "X_Forwarded_For": "1.2.3.4"}),
    ):
        del both.questions[:]
        answers = both.ask(target, "PUT", b"body", **headers)
        assert told(answers[0]) == told(answers[1])
        assert answers[0].status == answers[1].status
        ours, its = both.questions
        assert (its.method, its.path, its.body) == (ours.method, ours.path, ours.body)
        assert asked_fields(its) == asked_fields(ours)
        assert ours.headers.get("X-Forwarded-Prefix") == (None if target == "/asked-cors" else "/auth")
        assert ours.headers.get("Cookie") == headers.get("Cookie")


def asked_fields(asked: Asked) -> dict[str, str]:
    found = {name.lower(): value for name, value in asked.headers.items()}
    for name in ("via", "traceparent", "x-request-id", "connection"):
        found.pop(name, None)
    return found


def test_what_the_client_says_about_who_it_is_reaches_no_service(both: Both) -> None:
    its = both.ask("/asked", X_User="forged")[1]
    assert its.sent["X-User"] == "ann"


def test_the_same_requests_are_copied(both: Both) -> None:
    def copied(port: int) -> list[Any]:
        del both.copies[:]
        wanted = 0
        for target, method, body, headers in (
            ("/copied/x?y", "GET", b"", {}),
            ("/copied", "POST", b"0123456789", {}),
            ("/copied", "POST", b"0123456789a", {}),
            ("/copied", "POST", b"1\r\nx\r\n0\r\n\r\n", {"Transfer_Encoding": "chunked"}),
            ("/copied-cut/z?y", "PUT", b"x" * 3000, {}),
            ("/uncopied", "GET", b"", {}),
        ):
            reply = ask(port, target, method, body, **headers)
            assert reply.asked[0] == "one"
        wanted = 3
        eventually(lambda: len(both.copies) >= wanted)
        return sorted((one.method, one.path, one.body, one.headers.get("X-Copy")) for one in both.copies)

    ours, its = copied(both.gateway), copied(both.nginx)
    assert len(ours) == 3
    assert its == ours


def test_a_client_is_limited_alike(both: Both) -> None:
    for port in (both.gateway, both.nginx):
        replies = [ask(port, "/limited", X_Client=name) for name in ("a", "a", "b", "a")]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert replies[-1].headers["Retry-After"] == "1800"
        assert [ask(port, "/limited").status for _ in range(3)] == [200, 200, 429]  # by address


def test_redirects_are_the_same(both: Both) -> None:
    for target in ("/old", "/old/a%2F?b=%20", "/old/$request_uri"):
        ours, its = both.ask(target, Host="shop.localhost:8000")
        assert (its.status, its.headers["Location"]) == (ours.status, ours.headers["Location"])


def test_a_client_with_a_cookie_comes_back_to_its_instance(both: Both) -> None:
    homes = Counter[str]()
    for _ in range(12):
        first = ask(both.nginx, "/tied")
        cookie = first.headers["Set-Cookie"]
        name, _, value = cookie.partition(";")[0].partition("=")
        assert (name, cookie.partition("; ")[2]) == ("s-i.d$", "Path=/; HttpOnly; SameSite=Lax")
        again = [ask(both.nginx, "/tied", Cookie=f'x=1; s-i.d$="{value}"') for _ in range(3)]
        assert {reply.asked[0] for reply in again} == {first.asked[0]}
        assert "Set-Cookie" not in again[0].headers
        homes[first.asked[0]] += 1
    assert len(homes) > 1


def test_a_user_comes_back_to_an_instance(both: Both) -> None:
    homes = {}
    for user in range(8):
        names = {ask(both.nginx, "/by-user", X_User=str(user)).asked[0] for _ in range(3)}
        [homes[user]] = names
    assert len(set(homes.values())) > 1
    assert len({ask(both.nginx, "/by-user").asked[0] for _ in range(40)}) > 1
