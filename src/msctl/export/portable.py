"""The configuration and the files that an exported system takes along."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from msctl.config.render import to_toml
from msctl.config.schema.network_values import without_password
from msctl.config.secret_variables import literal_secrets
from msctl.export.kind import ExportError, Notice
from msctl.export.notices import discovery_notices
from msctl.export.workloads import Workload
from msctl.model.broker_spec import BrokerSpec
from msctl.model.project import DashboardSpec, DiscoverySpec, Project
from msctl.model.registry_url import parse_registry_url
from msctl.model.route_policies import BasicAuthSpec, StaticSpec, UpstreamTlsSpec
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY, BrokerMode
from msctl.model.tls_spec import TlsSpec

Holder = TypeVar("Holder", StaticSpec, BasicAuthSpec, UpstreamTlsSpec)

_REQUIRED = re.compile(r"(?<!\$)\$\{([A-Za-z_][A-Za-z0-9_]*)(?::?\?[^{}]*)?\}")
_IN_THE_IMAGE = frozenset({"python", "python3", "msctl", "sh"})


_BROKER_SETTINGS = {
    "max_message_size": "max_message_size in rabbitmq.conf",
    "memory_limit": "vm_memory_high_watermark in rabbitmq.conf",
    "durable": "its durable queues are always on disk",
    "definitions": "msctl export rabbitmq writes it",
    "tls": "msctl export rabbitmq writes it",
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
        secrets = literal_secrets(spec)
        env = {name: value for name, value in spec.env.items() if name not in secrets}
        spec, outside = _relative_files(_without_environment(spec, project.root), project.root)
        notices += outside
        # The target gives it the variables of its files.
        services.append(replace(spec, cwd=cwd, env=env, env_file=()))
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
    discovery, found = _portable_discovery(project)
    notices += found
    if discovery.url is not None:  # which addresses the target gives them, only the target knows
        services = [replace(spec, announce=None if spec.name == GATEWAY else False) for spec in services]
    portable = replace(
        project,
        services=tuple(services),
        gateway=gateway,
        broker=broker,
        dashboard=dashboard,
        discovery=discovery,
    )
    return to_toml(portable, write=_tolerant), tuple(notices)


def _tolerant(text: str) -> str:
    """A string whose `${...}` may be unset: each process reads the whole file, and has its own variables."""
    return _REQUIRED.sub(r"${\1-unset}", text)


def _portable_discovery(project: Project) -> tuple[DiscoverySpec, list[Notice]]:
    """Return the registry in which the exported gateway finds services of other machines."""
    spec = project.discovery
    if spec.url is None:
        return spec, []
    url = parse_registry_url(spec.url)
    elsewhere = next((one.name for one in project.services if one.only_discovered), None)
    if url.is_local and elsewhere is not None:
        raise ExportError(
            f"discovery.url: services.{elsewhere} is found in a registry that only this machine reaches",
            hint=f"name an address that the target reaches, or set url in [services.{elsewhere}]",
        )
    if url.is_local:
        return DiscoverySpec(), [Notice("discovery.url", "left out: only this machine reaches the registry")]
    notices = [*discovery_notices(project)]
    if url.user is not None:
        text = "user and password are left out: the gateway reads them from MSCTL_DISCOVERY_URL"
        notices.append(Notice("discovery.url", text))
    notices += [
        Notice(f"discovery.{name}", f"left out: give the gateway MSCTL_DISCOVERY_{name.upper()}")
        for name in ("ca", "cert", "key")
        if getattr(spec, name) is not None
    ]
    namespace = spec.namespace or project.name
    return DiscoverySpec(url=url.shown, namespace=namespace, ttl=spec.ttl), notices


def _without_environment(spec: ServiceSpec, root: Path | None) -> ServiceSpec:
    """Return the service with a program of a virtual environment by its name: an image has its own one."""
    if spec.command is None or not _in_environment(spec, root):
        return spec
    return replace(spec, command=(Path(spec.command[0]).name, *spec.command[1:]))


def _in_environment(spec: ServiceSpec, root: Path | None) -> bool:
    if not spec.command or "/" not in spec.command[0]:
        return False
    program = (spec.cwd or root or Path()) / spec.command[0]
    return (program.parent.parent / "pyvenv.cfg").is_file()


def _relative_files(spec: ServiceSpec, root: Path | None) -> tuple[ServiceSpec, list[Notice]]:
    """Return the service with the paths of its files relative to the project's folder."""
    notices: list[Notice] = []
    key = f"services.{spec.name}"

    def relative(holder: Holder | None, name: str, key: str) -> Holder | None:
        path = None if holder is None else getattr(holder, name)
        if holder is None or path is None or root is None:
            return holder
        within = inside(root, Path(path))
        if within is None:
            notices.append(Notice(f"{key}.{name}", f"{path} is outside the project's folder"))
            return holder
        change: dict[str, Any] = {name: type(path)(within)}
        return replace(holder, **change)

    routes = tuple(
        replace(
            route,
            static=relative(route.static, "root", f"{key}.routes.static"),
            basic_auth=relative(route.basic_auth, "file", f"{key}.routes.basic_auth"),
        )
        for route in spec.routes
    )
    tls = spec.tls
    for name in ("ca", "cert", "key"):
        tls = relative(tls, name, f"{key}.tls")
    static = relative(spec.static, "root", f"{key}.static")
    return replace(spec, routes=routes, tls=tls, static=static), notices


def _without_credentials(url: str) -> str:
    return re.sub(r"(?<=://)[^\s/?#@]*@", "", without_password(url), count=1)


def inside(root: Path, path: Path) -> Path | None:
    """Return `path` relative to the project's folder; None if it is outside."""
    root, path = root.absolute(), path.absolute()
    return path.relative_to(root) if path.is_relative_to(root) else None


def image_notices(found: Iterable[Workload], root: Path | None) -> Iterator[Notice]:
    """Name the programs that the image of what runs in Python does not have."""
    for workload in found:
        spec = workload.spec
        if spec.command is None or _in_environment(spec, root):  # its packages are installed in the image
            continue
        key, program = f"services.{spec.name}.command", spec.command[0]
        if "/" in program:  # a path is a file of the project, unless it is absolute
            if Path(program).is_absolute() and not Path(program).is_relative_to("/bin"):
                yield Notice(key, f"{program} is a path of this machine, which the image may not have")
        elif program not in _IN_THE_IMAGE:
            has = f'the image has Python and msctl; add "{program}" to the Dockerfile, '
            yield Notice(key, f"{has}or set image or dockerfile")
