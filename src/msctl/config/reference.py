"""The reference of msctl.toml, generated from the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msctl.config.reading.layers import variable
from msctl.config.render import toml_value
from msctl.config.schema.all_tables import PROJECT
from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.route_keys import INNER_TABLES, ROUTE
from msctl.config.schema.route_policy_keys import UPSTREAM_TLS
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.table import Key, Table
from msctl.config.schema.tls_keys import BROKER_TLS, TLS
from msctl.config.schema.websocket_keys import WEBSOCKET


class KeyDoc(NamedTuple):
    """One key: its table, its name, what it takes, its default and its variable (where it has them).

    `reload` is what `msctl reload` does about an edit of it.
    """

    table: str
    name: str
    expected: str
    default: str
    variable: str
    reload: str
    doc: str


def reference() -> list[KeyDoc]:
    """Every key, in the order of the file format."""
    return [_key_doc(table, key) for table in _tables() for key in table.all_keys()]


def to_markdown() -> str:
    """The reference in Markdown."""
    return "\n".join(_markdown_table(table) for table in _tables())


def _markdown_table(table: Table) -> str:
    header = f"[[{table.title}]]" if table is ROUTE else f"[{table.title}]"
    rows = "\n".join(_row(_key_doc(table, key)) for key in table.all_keys())
    columns = "| key | takes | default | variable | reload | |\n|---|---|---|---|---|---|"
    return f"### `{header}`\n\n{columns}\n{rows}\n"


def _tables() -> Iterator[Table]:
    yield from (PROJECT, SERVICE, ROUTE)
    for table in INNER_TABLES:
        yield table._replace(title=f"{ROUTE.title}.{table.title}")
    yield UPSTREAM_TLS
    yield WEBSOCKET
    yield from (GATEWAY, TLS, BROKER, BROKER_TLS, DASHBOARD)


def _key_doc(table: Table, key: Key) -> KeyDoc:
    default = table.default(key)
    if default in (None, (), {}) or key.type.is_table:
        shown = ""
    elif default == key.default:
        shown = default if isinstance(default, str) else toml_value(default)
    else:
        shown = toml_value(key.type.show(default))
    owner = table.title.removeprefix("services.").replace(".", "_")
    nested = table.title.startswith((ROUTE.title, UPSTREAM_TLS.title, WEBSOCKET.title))
    has_variable = not nested and not key.type.is_table
    return KeyDoc(
        table=table.title,
        name=key.name,
        expected=key.type.expected,
        default=shown,
        variable=variable(owner, key.name) if has_variable else "",
        reload="" if key.type.is_table and table.title in ("gateway", "broker") else key.reload.value,
        doc=key.doc,
    )


def _row(key: KeyDoc) -> str:
    cells = (f"`{key.name}`", key.expected, _code(key.default), _code(key.variable), key.reload, key.doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
