"""The environment of a service, and the expansion of variables in its command. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from msctl.model.address import Address
from msctl.model.project import Project, ServiceSpec

_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|(?P<bare>[A-Za-z_]\w*)|\{(?P<braced>[A-Za-z_]\w*)\})", re.ASCII)
_SHELLS = frozenset({"sh", "ash", "bash", "dash", "fish", "ksh", "zsh"})
_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c")


def environment(
    spec: ServiceSpec,
    project: Project,
    *,
    address: Address | None,
    amqp_url: str,
    locate: Callable[[str], Address | None],
) -> Mapping[str, str]:
    """The variables $HOST, $PORT, $AMQP_URL, a $<NAME>_URL per dependency, and the service's `env`.

    `locate` returns the address a service listens on; a dependency without one is reached through the
    gateway, if it has a route. The service's `env` has precedence.
    """
    found: dict[str, str] = {"AMQP_URL": amqp_url}
    if address is not None:
        found |= {"HOST": address.host, "PORT": str(address.port)}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        if other is not None and (url := _url(other, project, locate)):
            found[variable(other.name)] = url
    return found | dict(spec.env)


def variable(service: str) -> str:
    """The name of the variable with a service's URL: ORDER_ITEMS_URL for order-items."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in service).upper() + "_URL"


def fill_in(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Replace `$NAME` and `${NAME}` in a command's words from `env`, and `$$` by `$`.

    Commands run without a shell, so msctl expands them. Unknown names stay unchanged. A shell's script (the
    word after -c) stays unchanged too: the shell expands it by its own rules.
    """
    script = _script(words)
    return [word if index == script else _replaced(word, env) for index, word in enumerate(words)]


def _script(words: Sequence[str]) -> int | None:
    """The index of the word that is a shell's script."""
    if not words or PurePath(words[0]).name not in _SHELLS:
        return None
    options = (index for index, word in enumerate(words) if index and _SCRIPT_FOLLOWS.fullmatch(word))
    return next((index + 1 for index in options), None)


def _replaced(word: str, env: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name = match["bare"] or match["braced"]
        return "$" if name is None else env.get(name, match[0])

    return _REFERENCE.sub(value, word) if "$" in word else word


def _url(spec: ServiceSpec, project: Project, locate: Callable[[str], Address | None]) -> str | None:
    if spec.url is not None:
        return spec.url
    if (address := locate(spec.name)) is not None:
        return address.url
    gateway = locate("gateway")
    if project.gateway is None or gateway is None or not spec.routes:
        return None
    route = spec.routes[0]
    return gateway.url + (route.path.rstrip("/") if route.strip_prefix else "")
