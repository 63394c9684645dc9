"""What a reload goes by: where the project is read again, what the gateway takes up, what is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msctl.errors import ConfigError
from msctl.model.project import GatewaySpec, Project, RouteSpec, UpstreamPolicy
from msctl.secret import Secret


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a project comes from: how it is read again, from which files, and whether they are watched."""

    load: Callable[[], Project]
    files: tuple[Path, ...] = ()
    watched: bool = False


class Rules(NamedTuple):
    """What a gateway goes by; `secrets` holds the keys of routes that require authentication."""

    spec: GatewaySpec
    routes: Sequence[RouteSpec]
    services: Mapping[str, UpstreamPolicy]
    secrets: Mapping[str, Secret]


def rules_of(project: Project) -> Rules:
    """What the project's gateway goes by."""
    return Rules(
        project.gateway or GatewaySpec(),
        [route for spec in project.services for route in spec.routes],
        {spec.name: spec.policy for spec in project.services},
        project.secrets,
    )


def refuse(old: Project, new: Project) -> None:
    """Raise ConfigError for what a running stack cannot become."""
    if (old.name, old.root) != (new.name, new.root):
        raise ConfigError(
            f"{new.source} now declares another project, {new.name!r}; the stack that runs is {old.name!r}",
            hint="give it its name back, or start anew: msctl --project NAME down, then msctl up",
        )
    for table, edited in (
        ("broker", old.broker != new.broker),
        ("dashboard", old.dashboard != new.dashboard),
    ):
        if edited:
            raise ConfigError(
                f"{new.source}: [{table}] was edited, and that is not taken up while the stack runs",
                hint="start anew: msctl down, then msctl up",
            )
    if old.gateway and new.gateway and old.gateway.tls.enabled != new.gateway.tls.enabled:
        turned = "on" if new.gateway.tls.enabled else "off"
        raise ConfigError(
            f"{new.source}: HTTPS was switched {turned} in [gateway.tls], and that is not taken up while the "
            "stack runs",
            hint="start anew: msctl down, then msctl up",
        )
