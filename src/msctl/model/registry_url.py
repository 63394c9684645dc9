"""The URL of a registry of services: parsed, and shown without its password. Pure.

A registry that is a cluster has several addresses, separated by commas. Everything up to the last `@` is user
and password, so that neither ends up in an address, a log or an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import quote, unquote

from msctl.errors import ConfigError
from msctl.model.address import Address, is_loopback
from msctl.secret import Secret

_HINT = 'write it as "etcd://host:2379" or "consul://host:8500"; etcds:// and consuls:// speak TLS'
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?")
_HIGHEST_PORT = 65535


class RegistryKind(StrEnum):
    """The registries that msctl speaks to."""

    ETCD = "etcd"
    CONSUL = "consul"


PORTS = {RegistryKind.ETCD: 2379, RegistryKind.CONSUL: 8500}


@dataclass(frozen=True, slots=True)
class RegistryUrl:
    """The addresses of a registry and the credentials for it."""

    kind: RegistryKind
    addresses: tuple[Address, ...]
    user: str | None = None
    password: Secret = field(default_factory=lambda: Secret(""))

    @property
    def tls(self) -> bool:
        return self.addresses[0].tls

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine, at an address of this machine alone."""
        return all(is_loopback(address.host) for address in self.addresses)

    @property
    def text(self) -> str:
        """The URL with user and password, encoded."""
        scheme, separator, rest = self.shown.partition("://")
        if self.user is None:
            return self.shown
        login = f"{quote(self.user, safe='')}:{quote(self.password.reveal(), safe='')}"
        return f"{scheme}{separator}{login}@{rest}"

    @property
    def shown(self) -> str:
        """The URL without user and password."""
        scheme = f"{self.kind}s" if self.tls else self.kind.value
        return f"{scheme}://{','.join(map(str, self.addresses))}"


def parse_registry_url(text: str) -> RegistryUrl:
    """Parse the URL; raises ConfigError without the password in its message."""
    scheme, separator, rest = text.strip().partition("://")
    plain = scheme.removesuffix("s") if scheme in ("etcds", "consuls") else scheme
    if not separator or plain not in [kind.value for kind in RegistryKind]:
        found = f"the scheme {scheme}://" if separator else "no scheme"
        raise ConfigError(f"the registry's URL has {found}, expected etcd:// or consul://", hint=_HINT)
    kind = RegistryKind(plain)
    login, at, hosts = rest.rpartition("@")
    addresses = []
    for part in hosts.removesuffix("/").split(","):
        match = _ADDRESS.fullmatch(part.strip())
        port = PORTS[kind] if match is None or match[2] is None else int(match[2])
        if match is None or not 0 < port <= _HIGHEST_PORT:
            raise ConfigError("the registry's URL has an invalid host or port", hint=_HINT)
        addresses.append(Address(match[1].strip("[]"), port, tls=scheme != plain))
    user, _, password = login.partition(":")
    if at and kind is RegistryKind.CONSUL:
        raise ConfigError(
            "the registry's URL has a user, which Consul does not know", hint="set [discovery] token instead"
        )
    if at and not user:
        raise ConfigError("the registry's URL has a password without a user", hint=_HINT)
    return RegistryUrl(kind, tuple(addresses), unquote(user) or None, Secret(unquote(password)))
