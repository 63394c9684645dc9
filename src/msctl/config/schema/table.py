"""A table of the configuration as data: its keys, and how they are read and shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from enum import StrEnum
from typing import Any, NamedTuple

from msctl.config.problems import Problems
from msctl.config.schema.value_type import MismatchError, Type, describe
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean


class OnReload(StrEnum):
    """What `msctl reload` does about an edited key while a stack runs."""

    LIVE = "applied"
    """Running instances take the new value."""
    SCALE = "scales"
    """Instances are added or stopped; the others run on."""
    RESTART = "restarts"
    """New instances replace the running ones."""
    REFUSE = "needs down and up"
    """Reload refuses the edit."""


class Key(NamedTuple):
    """One key: its name in the file (and of the model's field), its type, its documentation.

    `default` is for a key without a field or without a fixed default in the model. `reload` is the only
    list of what is live: config/diff.py and the reference derive from it.
    """

    name: str
    type: Type
    doc: str
    default: object = None
    reload: OnReload = OnReload.RESTART


def on_reload(reload: OnReload, *keys: Key) -> tuple[Key, ...]:
    """The keys of a table that reload treats alike."""
    return tuple(key._replace(reload=reload) for key in keys)


class Table(NamedTuple):
    """The keys of one table, and the dataclass whose fields they fill.

    `inner` names a field that is a dataclass of its own, and the keys in this same table that fill it.
    """

    title: str
    spec: type[Any]
    keys: tuple[Key, ...]
    inner: tuple[str, Table] | None = None

    def all_keys(self) -> tuple[Key, ...]:
        return self.keys if self.inner is None else self.keys + self.inner[1].keys

    def names(self) -> list[str]:
        return [key.name for key in self.all_keys()]

    def key(self, name: str) -> Key | None:
        return next((key for key in self.all_keys() if key.name == name), None)

    def fields_of(self, *reload: OnReload) -> frozenset[str]:
        """The model's fields whose keys reload treats so; the inner one if that is true of all its keys."""
        names = {key.name for key in self.keys if key.reload in reload}
        if self.inner is not None and all(key.reload in reload for key in self.inner[1].keys):
            names.add(self.inner[0])
        return frozenset(names)

    def default(self, key: Key) -> object:
        """The default of the key; None if it has none."""
        if self.inner is not None and key in self.inner[1].keys:
            return self.inner[1].default(key)
        for field in fields(self.spec):
            if field.name == key.name:
                if field.default is not MISSING:
                    return field.default
                if field.default_factory is not MISSING:
                    return field.default_factory()
        return key.default

    def required(self) -> list[str]:
        """The keys that must be set."""
        named = {key.name for key in self.keys}
        return [
            field.name
            for field in fields(self.spec)
            if field.default is MISSING and field.default_factory is MISSING and field.name in named
        ]

    def read(self, raw: object, ref: KeyRef) -> dict[str, Any]:
        """Parse the table into fields of the model. Raises all its ConfigErrors, also for unknown keys."""
        if not isinstance(raw, dict):
            raise ref.error(f"expected a table, found {describe(raw)}")
        problems = Problems()
        for name in raw:
            if self.key(name) is None:
                problems.add((ref / name).error("unknown key", hint=did_you_mean(name, self.names())))
        found = {}
        for key in self.keys:
            if key.name in raw:
                with problems.noted():
                    found[key.name] = key.type.read(raw[key.name], ref / key.name)
        if self.inner is not None:
            field, table = self.inner
            inner = {name: value for name, value in raw.items() if table.key(name) is not None}
            if inner:
                with problems.noted():
                    found[field] = table.spec(**table.read(inner, ref))
        problems.check()
        return found

    def build(self, raw: object, ref: KeyRef, **given: Any) -> Any:
        """Parse the table into its dataclass; `given` are fields that are not keys."""
        found = self.read(raw, ref)
        missing = [name for name in self.required() if name not in found]
        if missing:
            key = self.key(missing[0])
            expected = "" if key is None else f", {key.type.expected}"
            raise ref.error(f'expected the key "{missing[0]}"{expected}')
        return self.spec(**found, **given)

    def show(self, spec: object) -> dict[str, object]:
        """Every key of the spec in TOML's types; None without a value."""
        shown = {}
        for key in self.all_keys():
            holder = self._holder(spec, key)
            if hasattr(holder, key.name):
                value = getattr(holder, key.name)
                is_unset = value is None and self.default(key) is None
                shown[key.name] = None if is_unset else key.type.show(value)
        return shown

    def show_set(self, spec: object) -> dict[str, object]:
        """The keys that differ from their default, in TOML's types."""
        return {
            name: value
            for name, value in self.show(spec).items()
            if (key := self.key(name)) is not None
            and getattr(self._holder(spec, key), name) != self.default(key)
        }

    def _holder(self, spec: object, key: Key) -> object:
        if self.inner is not None and key in self.inner[1].keys:
            return getattr(spec, self.inner[0])
        return spec


def table_type(table: Table, check: Callable[[Any], str | None] | None = None) -> Type:
    """The type of a key that holds a table; `check` returns an error message or None."""

    def parse(raw: object, ref: KeyRef) -> Any:
        if not isinstance(raw, dict):
            raise MismatchError
        spec = table.build(raw, ref)
        complaint = None if check is None else check(spec)
        if complaint is not None:
            raise MismatchError(complaint)
        return spec

    return Type(f"a table of {', '.join(table.names())}", parse, table.show_set, is_table=True)
