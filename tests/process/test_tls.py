"""HTTPS at the gateway, from the command line to what a service sees, with a real client on each end."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import socket
import ssl
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.support.certificates import Certificates, trusting
from tests.support.course import Course
from tests.support.http import Answer, request

APP = """
import aiohttp
from aiohttp import web

URL = web.AppKey("url", str)

async def seen(request):
    return web.json_response(dict(request.headers))

async def echo(request):
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        await ws.send_str(message.data[::-1])
    return ws

async def through(request):
    url = request.app[URL]
    async with aiohttp.ClientSession() as session, session.get(url + "/hosted") as answer:
        return web.json_response({"url": url, "seen": await answer.json()})

async def large(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(64):
        await response.write(bytes([number]) * 65536)
    return response

def create_app(context):
    app = web.Application()
    app[URL] = context.env.get("HOSTED_URL")
    app.router.add_get(f"/{context.name}", seen)
    app.router.add_get(f"/{context.name}/echo", echo)
    app.router.add_get(f"/{context.name}/through", through)
    app.router.add_get(f"/{context.name}/large", large)
    return app
"""
PROJECT = """
[gateway]
forwarded = true
[services.hosted]
app = "app:create_app"
routes = ["/hosted"]
[services.apart]
app = "app:create_app"
isolation = "process"
routes = ["/apart"]
depends_on = ["hosted"]
"""


@dataclass
class Secure:
    """A project whose gateway is to speak HTTPS, and what its clients trust."""

    course: Course
    data: Path
    certificates: Certificates

    def write(self, *tls: str) -> None:
        text = "\n".join([PROJECT, "[gateway.tls]", *tls]) if tls else PROJECT
        (self.course.msctl.folder / "msctl.toml").write_text(text)

    def get(self, path: str, client: ssl.SSLContext, host: str = "127.0.0.1") -> Answer:
        connection = http.client.HTTPSConnection(host, self.course.gateway, timeout=30, context=client)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def seen(self, path: str, client: ssl.SSLContext) -> dict[str, Any]:
        answer = self.get(path, client)
        assert answer.status == 200, answer.body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    def serial(self, client: ssl.SSLContext) -> object:
        with (
            socket.create_connection(("127.0.0.1", self.course.gateway), timeout=30) as plain,
            client.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            certificate = secure.getpeercert()
            assert certificate
            return certificate["serialNumber"]


@pytest.fixture
def secure(course: Course, tmp_path: Path) -> Secure:
    env = course.msctl.env
    for name in ("MSCTL_HELLO_PORT", "MSCTL_USERS_PORT"):
        del env[name]
    data = tmp_path / "data"
    env["MSCTL_DATA_DIR"] = str(data)
    (course.msctl.folder / "app.py").write_text(APP)
    keys = tmp_path / "keys"
    keys.mkdir()
    made = Secure(course, data, Certificates.of(keys))
    made.write()
    return made


def test_dev_tls_is_one_option_and_says_how_to_trust_it(secure: Secure) -> None:
    msctl, port = secure.course.msctl, secure.course.gateway
    out = msctl.ok("up", "-d", "--dev-tls")
    authority = secure.data / "tls" / "ca.pem"
    assert f"https://127.0.0.1:{port}" in out
    assert f"curl --cacert {authority} https://127.0.0.1:{port}/" in out
    client = trusting(authority)
    for host in ("localhost", "127.0.0.1"):
        assert secure.get("/hosted", client, host).status == 200
    if curl := shutil.which("curl"):
        url = f"https://localhost:{port}/hosted"
        subprocess.run([curl, "-sS", "--fail", "--cacert", authority, url], check=True, capture_output=True)
    (gateway,) = (s for s in msctl.status()["services"] if s["name"] == "gateway")
    assert gateway["addresses"] == [f"https://127.0.0.1:{port}"]
    assert f"https://127.0.0.1:{port}" in msctl.ok("ls")
    assert f" https://127.0.0.1:{port} " in msctl.ok("status")
    assert "nothing has changed" in msctl.ok("reload")  # it keeps what the command line said
    first = secure.serial(client)
    msctl.ok("down")
    msctl.ok("up", "-d", "--dev-tls")
    assert secure.serial(client) == first
    again = msctl.run("up", "-d", "--dev-tls")
    assert again.returncode == 0
    assert "--dev-tls has no effect on a running stack" in again.stderr


def test_a_service_learns_that_its_client_spoke_https_wherever_it_runs(secure: Secure) -> None:
    secure.write(*_pair(secure))
    secure.course.msctl.ok("up", "-d")
    client = secure.certificates.trusting()
    for path in ("/hosted", "/apart"):
        fields = secure.seen(path, client)
        assert fields["X-Forwarded-Proto"] == "https"
        assert fields["X-Forwarded-Host"] == f"127.0.0.1:{secure.course.gateway}"
        assert "proto=https" in fields["Forwarded"]
    assert secure.get("/hosted/large", client).body == b"".join(bytes([n]) * 65536 for n in range(64))


def test_a_service_reaches_another_through_the_gateway_without_its_certificate(secure: Secure) -> None:
    secure.write(*_pair(secure))
    secure.course.msctl.ok("up", "-d")
    found = secure.seen("/apart/through", secure.certificates.trusting())
    assert found["url"].startswith("http://127.0.0.1:")
    assert found["seen"]["X-Forwarded-Proto"] == "http"


async def test_web_sockets_pass_wherever_the_service_runs(secure: Secure) -> None:
    secure.write(*_pair(secure))
    await asyncio.to_thread(secure.course.msctl.ok, "up", "-d")
    client = secure.certificates.trusting()
    async with aiohttp.ClientSession() as session:
        for service in ("hosted", "apart"):
            url = f"wss://127.0.0.1:{secure.course.gateway}/{service}/echo"
            async with session.ws_connect(url, ssl=client) as ws:
                for text in ("abc", "x" * 100_000 + "y"):
                    await ws.send_str(text)
                    assert await ws.receive_str() == text[::-1]


def test_plain_http_is_told_to_use_https_and_a_silent_client_keeps_nobody_from_stopping(
    secure: Secure,
) -> None:
    secure.write(*_pair(secure))
    msctl = secure.course.msctl
    msctl.ok("up", "-d")
    answer = request(f"http://127.0.0.1:{secure.course.gateway}/hosted")
    assert answer.status == 400
    assert b"https://" in answer.body
    with socket.create_connection(("127.0.0.1", secure.course.gateway), timeout=30) as silent:
        assert secure.get("/hosted", secure.certificates.trusting()).status == 200
        log = msctl.ok("logs")
        msctl.ok("down", "--timeout", "10s")
        assert silent.recv(1) == b""
    assert log.count("plain HTTP") == 1
    assert "Traceback" not in log


def test_a_reload_takes_new_files_and_refuses_broken_ones(secure: Secure) -> None:
    secure.write(*_pair(secure))
    msctl, client = secure.course.msctl, secure.certificates.trusting()
    msctl.ok("up", "-d")
    first = secure.serial(client)
    assert "nothing has changed" in msctl.ok("reload")
    cert, key = secure.certificates.make("one")
    assert "updated the gateway" in msctl.ok("reload")
    second = secure.serial(client)
    assert second != first
    whole = key.read_bytes()
    key.write_bytes(secure.certificates.make("other")[1].read_bytes())
    refused = msctl.run("reload")
    assert refused.returncode == 2
    assert f"gateway.tls.key: {key} is not the key of the certificate {cert}" in refused.stderr
    assert secure.serial(client) == second
    key.write_bytes(whole)
    secure.write(*_pair(secure, "two"))
    assert "updated the gateway" in msctl.ok("reload")
    assert secure.serial(client) not in (first, second)
    secure.write()
    off = msctl.run("reload")
    assert off.returncode == 2
    assert "HTTPS was switched off in [gateway.tls]" in off.stderr
    assert secure.get("/hosted", client).status == 200


def test_watched_files_are_taken_up_by_themselves(secure: Secure) -> None:
    secure.write(*_pair(secure))
    client = secure.certificates.trusting()
    with secure.course.msctl.process("up", "--watch") as up:
        up.line("stderr", "gateway")
        first = secure.serial(client)
        secure.certificates.make("one")
        up.line("stdout", "reloaded: updated the gateway")
        assert secure.serial(client) != first
        up.signal()
        assert up.wait() == 0


def test_files_that_cannot_be_used_are_an_error_before_anything_starts(secure: Secure) -> None:
    cert, key = _pair(secure)
    secure.write(cert, key)
    secure.certificates.encrypt(secure.certificates.folder / "one-key.pem")
    for verb in (("up", "-d"), ("up",), ("serve", "gateway")):
        failed = secure.course.msctl.run(*verb)
        assert failed.returncode == 2
        assert "gateway.tls.key: " in failed.stderr
        assert "is encrypted" in failed.stderr
    secure.write(cert)
    failed = secure.course.msctl.run("up", "-d")
    assert failed.returncode == 2
    assert "gateway.tls: set both cert and key" in failed.stderr


def test_doctor_looks_at_the_certificate(secure: Secure) -> None:
    msctl = secure.course.msctl

    def found(*options: str) -> tuple[str, str]:
        document = json.loads(msctl.run("doctor", "--json", *options).stdout)
        (finding,) = (f for f in document["data"] if f["check"] == "certificate")
        return finding["verdict"], finding["detail"]

    secure.write(*_pair(secure))
    verdict, detail = found()
    assert verdict == "ok"
    assert detail.startswith(f"{secure.certificates.folder / 'one.pem'}, valid until 20")
    secure.certificates.make("one", issued=datetime.now(UTC) - timedelta(days=400))
    verdict, detail = found()
    assert verdict == "note"
    assert "expired on 20" in detail
    (secure.certificates.folder / "one.pem").unlink()
    assert found()[0] == "fail"
    secure.write("dev = true")
    verdict, detail = found()
    assert verdict == "ok"
    assert str(secure.data / "tls" / "ca.pem") in detail
    assert not secure.data.exists()


def test_an_authority_that_cannot_be_kept_is_an_error_with_a_way_out(secure: Secure) -> None:
    secure.data.write_text("")
    failed = secure.course.msctl.run("up", "-d", "--dev-tls")
    assert failed.returncode == 1
    assert f"cannot use {secure.data}" in failed.stderr
    assert "MSCTL_DATA_DIR" in failed.stderr


def test_without_a_gateway_there_is_nothing_to_speak_https(secure: Secure) -> None:
    failed = secure.course.msctl.run("up", "-d", "--dev-tls", env={"MSCTL_GATEWAY_ENABLED": "false"})
    assert failed.returncode == 2
    assert "--dev-tls needs the gateway" in failed.stderr


def test_the_gateway_alone_speaks_https_too(secure: Secure) -> None:
    secure.write(*_pair(secure))
    with secure.course.msctl.process("serve", "gateway") as served:
        client = secure.certificates.trusting()
        while served.child.poll() is None:
            try:
                answer = secure.get("/-/ready", client)
            except ConnectionRefusedError:
                continue
            assert answer.status == 200
            break
        served.signal()
        assert served.wait() == 0


def _pair(secure: Secure, name: str = "one") -> tuple[str, str]:
    cert, key = secure.certificates.make(name)
    return f'cert = "{cert}"', f'key = "{key}"'
