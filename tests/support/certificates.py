"""Certificates and keys of every kind, as files, made by the product's own authority or by hand."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from msctl.tls import issuing

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Certificates:
    """A folder, and an authority that signs what is put into it."""

    folder: Path
    signer: issuing.Signer

    @classmethod
    def of(cls, folder: Path) -> Certificates:
        made = cls(folder, issuing.make_signer(datetime.now(UTC) - timedelta(days=1000)))
        (folder / "ca.pem").write_bytes(made.signer.certificate_pem)
        return made

    def make(self, name: str, *, issued: datetime | None = None) -> tuple[Path, Path]:
        """`NAME.pem` and `NAME-key.pem`, for localhost; `issued` is when its year began."""
        key, mark, certificate = (
            issuing.issue(self.signer, issuing.ALWAYS, issued or datetime.now(UTC))
            .decode()
            .partition("-----BEGIN CERTIFICATE-----")
        )
        files = self.folder / f"{name}.pem", self.folder / f"{name}-key.pem"
        files[0].write_text(mark + certificate)
        files[1].write_text(key)
        return files

    def encrypt(self, key: Path) -> None:
        secret = load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(
            secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
        )

    def trusting(self) -> ssl.SSLContext:
        """What a client trusts that trusts this authority alone."""
        return trusting(self.folder / "ca.pem")


def trusting(authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context
