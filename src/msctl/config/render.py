"""Renders a resolved project for `msctl config`: as TOML, as a document, with sources."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from msctl.config.reading.load import Resolved
from msctl.config.schema.all_tables import PROJECT
from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.config.schema.discovery_keys import DISCOVERY
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.network_values import without_password
from msctl.config.schema.service_keys import SERVICE
from msctl.config.secret_variables import Write, in_place, literal_secrets, secret_references
from msctl.config.value_source import ValueSource
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY as GATEWAY_NAME
from msctl.secret import MASK, Secret

_BARE_KEY = r"[A-Za-z0-9_-]+"
_CONTROL = r"[\x00-\x1f\x7f]"
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Explained(NamedTuple):
    """One key: its value in TOML (empty if it has none), and its source."""

    key: str
    value: str
    source: ValueSource


def to_document(project: Project, *, show_secrets: bool = False) -> dict[str, object]:
    """Every key of every table, spelt as in the file; null without a value."""
    project = project if show_secrets else redacted(project)
    return {
        "schema": 1,
        "source": project.source,
        "root": None if project.root is None else str(project.root),
        "project": PROJECT.show(project),
        "services": {
            spec.name: SERVICE.show(spec) if show_secrets else without_secrets(spec, SERVICE.show(spec))
            for spec in project.services
            if spec.name != GATEWAY_NAME
        },
        "gateway": None if project.gateway is None else GATEWAY.show(project.gateway),
        "broker": BROKER.show(project.broker),
        "dashboard": DASHBOARD.show(project.dashboard),
        "discovery": DISCOVERY.show(project.discovery),
    }


def to_toml(project: Project, *, show_secrets: bool = False, write: Write | None = None) -> str:
    """A `msctl.toml` that means this project; of services and the gateway what is not at its default.

    Without `show_secrets`, strings keep their `${...}`, as `write` spells them for the reader.
    """
    project = project if show_secrets else redacted(project)
    tables: dict[str, Mapping[str, object]] = {"project": PROJECT.show(project)}
    for spec in project.services:
        if spec.name != GATEWAY_NAME:
            table = SERVICE.show_set(spec)
            if not show_secrets:
                table = without_secrets(
                    spec, table, _Unread if write is None else lambda text: _Unread(write(text))
                )
            tables[f"services.{spec.name}"] = table
    tables["gateway"] = {"enabled": False}
    if project.gateway is not None:
        tables["gateway"] = {"port": project.gateway.port, **GATEWAY.show_set(project.gateway)}
    broker = BROKER.show(project.broker)
    tables["broker"] = {key: broker[key] for key in ("mode", "url")} | BROKER.show_set(project.broker)
    tables["dashboard"] = {"port": project.dashboard.port, **DASHBOARD.show_set(project.dashboard)}
    if found := DISCOVERY.show_set(project.discovery):
        tables["discovery"] = found
    return "\n".join(_table(name, table) for name, table in tables.items())


def explain(resolved: Resolved, *, show_secrets: bool = False) -> list[Explained]:
    """Every key with its value and source, in the order of the schema."""
    document = to_document(resolved.project, show_secrets=show_secrets)
    document["gateway"] = document["gateway"] or {}
    rows = []
    for key, source in resolved.sources.items():
        value: object = document
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if key == "gateway.enabled":
            value = resolved.project.gateway is not None
        rows.append(Explained(key, "" if value is None else toml_value(value), source))
    return rows


def redacted(project: Project) -> Project:
    """The project with `***` for each password and secret variable, and without the keys of its routes.

    Strings with `${...}` are put in place by `without_secrets`, once it is written as a table.
    """
    page, mask = project.dashboard, Secret(MASK)
    found = project.discovery
    return replace(
        project,
        services=tuple(map(_redacted_service, project.services)),
        broker=replace(project.broker, url=without_password(project.broker.url)),
        dashboard=replace(page, password=page.password and mask, metrics_key=page.metrics_key and mask),
        discovery=replace(
            found,
            url=None if found.url is None else without_password(found.url),
            token=found.token and mask,
        ),
        secrets={},
    )


def without_secrets(spec: ServiceSpec, table: Mapping[str, object], write: Write = str) -> dict[str, object]:
    """A table of a redacted service with `${...}` in the place of what it became."""
    return in_place(table, secret_references(spec), write)


def _redacted_service(spec: ServiceSpec) -> ServiceSpec:
    secrets = literal_secrets(spec)
    env = {name: MASK if name in secrets else value for name, value in spec.env.items()}
    return replace(spec, env=env, url=",".join(map(without_password, spec.urls)) or None)


def toml_value(value: object) -> str:
    """A value on one line of TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, Mapping):
        pairs = ", ".join(
            f"{_key(name)} = {toml_value(item)}" for name, item in value.items() if item is not None
        )
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    return _string(str(value))


def _table(name: str, table: Mapping[str, object]) -> str:
    lines = [f"{_key(key)} = {_literal(value)}\n" for key, value in table.items() if value is not None]
    return f"[{name}]\n{''.join(lines)}"


class _Unread(str):
    """A string as it is written in a file, with its `${...}`."""


def _literal(value: object) -> str:
    """A value that reads back as itself."""
    return toml_value(_escaped(value))


def _escaped(value: object) -> object:
    """Escape `${` against interpolation in every string."""
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_escaped(item) for item in value]
    if isinstance(value, str) and not isinstance(value, _Unread) and ("${" in value or "$$" in value):
        return value.replace("$", "$$")
    return value


def _key(name: str) -> str:
    return name if re.fullmatch(_BARE_KEY, name) else _string(name)


def _string(text: str) -> str:
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{re.sub(_CONTROL, lambda match: _escape(match.group()), text)}"'


def _escape(character: str) -> str:
    return _ESCAPES.get(character, f"\\u{ord(character):04x}")
