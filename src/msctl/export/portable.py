"""The configuration and the files that an exported system takes along."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from msctl.config.render import to_toml
from msctl.config.schema.values import without_password
from msctl.config.secret_variables import secret_variables
from msctl.export.kind import Notice
from msctl.export.workloads import local_services
from msctl.model.project import BrokerSpec, DashboardSpec, Project, TlsSpec
from msctl.model.snapshots import BrokerMode

_IN_THE_IMAGE = frozenset({"python", "python3", "msctl", "sh"})


_BROKER_SETTINGS = {
    "max_message_size": "max_message_size in rabbitmq.conf",
    "memory_limit": "vm_memory_high_watermark in rabbitmq.conf",
}
"""Keys of the embedded broker, and RabbitMQ's own."""


def portable_toml(project: Project) -> tuple[str, tuple[Notice, ...]]:
    """Return the resolved configuration as a `msctl.toml` for another machine, and what it leaves out.

    It has no secrets and no credentials in URLs; folders are relative to the project's.
    """
    notices: list[Notice] = []
    services = []
    for spec in project.services:
        cwd = spec.cwd
        if cwd is not None and project.root is not None:
            within = inside(project.root, cwd)
            if within is None:
                notices.append(Notice(f"services.{spec.name}.cwd", f"{cwd} is outside the project's folder"))
            cwd = within or cwd
        secrets = secret_variables(spec)
        env = {name: value for name, value in spec.env.items() if name not in secrets}
        services.append(replace(spec, cwd=cwd, env=env))
    url = _without_credentials(project.broker.url)
    broker = BrokerSpec(BrokerMode.EXTERNAL, url, url_given=project.broker.url_given)
    notices += [
        Notice(
            f"broker.{key}", f"left out: set it in the RabbitMQ that replaces the embedded broker ({where})"
        )
        for key, where in _BROKER_SETTINGS.items()
        if getattr(project.broker, key) != getattr(broker, key)
    ]
    # Only a stack has a dashboard.
    dashboard = DashboardSpec(enabled=False)
    gateway = project.gateway
    if gateway is not None and gateway.tls.enabled:
        notices.append(
            Notice("gateway.tls", "left out: the gateway serves HTTP behind a proxy that terminates HTTPS")
        )
        gateway = replace(gateway, tls=TlsSpec())
    portable = replace(project, services=tuple(services), gateway=gateway, broker=broker, dashboard=dashboard)
    return to_toml(portable), tuple(notices)


def _without_credentials(url: str) -> str:
    return re.sub(r"(?<=://)[^\s/?#@]*@", "", without_password(url), count=1)


def inside(root: Path, path: Path) -> Path | None:
    """Return `path` relative to the project's folder; None if it is outside."""
    root, path = root.absolute(), path.absolute()
    return path.relative_to(root) if path.is_relative_to(root) else None


def image_notices(project: Project) -> Iterator[Notice]:
    """Name the programs that the image does not have."""
    for spec in local_services(project):
        if spec.command is None or "/" in spec.command[0]:  # a path is a file of the project
            continue
        if spec.command[0] not in _IN_THE_IMAGE:
            yield Notice(
                f"services.{spec.name}.command",
                f'the image has Python and msctl; add "{spec.command[0]}" to the Dockerfile',
            )
