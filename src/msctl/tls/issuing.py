"""Creates and checks certificates: the authority's and those it signs.

Pure except for random keys and serial numbers. Importing it takes 100 ms, because of cryptography.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address, ip_network

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from msctl.errors import ConfigError
from msctl.model.address import WILDCARDS

AUTHORITY_VALIDITY = timedelta(days=3650)
VALIDITY = timedelta(days=397)
"""Of a server certificate; Apple's platforms refuse more than 825 days."""
RENEW_BEFORE = timedelta(days=30)
_SKEW = timedelta(hours=1)
"""Tolerance for clocks that are behind."""

ALWAYS = ("localhost", "127.0.0.1", "::1")
DOMAINS = ("localhost", "local", "test", "internal", "home.arpa")
"""Domains outside the public DNS (RFC 6761, RFC 6762, RFC 8375)."""
NETWORKS = (
    *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
    *("::1/128", "fc00::/7", "fe80::/10"),
)


@dataclass(frozen=True, slots=True)
class Signer:
    """An authority's certificate and signing key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return _pem_of_key(self.key)


def names_for(host: str) -> tuple[str, ...]:
    """The names in the certificate of a gateway that listens on `host`: `ALWAYS`, then `host` if not in it.

    Raises ConfigError for a host that the authority may not sign for.
    """
    host = host.strip("[]").partition("%")[0].lower()
    if host in WILDCARDS or host in ALWAYS:
        return ALWAYS
    try:
        address = ip_address(host)
    except ValueError:
        allowed = any(host == domain or host.endswith(f".{domain}") for domain in DOMAINS)
    else:
        allowed = any(address in ip_network(network) for network in NETWORKS)
    if not allowed:
        raise ConfigError(
            f"gateway.host: the local authority cannot sign for {host}, only for private addresses and names "
            f"that end in {', '.join(DOMAINS)}",
            hint="use your own certificate: [gateway.tls] cert and key",
        )
    return (*ALWAYS, host)


def make_signer(now: datetime) -> Signer:
    """Create an authority that may sign only for `DOMAINS` and `NETWORKS`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"msctl development CA ({_owner()})")
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in DOMAINS]
    permitted += [x509.IPAddress(ip_network(network)) for network in NETWORKS]
    builder = (
        _builder(name, name, key, now, AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, excluded_subtrees=None), critical=True)
    )
    return Signer(builder.sign(key, hashes.SHA256()), key)


def issue(signer: Signer, names: Sequence[str], now: datetime) -> bytes:
    """Create a key and a certificate for these names; returns both as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    authority = signer.certificate
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    validity = min(VALIDITY, authority.not_valid_after_utc - now)
    builder = (
        _builder(_name("msctl development certificate"), authority.subject, key, now, validity)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(_general_names(names)), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False
        )
    )
    return _pem_of_key(key) + builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def kept_signer(certificate: bytes, key: bytes, now: datetime) -> Signer | None:
    """Load the authority from PEM; None if it is damaged, mismatched or expires soon."""
    try:
        found, secret = x509.load_pem_x509_certificate(certificate), load_pem_private_key(key, None)
    except (ValueError, TypeError):
        return None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != found.public_key():
        return None
    return Signer(found, secret) if _lasts(found, now) else None


def serves(content: bytes, signer: Signer, names: Sequence[str], now: datetime) -> bool:
    """Whether a stored key and certificate are intact, signed by `signer`, for `names`, and not expiring."""
    try:
        found, key = x509.load_pem_x509_certificate(content), load_pem_private_key(content, None)
        found.verify_directly_issued_by(signer.certificate)
        known = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    intact = key.public_key() == found.public_key()
    return intact and list(known) == _general_names(names) and _lasts(found, now)


def _lasts(certificate: x509.Certificate, now: datetime) -> bool:
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc - RENEW_BEFORE


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, validity: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    """Key usage: an authority signs certificates, a server signs handshakes."""
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "msctl"),
            x509.NameAttribute(NameOID.COMMON_NAME, common[:64]),
        ]
    )


def _owner() -> str:
    """user@host, to recognise the authority in a trust store."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a uid without a passwd entry
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _general_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
