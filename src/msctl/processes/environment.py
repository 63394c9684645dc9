"""The environment of a service, and the expansion of variables in its command. Pure.

Precedence, highest first: the service's `env`, what msctl assigns, the shell that started the stack,
the service's `env_file`, the project's `.env`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePath

from msctl.config.reading.interpolate import fill
from msctl.config.reading.layers import SHELLS
from msctl.model.address import Address
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import is_balanced
from msctl.model.variables import about

_SCRIPT_FOLLOWS = re.compile(r"-[A-Za-z]*c")


def assigned_variables(
    spec: ServiceSpec,
    project: Project,
    instance: str,
    *,
    address: Address | None,
    amqp_url: str,
    locate: Callable[[str], Address | None],
) -> Mapping[str, str]:
    """What msctl assigns: $MSCTL_SERVICE, $MSCTL_INSTANCE, $AMQP_URL, $HOST and $PORT, and $NAME_URL,
    $NAME_HOST and $NAME_PORT of each dependency.

    `locate` returns the address a service listens on; a dependency without one is reached through the
    gateway, if it has a route.
    """
    found = {"MSCTL_SERVICE": spec.name, "MSCTL_INSTANCE": instance, "AMQP_URL": amqp_url}
    if address is not None:
        found |= {"HOST": address.host, "PORT": str(address.port)}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        if other is not None and (url := _url(other, project, locate)):
            found |= about(other.name, url)
    return found


def environment(
    spec: ServiceSpec,
    project: Project,
    *,
    shell: Mapping[str, str],
    assigned: Mapping[str, str],
    directory: Path | None = None,
) -> Mapping[str, str]:
    """All variables of a service. `directory` is its working directory, for PWD.

    A value of `env` may refer to any other variable, and to those of `env` that stand above it.
    """
    found = {**project.dotenv, **spec.file_variables, **shell, **assigned}
    if directory is not None:
        found["PWD"] = str(directory)
    for name, value in spec.env.items():
        found[name] = fill(value, found.get)
    return found


def fill_in(words: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """Replace `$NAME` and `${NAME}` in a command's words from `env`, and `$$` by `$`.

    Commands run without a shell, so msctl expands them. Unknown names stay unchanged. A shell's script (the
    word after -c) stays unchanged too: the shell expands it by its own rules.
    """
    script = _script(words)
    return [word if index == script else fill(word, env.get) for index, word in enumerate(words)]


def _script(words: Sequence[str]) -> int | None:
    """The index of the word that is a shell's script."""
    if not words or PurePath(words[0]).name not in SHELLS:
        return None
    options = (index for index, word in enumerate(words) if index and _SCRIPT_FOLLOWS.fullmatch(word))
    return next((index + 1 for index in options), None)


def _url(spec: ServiceSpec, project: Project, locate: Callable[[str], Address | None]) -> str | None:
    if spec.url is not None:
        address = locate(spec.name) if is_balanced(spec) else None
        return spec.urls[0] if address is None else address.url
    if (address := locate(spec.name)) is not None:
        return address.url if spec.scheme is None else f"{spec.scheme}://{address.url.partition('://')[2]}"
    gateway = locate("gateway")
    if project.gateway is None or gateway is None or not spec.routes:
        return None
    route = spec.routes[0]
    return gateway.url + (route.path.rstrip("/") if route.strip_prefix else "")
