"""`broker.definitions` for a RabbitMQ that the stack runs: what the file has, and what the stack needs.

RabbitMQ creates neither its default user nor the virtual host `/` where it is given definitions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msctl.model.broker_url import BrokerUrl
from msctl.secret import Secret

Json = dict[str, Any]

_DEFAULTS: dict[str, Json] = {
    "queues": {"durable": True, "auto_delete": False, "arguments": {}},
    "exchanges": {"durable": True, "auto_delete": False, "internal": False, "arguments": {}},
    "bindings": {"destination_type": "queue", "routing_key": "", "arguments": {}},
    "policies": {"apply-to": "all", "priority": 0},
    "users": {"tags": []},
}
"""What definitions may leave out for the embedded broker, but not for RabbitMQ."""
_ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@dataclass(frozen=True, slots=True)
class NodeDefinitions:
    """The document for RabbitMQ, and the URL with which the stack logs in."""

    url: BrokerUrl
    document: bytes


ReadDefinitions = Callable[[BrokerUrl], NodeDefinitions | None]
"""Reads the definitions of a project, if it has any, for a node at this URL. Raises ConfigError."""


def node_definitions(
    declared: Mapping[str, Any], url: BrokerUrl, users: Mapping[str, Secret]
) -> NodeDefinitions:
    """`users` are those to create beside the file's: they may do everything everywhere."""
    document = {
        section: [{**_DEFAULTS.get(section, {}), **each} for each in entries]
        if isinstance(entries, Sequence) and not isinstance(entries, str)
        else entries
        for section, entries in declared.items()
    }
    vhosts = document.setdefault("vhosts", [])
    known = {each["name"] for each in vhosts}
    vhosts += [{"name": name} for name in dict.fromkeys(("/", url.vhost)) if name not in known]
    for name, password in users.items():
        user = {"name": name, "password": password.reveal(), "tags": ["administrator"]}
        document.setdefault("users", []).append(user)
        permissions = document.setdefault("permissions", [])
        permissions += [{"user": name, "vhost": each["name"], **_ALL} for each in vhosts]
    return NodeDefinitions(url, json.dumps(document).encode())
