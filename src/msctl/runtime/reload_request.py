"""The inputs of a reload: the source of the project, the gateway's rules, and the edits that are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.config.schema.discovery_keys import DISCOVERY
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.table import OnReload
from msctl.errors import ConfigError
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.upstream_policy import UpstreamPolicy
from msctl.secret import Secret

_RESTART = "restart the stack: msctl down, then msctl up"


@dataclass(frozen=True, slots=True)
class ProjectSource:
    """How a project is read again, from which files, and whether those are watched."""

    load: Callable[[], Project]
    files: tuple[Path, ...] = ()
    watched: bool = False


class Rules(NamedTuple):
    """The configuration of a gateway; `secrets` holds the keys of routes that require authentication."""

    spec: GatewaySpec
    routes: Sequence[RouteSpec]
    services: Mapping[str, UpstreamPolicy]
    secrets: Mapping[str, Secret]


def rules_of(project: Project) -> Rules:
    """The rules of the project's gateway."""
    return Rules(
        project.gateway or GatewaySpec(),
        [route for spec in project.services for route in spec.routes],
        {spec.name: spec.policy for spec in project.services},
        project.secrets,
    )


def refuse(old: Project, new: Project) -> None:
    """Raise ConfigError for edits that a running stack cannot apply (OnReload.REFUSE in the schema)."""
    if (old.name, old.root) != (new.name, new.root):
        raise ConfigError(
            f"{new.source} now declares project {new.name!r}; the running stack is {old.name!r}",
            hint="restore its name, or restart: msctl --project NAME down, then msctl up",
        )
    for table, before, after in (
        (BROKER, old.broker, new.broker),
        (DASHBOARD, old.dashboard, new.dashboard),
        (DISCOVERY, old.discovery, new.discovery),
        (GATEWAY, old.gateway or GatewaySpec(), new.gateway or GatewaySpec()),
    ):
        for key in sorted(table.fields_of(OnReload.REFUSE)):
            if getattr(before, key) != getattr(after, key):
                raise ConfigError(
                    f"{new.source}: {table.title}.{key} was edited, which a running stack cannot apply",
                    hint=_RESTART,
                )
    if old.gateway and new.gateway and old.gateway.tls.enabled != new.gateway.tls.enabled:
        turned = "on" if new.gateway.tls.enabled else "off"
        raise ConfigError(
            f"{new.source}: HTTPS was switched {turned} in [gateway.tls], which a running stack cannot apply",
            hint=_RESTART,
        )
