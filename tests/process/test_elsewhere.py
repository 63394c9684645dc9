"""Services elsewhere and files, as `msctl up` runs them: several URLs, a name over https, folders, users."""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.process.test_service_addresses import FRONT
from tests.support.certificates import Certificates
from tests.support.course import Course
from tests.support.http import request
from tests.support.ports import reserved_port
from tests.unit.gateway.test_basic_auth import HASHES


class Here(http.server.BaseHTTPRequestHandler):
    """Answers with its port, the Host that it was asked for, and who is said to ask."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        _, port = self.request.getsockname()[:2]
        body = f"{port} {self.headers['Host']} {self.headers['X-Forwarded-User']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return None


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Here)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


def test_services_elsewhere_and_files_are_served_and_edits_apply(course: Course, tmp_path: Path) -> None:
    folder = course.msctl.folder
    certificates = Certificates.of(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.make("server"))
    (folder / "dist").mkdir()
    (folder / "dist" / "index.html").write_text("the page")
    said = 'session.get(url, headers={"X-Forwarded-User": "ann"})'
    (folder / "front.py").write_text(FRONT.replace("session.get(url)", said))
    (folder / "users").write_text(f"ann:{HASHES[0]}\n")
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del course.msctl.env[name]
    with ExitStack() as stack:
        first, second = stack.enter_context(serving()), stack.enter_context(serving())
        dead, secure = stack.enter_context(reserved_port()), stack.enter_context(serving(context))
        (folder / "msctl.toml").write_text(
            f"""
[project]
name = "elsewhere"
[services.back]
url = ["http://127.0.0.1:{first}", "http://127.0.0.1:{second}", "http://127.0.0.1:{dead}"]
routes = ["/back"]
[services.front]
app = "front:create_app"
routes = ["/front"]
depends_on = ["back"]
[services.far]
url = "https://localhost:{secure}"
resolve = "5s"
host_header = "upstream"
tls = {{ ca = "ca.pem" }}
routes = ["/far"]
[services.strict]
url = "https://localhost:{secure}"
routes = ["/strict"]
[services.web]
static = {{ root = "dist", fallback = "index.html" }}
isolation = "process"
[[services.web.routes]]
path = "/"
[[services.web.routes]]
path = "/private"
strip_prefix = true
basic_auth = {{ file = "users" }}
[gateway]
port = {course.gateway}
"""
        )
        course.msctl.ok("up", "-d")
        ports = {request(course.url("/back")).body.split()[0] for _ in range(30)}
        assert ports == {str(first).encode(), str(second).encode()}
        answers = [json.loads(request(course.url("/front")).body) for _ in range(30)]
        assert {answer["pid"].split()[0] for answer in answers} == {str(first), str(second)}
        # A service's word about its client reaches the other; that of a client of the gateway does not.
        assert {answer["pid"].split()[2] for answer in answers} == {"ann"}
        assert request(course.url("/back"), headers={"X-Forwarded-User": "eve"}).body.split()[2] == b"None"
        far = request(course.url("/far"))
        assert (far.status, far.body.decode()) == (200, f"{secure} localhost:{secure} None")
        assert request(course.url("/strict")).status == 503
        services = {one["name"]: one for one in course.msctl.status()["services"]}
        assert services["strict"]["state"] == "unhealthy"
        assert "certificate" in services["strict"]["reason"]
        assert services["far"]["instances"][0]["name"].startswith("far-1@")
        assert request(course.url("/orders/7")).body == b"the page"

        def private(password: str) -> int:
            login = base64.b64encode(f"ann:{password}".encode()).decode()
            return request(course.url("/private"), headers={"Authorization": f"Basic {login}"}).status

        assert (private("pä$s wörd"), private("other")) == (200, 401)
        (folder / "users").write_text(f"bob:{HASHES[0]}\n")
        assert "gateway" in course.msctl.ok("reload")
        assert private("pä$s wörd") == 401
        course.msctl.ok("down")
