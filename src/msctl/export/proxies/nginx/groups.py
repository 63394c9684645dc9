"""The upstream blocks, and what ties a client to a server of one.

msctl's gateway sets a cookie that names an instance. nginx sets one with a random value and hashes it: the
client comes back to the server that its first request went to, as long as that one is up. The same value
decides on the service of a canary, so that a client stays at its version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from msctl.export.proxies.nginx.syntax import (
    OWN,
    header_variable,
    in_quotes,
    literal,
    literal_regex,
    seconds,
    upstream_name,
)
from msctl.export.proxies.upstreams import ProxyTarget
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_policies import StickySpec
from msctl.model.upstream_policy import Balance


@dataclass(frozen=True, slots=True)
class Group:
    """An upstream block; `backup` gets the requests while no server of `target` answers."""

    name: str
    target: ProxyTarget
    balance: Balance
    hash_key: str | None = None
    backup: ProxyTarget | None = None


class Groups:
    """The upstream blocks of a file, each once, and the ties that they use."""

    def __init__(self, project: Project) -> None:
        self._gateway = project.gateway or GatewaySpec()
        self._found: dict[tuple[object, ...], Group] = {}
        self._ties: dict[StickySpec, int] = {}

    def group(self, target: ProxyTarget, sticky: StickySpec | None, balance: Balance | None) -> Group:
        key = self._hash_key(sticky)
        if target.weights and (sticky is None or sticky.cookie is None):
            key = None  # each service has one instance, and is chosen by weight
        return self._add(target, balance, key, None)

    def plain(self, target: ProxyTarget) -> Group:
        return self._add(target, None, None, None)

    def with_backup(self, target: ProxyTarget, backup: ProxyTarget, balance: Balance | None) -> Group:
        return self._add(target, balance, None, backup)

    def tie(self, sticky: StickySpec) -> int:
        """Return the number of the variables of a cookie or a field."""
        return self._ties.setdefault(sticky, len(self._ties))

    def split_key(self, sticky: StickySpec | None) -> str:
        """Return what decides on the service of a request."""
        if sticky is None or sticky.cookie is None:
            return "$request_id"
        return f"${OWN}tie_{self.tie(sticky)}"

    def _hash_key(self, sticky: StickySpec | None) -> str | None:
        if sticky is None:
            return None
        return "$remote_addr" if sticky.client else f"${OWN}tie_{self.tie(sticky)}"

    def _add(
        self, target: ProxyTarget, balance: Balance | None, hash_key: str | None, backup: ProxyTarget | None
    ) -> Group:
        balance = balance or self._gateway.balance
        key = (target, balance, hash_key, backup)
        if key not in self._found:
            name = upstream_name(target.service)
            if backup is not None:
                name += f"_or_{upstream_name(backup.service).removeprefix(OWN)}"
            base, number = name, 2
            while any(group.name == name for group in self._found.values()):
                name, number = f"{base}__{number}", number + 1
            self._found[key] = Group(name, target, balance, hash_key, backup)
        return self._found[key]

    def blocks(self) -> Iterator[str]:
        limits = (
            f"max_fails={self._gateway.breaker_failures} fail_timeout={seconds(self._gateway.breaker_open)}"
        )
        for group in self._found.values():
            yield f"upstream {group.name} {{"
            if group.hash_key is not None:
                yield f"    hash {group.hash_key} consistent;"
            elif group.balance is Balance.LEAST_LOADED:
                yield "    least_conn;"
            for target, suffix in ((group.target, ""), (group.backup, " backup")):
                for number, address in enumerate(() if target is None else target.addresses):
                    weight = f" weight={target.weights[number]}" if target and target.weights else ""
                    yield f"    server {address}{weight} {limits}{suffix};"
            yield "    keepalive 32;"
            yield "}"
            yield ""

    def tie_maps(self) -> Iterator[str]:
        for sticky, number in self._ties.items():
            yield ""
            if sticky.cookie is None:
                yield f"map {header_variable(sticky.header or '')} ${OWN}tie_{number} {{"
                yield "    '' $request_id;"
                yield f"    default {header_variable(sticky.header or '')};"
                yield "}"
                continue
            regex = cookie_regex(sticky.cookie)
            yield f"map $http_cookie ${OWN}tie_{number} {{"
            yield f'    "~{regex}(?<{OWN}tied_{number}>[^;\\"]+)" ${OWN}tied_{number};'
            yield "    default $request_id;"
            yield "}"
            cookie = f"{literal(sticky.cookie)}=$request_id; Path=/; HttpOnly; SameSite=Lax${OWN}secure"
            yield ""
            yield f"map $http_cookie ${OWN}tie_cookie_{number} {{"
            yield f'    "~{regex}[^;\\"]" \'\';'
            yield f'    default "{cookie}";'
            yield "}"
        if any(sticky.cookie is not None for sticky in self._ties):
            yield ""
            yield f"map $scheme ${OWN}secure {{"
            yield '    https "; Secure";'
            yield "    default '';"
            yield "}"


def cookie_regex(name: str) -> str:
    """Return a regular expression for double quotes that ends before the value of a cookie."""
    return f'{in_quotes(r"(?:^|;)[ ]*")}{literal_regex(name)}=\\"?'
