"""The TLS context of listeners: which files are refused and why, and replacement while in use."""

from __future__ import annotations

import logging
import os
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from msctl.errors import ConfigError, ExitCode
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.snapshots import BrokerMode
from msctl.model.tls_spec import TlsSpec, TlsVersion
from msctl.tls.context import ServerTls, files
from tests.support.certificates import Certificates, trusting


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates.of(tmp_path)


def project(tls: TlsSpec | None, *, host: str = "127.0.0.1") -> Project:
    gateway = None if tls is None else GatewaySpec(host=host, tls=tls)
    return Project("test", None, "/srv/msctl.toml", (), gateway, BrokerSpec(BrokerMode.EXTERNAL))


def shown(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "localhost") -> ssl.SSLObject:
    """The client's side of a handshake in memory. Raises what it finds wrong."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for side in (ours, theirs, ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return ours


def serial(server: ssl.SSLContext, client: ssl.SSLContext) -> object:
    certificate = shown(server, client).getpeercert()
    assert certificate
    return certificate["serialNumber"]


def test_a_client_verifies_the_certificate_and_negotiates_http_1_1(made: Certificates) -> None:
    tls = ServerTls({})
    tls.use(tls.read(project(TlsSpec(*made.make("one")))))
    client = made.trusting()
    client.set_alpn_protocols(["h2", "http/1.1"])
    connection = shown(tls.context, client)
    assert connection.selected_alpn_protocol() == "http/1.1"
    assert connection.version() == "TLSv1.3"


def test_a_client_without_sni_is_served(made: Certificates) -> None:
    tls = ServerTls({})
    tls.use(tls.read(project(TlsSpec(*made.make("one")))))
    client = made.trusting()
    client.check_hostname = False
    assert shown(tls.context, client, None).getpeercert()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize(
    ("oldest", "spoken", "refused"),
    [(TlsVersion.TLS12, "TLSv1_2", "TLSv1_1"), (TlsVersion.TLS13, "TLSv1_3", "TLSv1_2")],
)
def test_older_tls_versions_are_refused(
    made: Certificates, oldest: TlsVersion, spoken: str, refused: str
) -> None:
    tls = ServerTls({})
    tls.use(tls.read(project(TlsSpec(*made.make("one"), min_version=oldest))))
    client = made.trusting()
    client.set_ciphers("DEFAULT@SECLEVEL=0")
    client.maximum_version = ssl.TLSVersion[spoken]
    assert shown(tls.context, client).version() == spoken.replace("_", ".")
    client.minimum_version = client.maximum_version = ssl.TLSVersion[refused]
    with pytest.raises(ssl.SSLError, match=r"(?i)protocol"):
        shown(tls.context, client)


def damage(made: Certificates, cert: Path, key: Path, how: str) -> None:
    match how:
        case "no cert":
            cert.unlink()
        case "no key":
            key.unlink()
        case "swapped":
            other = made.make("other")[1]
            key.write_bytes(other.read_bytes())
        case "encrypted":
            made.encrypt(key)
        case "cert is no certificate":
            cert.write_bytes(key.read_bytes())
        case "key is no key":
            key.write_bytes(cert.read_bytes())
        case "key is cut short":
            key.write_bytes(key.read_bytes()[:60] + b"\n-----END PRIVATE KEY-----\n")
        case "cert is a folder":
            cert.unlink()
            cert.mkdir()
        case "key is large":
            key.write_bytes(b"\n" * 1_100_000)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("no cert", r"gateway\.tls\.cert: .*/one\.pem does not exist"),
        ("no key", r"gateway\.tls\.key: .*/one-key\.pem does not exist"),
        (
            "swapped",
            r"gateway\.tls\.key: .*/one-key\.pem is not the key of the certificate .*/one\.pem",
        ),
        ("encrypted", r"gateway\.tls\.key: .*/one-key\.pem is encrypted"),
        ("cert is no certificate", r"gateway\.tls\.cert: .*/one\.pem contains no PEM certificate"),
        ("key is no key", r"gateway\.tls\.key: .*/one-key\.pem contains no PEM private key"),
        ("key is cut short", r"gateway\.tls: .*/one\.pem and .*/one-key\.pem cannot be used: .*"),
        ("cert is a folder", r"gateway\.tls\.cert: .*/one\.pem cannot be read: is a directory"),
        ("key is large", r"gateway\.tls\.key: .*/one-key\.pem is larger than 1 MiB"),
    ],
)
def test_unusable_files_are_errors_that_name_the_key(made: Certificates, how: str, message: str) -> None:
    cert, key = made.make("one")
    damage(made, cert, key, how)
    with pytest.raises(ConfigError, match=rf"^/srv/msctl\.toml: {message}") as caught:
        ServerTls({}).read(project(TlsSpec(cert, key)))
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.skipif(os.getuid() == 0, reason="root may read anything")
def test_an_unreadable_key_is_an_error(made: Certificates) -> None:
    cert, key = made.make("one")
    key.chmod(0)
    with pytest.raises(ConfigError, match=r"gateway\.tls\.key: .* cannot be read: permission denied"):
        ServerTls({}).read(project(TlsSpec(cert, key)))


def test_new_files_are_used_in_the_next_handshake_and_broken_ones_are_not(
    made: Certificates,
) -> None:
    cert, key = made.make("one")
    declared = project(TlsSpec(cert, key))
    tls, client = ServerTls({}), made.trusting()
    assert not tls.use(tls.read(declared))
    context, first = tls.context, serial(tls.context, client)
    assert not tls.use(tls.read(declared))
    made.make("one")
    assert serial(context, client) == first
    assert tls.use(tls.read(declared))
    assert tls.context is context
    second = serial(context, client)
    assert second != first
    key.write_bytes(made.make("other")[1].read_bytes())
    with pytest.raises(ConfigError):
        tls.read(declared)
    assert serial(context, client) == second


def test_a_replacement_may_change_the_minimum_version(made: Certificates) -> None:
    cert, key = made.make("one")
    tls, client = ServerTls({}), made.trusting()
    tls.use(tls.read(project(TlsSpec(cert, key, min_version=TlsVersion.TLS13))))
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        shown(tls.context, client)
    assert tls.use(tls.read(project(TlsSpec(cert, key))))
    assert shown(tls.context, client).version() == "TLSv1.2"


@pytest.mark.parametrize(
    ("age", "complaint"),
    [(398, "expired on 2"), (390, "expires on 2.*, in 6 days"), (-2, "is not valid before 2"), (300, "")],
)
def test_an_expired_certificate_is_served_with_a_warning(
    made: Certificates, age: int, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    cert, key = made.make("one", issued=now - timedelta(days=age))
    tls = ServerTls({}, lambda: now)
    with caplog.at_level(logging.WARNING, "msctl.tls"):
        tls.use(tls.read(project(TlsSpec(cert, key))))
    assert len(caplog.messages) == bool(complaint)
    assert not complaint or re.match(rf"the certificate {cert} {complaint}", caplog.messages[0])
    client = made.trusting()
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    assert shown(tls.context, client).version() == "TLSv1.3"


def test_dev_tls_uses_the_local_authority_instead_of_files(tmp_path: Path) -> None:
    tls = ServerTls({"MSCTL_DATA_DIR": str(tmp_path)})
    nowhere = tmp_path / "nowhere.pem"
    tls.use(tls.read(project(TlsSpec(nowhere, nowhere, dev=True), host="shop.test")))
    client = trusting(tmp_path / "tls" / "ca.pem")
    for name in ("shop.test", "localhost", "127.0.0.1", "::1"):
        assert shown(tls.context, client, name).getpeercert()


@pytest.mark.parametrize(
    "declared", [project(None), project(TlsSpec())], ids=["no gateway", "no certificate"]
)
def test_plain_http_needs_no_certificate(declared: Project) -> None:
    tls = ServerTls({})
    assert tls.read(declared) is None
    assert not tls.use(None)
    assert files(declared) == ()
    with pytest.raises(RuntimeError):
        tls.context  # noqa: B018


def test_only_the_users_own_files_are_watched(made: Certificates) -> None:
    pair = made.make("one")
    assert files(project(TlsSpec(*pair))) == pair
    assert files(project(TlsSpec(*pair, dev=True))) == ()
