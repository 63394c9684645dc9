"""The TLS context of the gateway's or the broker's listeners, from the user's files or the local authority.

Replacing a certificate: listeners use one outer context whose SNI callback assigns the context of the current
certificate to each handshake. Loading new files into a context in use could fail after the first file and
leave it broken; this way a certificate is used as a whole or not at all.

ssl and cryptography are imported on use: most stacks have no TLS.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.errors import ConfigError
from msctl.files import read_named_by
from msctl.model.broker_url import parse_url
from msctl.model.project import Project
from msctl.model.tls_spec import TlsSpec
from msctl.tls.authority import Authority, data_folder

if TYPE_CHECKING:
    import ssl

LARGEST_FILE = 1024 * 1024
SOON_DAYS = 14
"""Warn about certificates that expire within this many days."""
log = logging.getLogger("msctl.tls")


@dataclass(frozen=True, slots=True)
class TlsEndpoint:
    """What listens with TLS: its keys below `key`, the host of its certificate, the protocols of ALPN."""

    spec: TlsSpec
    host: str
    key: str
    protocols: tuple[str, ...] = ()


def gateway_endpoint(project: Project) -> TlsEndpoint | None:
    """The gateway's, for HTTPS; None for plain HTTP."""
    gateway = project.gateway
    if gateway is None or not gateway.tls.enabled:
        return None
    return TlsEndpoint(gateway.tls, gateway.host, "gateway.tls", ("http/1.1",))


def broker_endpoint(project: Project) -> TlsEndpoint | None:
    """The embedded broker's, for AMQPS; None for plain AMQP."""
    spec = project.broker
    if not spec.tls.enabled:
        return None
    return TlsEndpoint(spec.tls, parse_url(spec.url, any_port=True).host, "broker.tls")


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A loaded certificate with its context; `content` identifies it, `path` is its file."""

    context: ssl.SSLContext
    content: bytes
    not_before: datetime
    not_after: datetime
    path: Path

    def validity_warning(self, now: datetime) -> str | None:
        """A warning if the certificate is expired, not yet valid or expires soon."""
        if now > self.not_after:
            return f"the certificate {self.path} expired on {self.not_after:%Y-%m-%d}; clients will refuse it"
        if now < self.not_before:
            return f"the certificate {self.path} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if (days := (self.not_after - now).days) < SOON_DAYS:
            return f"the certificate {self.path} expires on {self.not_after:%Y-%m-%d}, in {days} days"
        return None


class ServerTls:
    """The certificate of a stack's TLS listeners; it can be replaced while they listen."""

    def __init__(
        self,
        env: Mapping[str, str],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        endpoint: Callable[[Project], TlsEndpoint | None] = gateway_endpoint,
    ) -> None:
        self._env = env
        self._now = now
        self._endpoint = endpoint
        self._protocols: tuple[str, ...] = ()
        self._outer: ssl.SSLContext | None = None
        self._certificate: ServerCertificate | None = None

    def read(self, project: Project) -> ServerCertificate | None:
        """Load the project's certificate without using it; None for listeners without TLS.

        Raises ConfigError for unusable files, MsctlError if the local authority's folder cannot be used.
        """
        found = self._endpoint(project)
        if found is None:
            return None
        if found.spec.dev:
            file = Authority(data_folder(self._env)).certificate(found.host, self._now())
            found = replace(found, spec=replace(found.spec, cert=file, key=file))
        self._protocols = found.protocols
        return load(found, project.source)

    def use(self, certificate: ServerCertificate | None) -> bool:
        """Use this certificate in all new handshakes; returns whether it replaced another one."""
        current = self._certificate
        if certificate is None or (current is not None and certificate.content == current.content):
            return False
        if (warning := certificate.validity_warning(self._now())) is not None:
            log.warning("%s", warning)
        self._certificate = certificate
        if self._outer is None:
            self._outer = _outer_context(lambda: self._certificate, self._protocols)
        self._outer.minimum_version = certificate.context.minimum_version
        return current is not None

    @property
    def context(self) -> ssl.SSLContext:
        """The context for listeners; it is the same object for every certificate."""
        if self._outer is None:
            raise RuntimeError("no certificate is in use")
        return self._outer


def load(endpoint: TlsEndpoint, source: str) -> ServerCertificate:
    """Load the user's certificate. Raises ConfigError that names `source`, the key and the file."""
    spec, where = endpoint.spec, f"{source}: {endpoint.key}"
    import ssl

    from cryptography import x509

    if spec.cert is None or spec.key is None:
        raise ValueError("there are no files to load")
    chain = _read(f"{where}.cert", spec.cert)
    secret = _read(f"{where}.key", spec.key)
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        raise ConfigError(
            f"{where}.cert: {spec.cert} contains no PEM certificate",
            hint='PEM starts with "-----BEGIN CERTIFICATE-----"; convert DER with: '
            "openssl x509 -inform der -in CERT",
        ) from None
    if b"PRIVATE KEY-----" not in secret:
        raise ConfigError(
            f"{where}.key: {spec.key} contains no PEM private key",
            hint='PEM has a line such as "-----BEGIN PRIVATE KEY-----"',
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion[f"TLSv{spec.min_version.value.replace('.', '_')}"]
    if endpoint.protocols:
        context.set_alpn_protocols(endpoint.protocols)
    try:
        context.load_cert_chain(spec.cert, spec.key, password=_no_passphrase)
    except _EncryptedError:
        raise ConfigError(
            f"{where}.key: {spec.key} is encrypted",
            hint="decrypt it, readable only by you: openssl pkey -in KEY -out PLAIN",
        ) from None
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise ConfigError(
                f"{where}.key: {spec.key} is not the key of the certificate {spec.cert}",
                hint="use the key of this certificate; in a chain, the server's certificate comes first",
            ) from None
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ConfigError(
            f"{where}: {spec.cert} and {spec.key} cannot be used: {reason}",
            hint="inspect them with: openssl x509 -noout -text -in CERT; openssl pkey -noout -in KEY",
        ) from None
    return ServerCertificate(
        context,
        b"\n".join((spec.min_version.value.encode(), chain, secret)),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        spec.cert,
    )


def files(project: Project) -> tuple[Path, ...]:
    """The user's certificate files, to be watched for changes; without those of dev certificates."""
    found = [end.spec for end in (gateway_endpoint(project), broker_endpoint(project)) if end is not None]
    return tuple(path for tls in found if not tls.dev for path in (tls.cert, tls.key) if path is not None)


def _outer_context(
    current: Callable[[], ServerCertificate | None], protocols: tuple[str, ...]
) -> ssl.SSLContext:
    """A context that passes each handshake to the current certificate's context."""
    import ssl

    outer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if protocols:
        outer.set_alpn_protocols(protocols)

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _outer: ssl.SSLContext) -> None:
        certificate = current()
        if certificate is not None:
            connection.context = certificate.context

    outer.sni_callback = choose
    return outer


class _EncryptedError(Exception):
    """OpenSSL asks for a passphrase."""


def _no_passphrase() -> str:
    """Raise instead of letting OpenSSL prompt on the terminal."""
    raise _EncryptedError


def _read(key: str, path: Path) -> bytes:
    return read_named_by(key, path, LARGEST_FILE, "1 MiB and thus not a PEM file")
