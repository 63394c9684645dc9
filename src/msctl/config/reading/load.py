"""Turns files, variables and flags into a Project, or an error that names file, line and key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msctl.config.problems import Problems
from msctl.config.project_name import folder_project_name
from msctl.config.reading import layers
from msctl.config.reading.check import check_name, check_project
from msctl.config.reading.project_ref import COURSE, LARGEST_FILE, ProjectFile, ProjectRef, choose
from msctl.config.reading.shell_command import with_shell
from msctl.config.schema.all_tables import PROJECT, SINGLE
from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.config.schema.discovery_keys import DISCOVERY
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.program_values import marked_secrets
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.table import Table
from msctl.config.value_source import DEFAULT, KeyPath, KeyRef, ValueSource, ValueSources
from msctl.files import FileTooLargeError, read_bounded
from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import DashboardSpec, DiscoverySpec, Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import Reference, ServiceSpec
from msctl.model.snapshots import GATEWAY as GATEWAY_NAME
from msctl.secret import Secret


@dataclass(frozen=True, slots=True)
class Resolved:
    """A project, and the source of each of its keys (`services.users.port`).

    `unknown_variables` are those that look like a key's and set nothing, each with the name meant.
    """

    project: Project
    sources: Mapping[str, ValueSource]
    unknown_variables: tuple[tuple[str, str], ...] = ()


def resolve_identity(
    file: ProjectFile | None,
    *,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None,
    overrides: Mapping[str, str] | None,
) -> ProjectRef:
    """`identity.identify` for a name that comes from more than `file`. Raises ConfigError."""
    raw: layers.Tree = {}
    document = None
    if file is not None:
        document = layers.document(file, cwd)
        raw = {name: table for name, table in layers.tree(document).items() if name == PROJECT.title}
    root = None if file is None else file.path.parent
    sources = (
        ValueSources(document.display, document.text, root)
        if document
        else ValueSources(layers.BUILT_IN, "", None)
    )
    problems = Problems()
    raw, *_ = _layered(raw, sources, file, problems, cwd=cwd, env=env, env_file=env_file)
    problems.check()
    wanted = {key: value for key, value in (overrides or {}).items() if key.startswith(f"{PROJECT.title}.")}
    layers.overlay_flags(raw, sources, wanted)
    return ProjectRef(_name(raw, KeyRef((), sources)), root)


def load(
    *,
    file: Path | None = None,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> Resolved:
    """Load the configuration from its layers, of which a later one wins:

    defaults, the file (`file`, else `msctl.toml` from `cwd` up, else the built-in course system),
    `.env` (or `env_file`), `MSCTL_*` variables in `env`, and `overrides` (dotted key to string).
    Raises ConfigError for all that is wrong with the keys, or else for all conflicts between them.
    """
    chosen = choose(file, cwd)
    document = layers.document(chosen, cwd)
    sources = ValueSources(document.display, document.text, document.root)
    written = layers.tree(document)
    problems = Problems()
    raw, given, found = _layered(written, sources, chosen, problems, cwd=cwd, env=env, env_file=env_file)
    layers.overlay_flags(raw, sources, overrides or {})
    top = KeyRef((), sources)
    raw = layers.check_tables(raw, top, problems)
    references = [each for each in found if not sources.is_overlaid(each.key)]
    project = _project(raw, references, document, top, given, cwd, problems)
    check_project(project, top)
    return Resolved(
        project, dict(_sources(raw, project, sources)), tuple(layers.unknown_variables(raw, given))
    )


def _layered(
    raw: layers.Tree,
    sources: ValueSources,
    file: ProjectFile | None,
    problems: Problems,
    *,
    cwd: Path,
    env: Mapping[str, str],
    env_file: Path | None,
) -> tuple[layers.Tree, layers.Variables, tuple[Reference, ...]]:
    given = layers.variables(file, env, env_file, cwd)
    raw, references = layers.interpolate(raw, KeyRef((), sources), given, problems)
    layers.overlay_variables(raw, sources, given)
    return raw, given, references


def _project(
    raw: layers.Tree,
    references: Sequence[Reference],
    document: layers.Document,
    top: KeyRef,
    given: layers.Variables,
    cwd: Path,
    problems: Problems,
) -> Project:
    """Read every table; raises `problems` with what is wrong with any of them."""
    services: list[ServiceSpec] = []
    gateway, name, broker, dashboard, discovery = None, "", BrokerSpec(), DashboardSpec(), DiscoverySpec()
    with problems.noted():
        name = _name(raw, top)
    for service, table in raw.get("services", {}).items():
        with problems.noted():
            spec = _service(service, table, top / "services" / service, given, cwd)
            services.append(replace(spec, references=_references_of(service, references)))
    with problems.noted():
        gateway = _gateway(raw, top)
    with problems.noted():
        broker = _broker(raw, top)
    with problems.noted():
        dashboard = DashboardSpec(**DASHBOARD.read(raw.get(DASHBOARD.title, {}), top / DASHBOARD.title))
    with problems.noted():
        discovery = DiscoverySpec(**DISCOVERY.read(raw.get(DISCOVERY.title, {}), top / DISCOVERY.title))
    problems.check()
    if discovery.url is not None:
        services = [_found(spec) for spec in services]
    if gateway is not None:
        services = _routed(_reachable(services))
        services.append(
            ServiceSpec(
                name=GATEWAY_NAME, host=gateway.host, port=gateway.port, stop_timeout=gateway.drain_timeout
            )
        )
    return Project(
        name=name,
        root=document.root,
        source=document.source,
        services=tuple(services),
        gateway=gateway,
        broker=broker,
        dashboard=dashboard,
        discovery=discovery,
        secrets=_secrets(services, given) | _users(services, top),
        dotenv={name: value for name, (value, _) in given.from_file.items()},
        references=tuple(each for each in references if each.key[0] != "services"),
    )


def _references_of(service: str, references: Iterable[Reference]) -> tuple[Reference, ...]:
    """The references in a service's table, with paths from there."""
    return tuple(
        replace(each, key=each.key[2:]) for each in references if each.key[:2] == ("services", service)
    )


def _service(name: str, table: Any, ref: KeyRef, given: layers.Variables, cwd: Path) -> ServiceSpec:
    check_name(name, ref)
    fields = SERVICE.read(table, ref)
    spec = with_shell(ServiceSpec(name=name, **fields), table.get("command"), ref)
    if spec.env_file:
        found = layers.file_variables(spec.env_file, ref / "env_file", given, cwd)
        spec = replace(spec, file_variables=found)
    if spec.env:
        spec = replace(spec, secret_env=marked_secrets(table.get("env")))
    return spec


def _found(spec: ServiceSpec) -> ServiceSpec:
    """The service, which a registry knows if nothing here says where it runs."""
    declared = (spec.app, spec.command, spec.url, spec.static)
    return replace(spec, discover=True) if declared == (None,) * len(declared) else spec


def _routed(services: list[ServiceSpec]) -> list[ServiceSpec]:
    """The services, those marked that get requests of another service's routes."""
    named = {name for spec in services for route in spec.routes for name in route.other_services}
    return [replace(spec, routed=True) if spec.name in named else spec for spec in services]


def _reachable(services: list[ServiceSpec]) -> list[ServiceSpec]:
    """Give the only hosted service of a project all paths if no request could reach it otherwise."""
    hosted = [spec for spec in services if spec.app is not None]
    if len(hosted) != 1 or hosted[0].port is not None or any(spec.routes for spec in services):
        return services
    route = RouteSpec("/", hosted[0].name)
    return [replace(spec, routes=(route,)) if spec is hosted[0] else spec for spec in services]


def _broker(raw: layers.Tree, top: KeyRef) -> BrokerSpec:
    table = raw.get(BROKER.title, {})
    spec = BrokerSpec(
        **BROKER.read(table, top / BROKER.title),
        url_given="url" in table,
        durable_given="durable" in table,
    )
    if spec.username is None and spec.password is None:
        return spec
    url = parse_url(spec.url, any_port=True).changed(user=spec.username, password=spec.password)
    return replace(spec, url=url.text, username=None, password=None)


def _secrets(services: Iterable[ServiceSpec], given: layers.Variables) -> dict[str, Secret]:
    """The values of the variables that guarded routes name."""
    names = {name for spec in services for route in spec.routes for name in route.key_variables}
    found = {name: given.get(name) for name in sorted(names)}
    return {name: Secret(value) for name, value in found.items() if value is not None}


def _users(services: Iterable[ServiceSpec], top: KeyRef) -> dict[str, Secret]:
    """The contents of the files that guarded routes name. Raises ConfigError."""
    found: dict[str, Secret] = {}
    for spec in services:
        for index, route in enumerate(spec.routes):
            for path in route.key_files:
                ref = top / "services" / spec.name / "routes" / index / "basic_auth" / "file"
                found[str(path)] = Secret(_text(path, ref))
    return found


def _text(path: Path, ref: KeyRef) -> str:
    try:
        return read_bounded(path, LARGEST_FILE).decode()
    except FileNotFoundError:
        raise ref.error(f"no such file: {path}") from None
    except FileTooLargeError:
        raise ref.error(f"{path} is larger than {LARGEST_FILE // 1024**2} MiB") from None
    except OSError as error:
        raise ref.error(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError:
        raise ref.error(f"{path} is not UTF-8") from None


def _gateway(raw: layers.Tree, top: KeyRef) -> GatewaySpec | None:
    found = GATEWAY.read(raw.get(GATEWAY.title, {}), top / GATEWAY.title)
    return GatewaySpec(**found) if found.pop("enabled", True) else None


def _name(raw: layers.Tree, top: KeyRef) -> str:
    found = PROJECT.read(raw.get(PROJECT.title, {}), top / PROJECT.title)
    if "name" in found:
        return str(found["name"])
    root = top.sources.root
    return COURSE if root is None else folder_project_name(root)


def _sources(raw: layers.Tree, project: Project, sources: ValueSources) -> Iterator[tuple[str, ValueSource]]:
    tables: list[tuple[tuple[str, ...], Table]] = list(SINGLE.items())
    declared = [spec.name for spec in project.services if spec.name != GATEWAY_NAME]
    tables[1:1] = [(("services", name), SERVICE) for name in declared]
    for path, table in tables:
        found = raw
        for part in path:
            found = found.get(part, {})
        for key in table.all_keys():
            at: KeyPath = (*path, key.name)
            if at in SINGLE:
                continue  # its keys have sources of their own
            yield ".".join((*path, key.name)), sources.of(at) if key.name in found else DEFAULT
