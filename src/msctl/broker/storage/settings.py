"""Users, virtual hosts, permissions, parameters and policies in the log.

They are made over the management API. What the configuration defines is not stored: the configuration
is read at each start, and decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from msctl.broker.core.broker import Broker
from msctl.broker.core.definitions.document import OPERATOR_POLICY, Definitions, read_document
from msctl.broker.core.definitions.exporter import export_settings
from msctl.broker.core.definitions.importer import import_definitions
from msctl.broker.storage.storage import Storage

_SECTIONS = {
    "users": ("name",),
    "vhosts": ("name",),
    "permissions": ("user", "vhost"),
    "topic_permissions": ("user", "vhost", "exchange"),
    "parameters": ("component", "vhost", "name"),
    "global_parameters": ("name",),
    "policies": ("vhost", "name"),
}
"""The sections that are stored, each with the fields that identify an entry."""
_KIND, _KEY = "settings", "all"

Identity = tuple[str, ...]


class Settings:
    """The settings of a broker that are stored: those whose identity is not `configured`."""

    def __init__(self, broker: Broker) -> None:
        """What the broker has now counts as configured."""
        self._broker = broker
        self._storage: Storage | None = None
        self._saved = b""
        self.configured = set(_identities(export_settings(broker)))

    def restore(self, storage: Storage) -> list[str]:
        """Apply what is stored; returns a text for each problem."""
        self._storage = storage
        self._saved = storage.meta(_KIND).get(_KEY, b"")
        if not self._saved:
            return []
        try:
            document = self._own(json.loads(self._saved))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return [f"the stored users and policies cannot be read: {error}"]
        users = [user.name for user in self._broker.users.all()]
        found, problems = read_document(document, users=users, vhosts=list(self._broker.vhosts))
        for _ in import_definitions(self._broker, found, problems):
            pass
        return [f"stored settings: {each}" for each in problems.errors]

    def configure(self, definitions: Definitions) -> None:
        """Count the entries of these definitions as configured, too."""
        sections = {
            "users": [(name,) for name in definitions.users],
            "vhosts": [(name,) for name in definitions.vhosts],
            "permissions": definitions.permissions,
            "topic_permissions": definitions.topic_permissions,
            "parameters": definitions.parameters,
            "global_parameters": [(name,) for name in definitions.global_parameters],
        }
        self.configured.update((section, *key) for section, keys in sections.items() for key in keys)
        for each in definitions.policies:
            names = (each.vhost, each.policy.name)
            self.configured.add(
                ("parameters", OPERATOR_POLICY, *names) if each.operator else ("policies", *names)
            )

    def save(self) -> None:
        """Store the present settings if they have changed."""
        storage = self._storage
        if storage is None:
            return
        own = self._own(export_settings(self._broker))
        document = json.dumps(own, separators=(",", ":")).encode() if any(own.values()) else b""
        if document != self._saved:
            self._saved = document
            storage.set_meta(_KIND, _KEY, document or None)

    def _own(self, document: dict[str, Any]) -> dict[str, list[Any]]:
        """The entries that are not configured."""
        return {
            section: [
                entry
                for entry in document.get(section, ())
                if (section, *(entry[key] for key in keys)) not in self.configured
            ]
            for section, keys in _SECTIONS.items()
        }


def _identities(document: dict[str, Any]) -> Iterator[Identity]:
    for section, keys in _SECTIONS.items():
        for entry in document[section]:
            yield (section, *(entry[key] for key in keys))
