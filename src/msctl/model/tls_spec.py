"""The certificate with which a port speaks TLS. Frozen plain data, part of the Project."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class TlsVersion(StrEnum):
    """The oldest TLS version accepted."""

    TLS12 = "1.2"
    TLS13 = "1.3"


@dataclass(frozen=True, slots=True)
class TlsSpec:
    """The certificate with which a listener speaks HTTPS: one of the user's own, or with `dev` one that a
    local authority signs. With neither it speaks plain HTTP. `dev` wins.

    `cert` is a PEM file with the certificate and those between it and its authority, `key` one with its
    private key.
    """

    cert: Path | None = None
    key: Path | None = None
    dev: bool = False
    min_version: TlsVersion = TlsVersion.TLS12

    @property
    def enabled(self) -> bool:
        return self.dev or self.cert is not None


@dataclass(frozen=True, slots=True)
class BrokerTlsSpec(TlsSpec):
    """The certificate with which the embedded broker speaks AMQPS on `port`; with `only`, it has no other.

    `ca` is a PEM file with the authority that clients of the stack trust.
    """

    port: int = 5671
    only: bool = False
    ca: Path | None = None
