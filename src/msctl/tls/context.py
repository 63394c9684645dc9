"""The TLS context of the listeners, made of the user's files or of a certificate of the local authority.

Reads files, and knows nothing of sockets. ssl and cryptography are imported where TLS is asked for:
most stacks do without.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msctl.errors import ConfigError
from msctl.files import FileTooLargeError, read_bounded
from msctl.model.project import GatewaySpec, Project, TlsSpec
from msctl.tls.authority import Authority, data_folder

if TYPE_CHECKING:
    import ssl

LARGEST_FILE = 1024 * 1024
SOON_DAYS = 14
"""A certificate that ends within so many days is warned about."""
log = logging.getLogger("msctl.tls")


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate that is ready to be shown to clients; `content` tells it from another."""

    context: ssl.SSLContext
    content: bytes
    not_before: datetime
    not_after: datetime
    where: Path

    def complaint(self, now: datetime) -> str | None:
        """What clients will find wrong with its time, now or soon."""
        if now > self.not_after:
            return (
                f"the certificate {self.where} expired on {self.not_after:%Y-%m-%d}; clients will refuse it"
            )
        if now < self.not_before:
            return f"the certificate {self.where} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC"
        if (days := (self.not_after - now).days) < SOON_DAYS:
            return f"the certificate {self.where} expires on {self.not_after:%Y-%m-%d}, in {days} days"
        return None


class ServerTls:
    """What a stack's HTTPS listeners show to clients, exchangeable while they listen."""

    def __init__(
        self, env: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._env = env
        self._now = now
        self._front: ssl.SSLContext | None = None
        self._identity: Identity | None = None

    def read(self, project: Project) -> Identity | None:
        """What the project declares, read anew; None for plain HTTP. Changes nothing that is in use.

        Raises ConfigError for files that cannot be used, MsctlError where the local authority cannot
        be kept.
        """
        gateway = project.gateway
        if gateway is None or not gateway.tls.enabled:
            return None
        if gateway.tls.dev:
            gateway = _with_dev_files(gateway, self._env, self._now())
        return load(gateway.tls, project.source)

    def use(self, identity: Identity | None) -> bool:
        """Show this one in every handshake from now on; says whether it is another than before."""
        if identity is None or (self._identity is not None and identity.content == self._identity.content):
            return False
        if (complaint := identity.complaint(self._now())) is not None:
            log.warning("%s", complaint)
        replaced = self._identity is not None
        self._identity = identity
        if self._front is None:
            self._front = _front(lambda: self._identity)
        self._front.minimum_version = identity.context.minimum_version
        return replaced

    @property
    def context(self) -> ssl.SSLContext:
        """The context to listen with; it stays the same one, whatever is in use."""
        if self._front is None:
            raise RuntimeError("there is no certificate in use")
        return self._front


def load(spec: TlsSpec, source: str) -> Identity:
    """The user's certificate. Raises ConfigError that names `source`, the key and the file."""
    import ssl

    from cryptography import x509

    if spec.cert is None or spec.key is None:
        raise ValueError("there are no files to load")
    chain = _read(spec.cert, f"{source}: gateway.tls.cert")
    secret = _read(spec.key, f"{source}: gateway.tls.key")
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError):
        raise ConfigError(
            f"{source}: gateway.tls.cert: {spec.cert} holds no certificate in PEM",
            hint='it begins with "-----BEGIN CERTIFICATE-----"; from DER: openssl x509 -inform der -in CERT',
        ) from None
    if b"PRIVATE KEY-----" not in secret:
        raise ConfigError(
            f"{source}: gateway.tls.key: {spec.key} holds no private key in PEM",
            hint='it has a line such as "-----BEGIN PRIVATE KEY-----"',
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion[f"TLSv{spec.min_version.value.replace('.', '_')}"]
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(spec.cert, spec.key, password=_refuse_to_ask)
    except _EncryptedError:
        raise ConfigError(
            f"{source}: gateway.tls.key: {spec.key} is encrypted, and nobody is asked for its passphrase",
            hint="keep it without one, readable by you alone: openssl pkey -in KEY -out PLAIN",
        ) from None
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise ConfigError(
                f"{source}: gateway.tls.key: {spec.key} is not the key of the certificate {spec.cert}",
                hint="name the two files that were made together; the certificate comes first in its file",
            ) from None
        reason = (error.reason or str(error)).replace("_", " ").lower()
        raise ConfigError(
            f"{source}: gateway.tls: {spec.cert} and {spec.key} cannot be used: {reason}",
            hint="look at them with: openssl x509 -noout -text -in CERT; openssl pkey -noout -in KEY",
        ) from None
    return Identity(
        context,
        b"\n".join((spec.min_version.value.encode(), chain, secret)),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
        spec.cert,
    )


def files(project: Project) -> tuple[Path, ...]:
    """The files that a certificate of the user's own is made of."""
    tls = TlsSpec() if project.gateway is None else project.gateway.tls
    return () if tls.dev or tls.cert is None or tls.key is None else (tls.cert, tls.key)


def _with_dev_files(gateway: GatewaySpec, env: Mapping[str, str], now: datetime) -> GatewaySpec:
    from dataclasses import replace

    file = Authority(data_folder(env)).certificate(gateway.host, now)
    return replace(gateway, tls=replace(gateway.tls, cert=file, key=file))


def _front(identity: Callable[[], Identity | None]) -> ssl.SSLContext:
    """A context that leaves each handshake to the identity of that moment.

    To load other files into a context that is in use would leave it with half of them where the
    second one fails; this way an identity is in use as a whole, or not at all.
    """
    import ssl

    front = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    front.set_alpn_protocols(["http/1.1"])

    def choose(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _front: ssl.SSLContext) -> None:
        current = identity()
        if current is not None:
            connection.context = current.context

    front.sni_callback = choose
    return front


class _EncryptedError(Exception):
    """OpenSSL wants a passphrase; without an answer it would ask on the terminal."""


def _refuse_to_ask() -> str:
    raise _EncryptedError


def _read(path: Path, key: str) -> bytes:
    try:
        return read_bounded(path, LARGEST_FILE)
    except FileNotFoundError:
        raise ConfigError(f"{key}: there is no file {path}") from None
    except FileTooLargeError:
        raise ConfigError(f"{key}: {path} is larger than 1 MiB; this is no PEM file") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ConfigError(f"{key}: {path} cannot be read: {reason}") from None
