"""What exported configurations are tried with: servers that say what they were asked, and nginx itself."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.support import tools


@contextmanager
def echo(name: str, port: int = 0, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that answers every request with its own name and what it was sent; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            document = {
                "name": name,
                "method": self.command,
                "path": self.path,
                "headers": dict(self.headers),
            }
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
            pass

    class Server(ThreadingHTTPServer):
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", port), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def nginx(folder: Path) -> Iterator[None]:
    """nginx with the nginx.conf in `folder`, listening; stopped at the end."""
    command = [tools.require("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    # It returns once it listens, and leaves what it has inherited to the process that serves.
    with (folder / "nginx.log").open("wb") as log:
        started = subprocess.run(command, cwd=folder, stdout=log, stderr=log, timeout=tools.PATIENCE)
    assert started.returncode == 0, (folder / "nginx.log").read_text()
    try:
        yield
    finally:
        subprocess.run(
            [*command, "-s", "stop"], cwd=folder, capture_output=True, check=True, timeout=tools.PATIENCE
        )


@dataclass(frozen=True)
class Reply:
    """An answer; `asked` is what an echo server says that it was asked, and None of anyone else's."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def asked(self) -> tuple[str, str, str]:
        document = json.loads(self.body)
        return document["name"], document["method"], document["path"]

    @property
    def sent(self) -> dict[str, str]:
        headers: dict[str, str] = json.loads(self.body)["headers"]
        return headers


def ask(port: int, target: str, method: str = "GET", **headers: str) -> Reply:
    """One request whose target is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=tools.PATIENCE)
    try:
        connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read())
    finally:
        connection.close()
