"""The reference of msctl.toml, made of the same tables that read it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from msctl.config.reading.sources import variable
from msctl.config.render import toml_value
from msctl.config.schema.keys import BROKER, DASHBOARD, GATEWAY, PROJECT, SERVICE, TLS
from msctl.config.schema.route_keys import INNER_TABLES, ROUTE
from msctl.config.schema.table import Key, Section


class KeyDoc(NamedTuple):
    """One key: its table, its name, what it takes, its default and its variable (where it has them).

    `reload` is what `msctl reload` does about an edit of it.
    """

    section: str
    name: str
    expected: str
    default: str
    variable: str
    reload: str
    doc: str


def reference() -> list[KeyDoc]:
    """Every key, in the order of the file format."""
    return [_key_doc(section, key) for section in _sections() for key in section.all_keys()]


def to_markdown() -> str:
    """The reference as one table for each section."""
    return "\n".join(_table(section) for section in _sections())


def _table(section: Section) -> str:
    header = f"[[{section.title}]]" if section is ROUTE else f"[{section.title}]"
    rows = "\n".join(_row(_key_doc(section, key)) for key in section.all_keys())
    columns = "| key | takes | default | variable | reload | |\n|---|---|---|---|---|---|"
    return f"### `{header}`\n\n{columns}\n{rows}\n"


def _sections() -> Iterator[Section]:
    yield from (PROJECT, SERVICE, ROUTE)
    for table in INNER_TABLES:
        yield table._replace(title=f"{ROUTE.title}.{table.title}")
    yield from (GATEWAY, TLS, BROKER, DASHBOARD)


def _key_doc(section: Section, key: Key) -> KeyDoc:
    default = section.default(key)
    if default in (None, (), {}) or key.type.is_table:
        shown = ""
    elif default == key.default:
        shown = default if isinstance(default, str) else toml_value(default)
    else:
        shown = toml_value(key.type.show(default))
    owner = section.title.removeprefix("services.").replace(".", "_")
    has_variable = not section.title.startswith(ROUTE.title) and not key.type.is_table
    return KeyDoc(
        section=section.title,
        name=key.name,
        expected=key.type.expected,
        default=shown,
        variable=variable(owner, key.name) if has_variable else "",
        reload="" if key.type.is_table and section.title == "gateway" else key.reload.value,
        doc=key.doc,
    )


def _row(key: KeyDoc) -> str:
    cells = (f"`{key.name}`", key.expected, _code(key.default), _code(key.variable), key.reload, key.doc)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
