"""From files, variables and flags to a resolved Project, or to an error that names file, line and key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from msctl.config.origin import DEFAULT, KeyPath, Origin, Origins, Place
from msctl.config.reading import sources
from msctl.config.reading.check import check_name, check_project
from msctl.config.reading.project_ref import COURSE, ProjectIdentity, choose, project_name
from msctl.config.schema.keys import BROKER, DASHBOARD, GATEWAY, PROJECT, SERVICE, SINGLE
from msctl.config.schema.table import Section
from msctl.model.project import BrokerSpec, DashboardSpec, GatewaySpec, Project, ServiceSpec
from msctl.model.snapshots import GATEWAY as GATEWAY_NAME


@dataclass(frozen=True, slots=True)
class Resolved:
    """A project, and for each of its keys (`services.users.port`) where the value came from.

    `stray` has the variables that look like a key's and set nothing, each with the name meant.
    """

    project: Project
    origins: Mapping[str, Origin]
    stray: tuple[tuple[str, str], ...] = ()


def resolve_identity(
    path: Path | None,
    *,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None,
    overrides: Mapping[str, str] | None,
) -> ProjectIdentity:
    """`identity.identify` for a name that comes from more than the file at `path`. Raises ConfigError."""
    raw: sources.Tree = {}
    document = None
    if path is not None:
        document = sources.document(path, cwd)
        raw = {name: table for name, table in sources.tree(document).items() if name == PROJECT.title}
    root = None if path is None else path.parent
    origins = (
        Origins(document.display, document.text, root) if document else Origins(sources.BUILT_IN, "", None)
    )
    raw, _ = _layered(raw, origins, cwd=cwd, env=env, env_file=env_file)
    wanted = {key: value for key, value in (overrides or {}).items() if key.startswith(f"{PROJECT.title}.")}
    sources.overlay_flags(raw, origins, wanted)
    return ProjectIdentity(_name(raw, Place((), origins)), root)


def load(
    *,
    file: Path | None = None,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Resolved:
    """The configuration that holds here, later layers winning over earlier ones:

    defaults, the file (`file`, else `msctl.toml` from `cwd` up, else the built-in course system),
    `.env` (or `env_file`), `MSCTL_*` variables in `env`, and `overrides` (dotted key to string).
    Raises ConfigError.
    """
    document = sources.document(choose(file, cwd), cwd)
    origins = Origins(document.display, document.text, document.root)
    raw, given = _layered(sources.tree(document), origins, cwd=cwd, env=env, env_file=env_file)
    sources.overlay_flags(raw, origins, overrides or {})
    top = Place((), origins)
    sources.check_tables(raw, top)
    project = _project(raw, document, top, given)
    check_project(project, top)
    return Resolved(
        project, dict(_origins(raw, project, origins)), tuple(sources.stray_variables(raw, given))
    )


def _layered(
    raw: sources.Tree, origins: Origins, *, cwd: Path, env: Mapping[str, str], env_file: Path | None
) -> tuple[sources.Tree, sources.Variables]:
    given = sources.variables(origins.root, env, env_file, cwd)
    raw = sources.interpolate(raw, Place((), origins), given)
    sources.overlay_variables(raw, origins, given)
    return raw, given


def _project(raw: sources.Tree, document: sources.Document, top: Place, given: sources.Variables) -> Project:
    services = []
    for name, table in raw.get("services", {}).items():
        place = top / "services" / name
        check_name(name, place)
        services.append(ServiceSpec(name=name, **SERVICE.read(table, place)))
    gateway = _gateway(raw, top)
    if gateway is not None:
        services.append(
            ServiceSpec(
                name=GATEWAY_NAME, host=gateway.host, port=gateway.port, stop_timeout=gateway.drain_timeout
            )
        )
    return Project(
        name=_name(raw, top),
        root=document.root,
        source=document.source,
        services=tuple(services),
        gateway=gateway,
        broker=BrokerSpec(**BROKER.read(raw.get(BROKER.title, {}), top / BROKER.title)),
        dashboard=DashboardSpec(**DASHBOARD.read(raw.get(DASHBOARD.title, {}), top / DASHBOARD.title)),
        secrets=_secrets(services, given),
    )


def _secrets(services: Iterable[ServiceSpec], given: sources.Variables) -> dict[str, str]:
    """The variables that guarded routes name, as far as they are set."""
    names = {name for spec in services for route in spec.routes for name in route.key_variables}
    found = {name: given.get(name) for name in sorted(names)}
    return {name: value for name, value in found.items() if value is not None}


def _gateway(raw: sources.Tree, top: Place) -> GatewaySpec | None:
    found = GATEWAY.read(raw.get(GATEWAY.title, {}), top / GATEWAY.title)
    return GatewaySpec(**found) if found.pop("enabled", True) else None


def _name(raw: sources.Tree, top: Place) -> str:
    found = PROJECT.read(raw.get(PROJECT.title, {}), top / PROJECT.title)
    if "name" in found:
        return str(found["name"])
    root = top.origins.root
    return COURSE if root is None else project_name(root)


def _origins(raw: sources.Tree, project: Project, origins: Origins) -> Iterator[tuple[str, Origin]]:
    tables: list[tuple[tuple[str, ...], Section]] = list(SINGLE.items())
    declared = [spec.name for spec in project.services if spec.name != GATEWAY_NAME]
    tables[1:1] = [(("services", name), SERVICE) for name in declared]
    for path, section in tables:
        table = raw
        for part in path:
            table = table.get(part, {})
        for key in section.all_keys():
            at: KeyPath = (*path, key.name)
            if at in SINGLE:
                continue  # its keys have origins of their own
            yield ".".join((*path, key.name)), origins.of(at) if key.name in table else DEFAULT
