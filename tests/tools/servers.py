"""What exported configurations are tried with: servers that say what they were asked, and nginx itself."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

from tests.support import tools


class Asked(NamedTuple):
    """A request that a server got."""

    name: str
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What a server answers."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""


def said(asked: Asked) -> Answer:
    """An answer that says what was asked."""
    document = {
        "name": asked.name,
        "method": asked.method,
        "path": asked.path,
        "headers": dict(asked.headers),
    }
    return Answer(body=json.dumps(document).encode())


@contextmanager
def echo(name: str, port: int = 0, *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that answers every request with its own name and what it was sent; yields its port."""
    with answering(name, said, port, tls=tls) as found:
        yield found


@contextmanager
def answering(
    name: str, answer: Callable[[Asked], Answer], port: int = 0, *, tls: ssl.SSLContext | None = None
) -> Iterator[int]:
    """A server that answers every request with `answer`; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            found = answer(Asked(name, self.command, self.path, dict(self.headers), self._body()))
            self.send_response(found.status)
            for field, value in found.headers:
                self.send_header(field, value)
            self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body)
            self.wfile.flush()

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body

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
    fields: Sequence[tuple[str, str]] = ()

    @property
    def asked(self) -> tuple[str, str, str]:
        document = json.loads(self.body)
        return document["name"], document["method"], document["path"]

    @property
    def sent(self) -> dict[str, str]:
        headers: dict[str, str] = json.loads(self.body)["headers"]
        return headers


def ask(port: int, target: str, method: str = "GET", body: bytes = b"", /, **headers: str) -> Reply:
    """One request whose target is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=tools.PATIENCE)
    try:
        connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        if body and "Transfer_Encoding" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        return Reply(response.status, dict(response.getheaders()), response.read(), response.getheaders())
    finally:
        connection.close()
