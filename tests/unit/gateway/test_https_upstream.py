"""Upstreams over https: verified by their name, with an authority and a certificate of one's own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from msctl.model.endpoint import Endpoint
from msctl.model.route_policies import UpstreamTlsSpec
from msctl.model.route_spec import RouteSpec
from msctl.tls.upstream import client_context
from tests.support.certificates import Certificates
from tests.unit.gateway.harness import Harness, running


async def answer(request: web.Request) -> web.Response:
    transport = request.transport
    subject = None if transport is None else transport.get_extra_info("peercert")
    return web.json_response({"host": request.headers["Host"], "certificate": bool(subject)})


@asynccontextmanager
async def secure(context: ssl.SSLContext) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def server_context(certificates: Certificates, *, client: Path | None = None) -> ssl.SSLContext:
    """The context of a server, which wants this client's certificate if there is one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.make("server"))
    if client is not None:
        context.load_verify_locations(client)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_certificate(folder: Path) -> tuple[Path, Path]:
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gw")]),
    )
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1)).sign(key, SHA256())
    )
    (folder / "client.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "client-key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return folder / "client.pem", folder / "client-key.pem"


def announce(gateway: Harness, port: int, tls: UpstreamTlsSpec | None, **more: str) -> None:
    url = f"https://127.0.0.1:{port}"
    gateway.registry.announce(Endpoint("x", "x-1", base_url=url, tls=client_context(tls), **more))  # type: ignore[arg-type]


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates.of(tmp_path)


async def test_a_certificate_is_verified_with_the_authority_of_the_configuration(
    certificates: Certificates,
) -> None:
    trusted = UpstreamTlsSpec(ca=certificates.folder / "ca.pem")
    async with secure(server_context(certificates)) as port, running(RouteSpec("/x", "x")) as gateway:
        announce(gateway, port, trusted)
        client = await gateway.client()
        for _ in range(3):  # the second over the same connection
            reply = await client.request("GET", "/x")
            assert (reply.status, reply.json()["host"]) == (200, "gateway.localhost")
        announce(gateway, port, trusted, server_name="localhost", host_header="api.test")
        assert (await gateway.get("/x")).json()["host"] == "api.test"
        announce(gateway, port, UpstreamTlsSpec(verify=False))
        assert (await gateway.get("/x")).status == 200


async def test_a_certificate_that_does_not_hold_is_a_502_that_says_why(certificates: Certificates) -> None:
    async with secure(server_context(certificates)) as port, running(RouteSpec("/x", "x")) as gateway:
        announce(gateway, port, None)
        unknown = await gateway.get("/x")
        assert (unknown.status, unknown.json()["reason"]) == (502, "tls_certificate_error")
        announce(gateway, port, UpstreamTlsSpec(ca=certificates.folder / "ca.pem"), server_name="other.test")
        other = await gateway.get("/x")
        assert other.json()["reason"] == "tls_certificate_error"
        assert "other.test" in other.json()["detail"]


async def test_the_gateway_shows_a_certificate_where_one_is_asked_for(certificates: Certificates) -> None:
    cert, key = client_certificate(certificates.folder)
    ca = certificates.folder / "ca.pem"
    async with (
        secure(server_context(certificates, client=cert)) as port,
        running(RouteSpec("/x", "x")) as gateway,
    ):
        announce(gateway, port, UpstreamTlsSpec(ca=ca, cert=cert, key=key))
        assert (await gateway.get("/x")).json()["certificate"] is True
        announce(gateway, port, UpstreamTlsSpec(ca=ca))
        assert (await gateway.get("/x")).status == 502


async def test_a_server_without_tls_is_a_502(certificates: Certificates) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with running(RouteSpec("/x", "x")) as gateway:
            announce(gateway, port, None)
            reply = await gateway.get("/x")
            assert (reply.status, reply.json()["reason"]) == (502, "tls_protocol_error")
    finally:
        server.close()
        await server.wait_closed()
