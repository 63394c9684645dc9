"""The local authority: created once, private, renewed in time, limited to private names."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from msctl.errors import ConfigError, ExitCode, MsctlError
from msctl.tls import issuing
from msctl.tls.authority import Authority, data_folder
from tests.support.certificates import NOW

DAY = timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "data" / "msctl")


def serial(file: Path) -> int:
    return x509.load_pem_x509_certificate(file.read_bytes()).serial_number


def ends(file: Path) -> datetime:
    return x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc


def names(file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_owner_can_read_keys(authority: Authority) -> None:
    old = os.umask(0)
    try:
        file = authority.certificate("127.0.0.1", NOW)
    finally:
        os.umask(old)
    assert mode(authority.folder) == 0o700
    assert mode(authority.folder / "ca-key.pem") == 0o600
    assert mode(file) == 0o600
    assert sorted(path.name for path in authority.folder.iterdir()) == [
        *("ca-key.pem", "ca.pem", "localhost.pem"),
    ]


def test_a_folder_that_others_can_write_is_refused_and_keeps_its_mode(authority: Authority) -> None:
    authority.folder.mkdir(parents=True)
    authority.folder.chmod(0o777)
    with pytest.raises(MsctlError, match="writable by others"):
        authority.certificate("127.0.0.1", NOW)
    assert mode(authority.folder) == 0o777
    assert list(authority.folder.iterdir()) == []


def test_a_key_that_others_could_have_planted_is_refused(authority: Authority) -> None:
    authority.certificate("127.0.0.1", NOW)
    (authority.folder / "ca-key.pem").chmod(0o666)
    with pytest.raises(MsctlError, match="writable by others"):
        authority.certificate("127.0.0.1", NOW)


def test_authority_and_certificate_are_reused(authority: Authority) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    first, made = serial(authority.file), serial(file)
    for host in ("localhost", "0.0.0.0", "::", "[::1]"):
        assert authority.certificate(host, NOW + 300 * DAY) == file
    assert (serial(authority.file), serial(file)) == (first, made)


def test_an_expiring_certificate_is_renewed_by_the_same_authority(authority: Authority) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    first, made = serial(authority.file), serial(file)
    later = ends(file) - 30 * DAY
    assert serial(authority.certificate("127.0.0.1", later - DAY)) == made
    assert serial(authority.certificate("127.0.0.1", later)) != made
    assert serial(authority.file) == first
    assert ends(file) > later + 300 * DAY


def test_an_expiring_authority_and_its_certificates_are_replaced(authority: Authority) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    first = serial(authority.file)
    end = ends(authority.file)
    authority.certificate("127.0.0.1", end - 31 * DAY)
    assert serial(authority.file) == first
    assert ends(file) == end  # no certificate outlives who signed it
    authority.certificate("127.0.0.1", end - 30 * DAY)
    assert serial(authority.file) != first
    certificate = x509.load_pem_x509_certificate(file.read_bytes())
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.file.read_bytes()))


def test_a_certificate_that_is_not_yet_valid_is_replaced(authority: Authority) -> None:
    made = serial(authority.certificate("127.0.0.1", NOW))
    assert serial(authority.certificate("127.0.0.1", NOW - DAY)) != made


def test_the_gateways_host_is_among_the_names_and_has_its_own_file(
    authority: Authority,
) -> None:
    plain = authority.certificate("127.0.0.1", NOW)
    assert names(plain) == ["localhost", "127.0.0.1", "::1"]
    shop = authority.certificate("Shop.test", NOW)
    assert names(shop) == ["localhost", "127.0.0.1", "::1", "shop.test"]
    assert names(authority.certificate("192.168.7.1", NOW))[-1] == "192.168.7.1"
    made = serial(plain)
    assert serial(authority.certificate("127.0.0.1", NOW)) == made


def test_a_certificate_for_other_names_is_replaced(authority: Authority) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    shutil.copy(authority.certificate("shop.test", NOW), file)
    assert names(authority.certificate("127.0.0.1", NOW)) == ["localhost", "127.0.0.1", "::1"]


@pytest.mark.parametrize("host", ["example.com", "8.8.8.8", "localhost.example.com", "mytest", "2001:db8::1"])
def test_a_public_name_is_refused_before_anything_is_created(authority: Authority, host: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.host: the local authority cannot sign for") as caught:
        authority.certificate(host, NOW)
    assert "cert and key" in str(caught.value.hint)
    assert not authority.folder.exists()


def test_clients_refuse_a_public_name_signed_by_the_authority(tmp_path: Path) -> None:
    signer = issuing.make_signer(datetime.now(NOW.tzinfo))
    (tmp_path / "ca.pem").write_bytes(signer.certificate_pem)

    def handshake(name: str) -> None:
        pem = tmp_path / f"{name}.pem"
        pem.write_bytes(issuing.issue(signer, [name], datetime.now(NOW.tzinfo)))
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(pem)
        shake(ssl.create_default_context(cafile=str(tmp_path / "ca.pem")), server, name)

    handshake("shop.test")
    handshake("10.1.2.3")
    for name in ("www.example.com", "8.8.8.8"):
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            handshake(name)


def shake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """A handshake in memory. Raises what the client finds wrong."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up, server_hostname=name)
    theirs = server.wrap_bio(up, down, server_side=True)
    for side in (ours, theirs, ours):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue


@pytest.mark.parametrize("damaged", ["ca.pem", "ca-key.pem"])
def test_an_incomplete_authority_is_replaced(authority: Authority, damaged: str) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    other = Authority(authority.folder.parent / "other")
    other.certificate("127.0.0.1", NOW)
    shutil.copy(other.folder / damaged, authority.folder / damaged)  # whole, but of another pair
    first, made = serial(authority.file), serial(file)
    authority.certificate("127.0.0.1", NOW)
    assert serial(authority.file) != first
    assert serial(file) != made


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_damaged_certificate_is_replaced(authority: Authority, content: bytes) -> None:
    file = authority.certificate("127.0.0.1", NOW)
    first = serial(authority.file)
    file.write_bytes(content)
    authority.certificate("127.0.0.1", NOW)
    assert names(file)
    assert serial(authority.file) == first


def test_a_folder_that_cannot_be_created_is_an_error_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MsctlError, match="for the local certificate authority") as caught:
        Authority(tmp_path / "file").certificate("127.0.0.1", NOW)
    assert "MSCTL_DATA_DIR" in str(caught.value.hint)
    assert caught.value.exit_code is ExitCode.FAILED


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MsctlError, match="permission denied"):
        Authority(tmp_path / "data").certificate("127.0.0.1", NOW)


def test_the_data_folder_follows_the_environment() -> None:
    home = {"HOME": "/home/a"}
    assert data_folder(home) == Path("/home/a/.local/share/msctl")
    assert data_folder({**home, "XDG_DATA_HOME": "/data"}) == Path("/data/msctl")
    assert data_folder({**home, "XDG_DATA_HOME": "relative"}) == Path("/home/a/.local/share/msctl")
    assert data_folder({**home, "XDG_DATA_HOME": "/data", "MSCTL_DATA_DIR": "/own"}) == Path("/own")
    with pytest.raises(MsctlError, match="HOME is not set"):
        data_folder({})
