"""Writes the definitions of a broker, as RabbitMQ 3.10 exports them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msctl.broker.core.broker import Broker
from msctl.broker.core.definitions.document import OPERATOR_POLICY
from msctl.broker.core.exchanges import Binding, Exchange
from msctl.broker.core.policies import Policy
from msctl.broker.core.queues import Queue
from msctl.broker.core.users import User
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.handshake import RABBITMQ_VERSION
from msctl.broker.protocol.json_tables import table_to_json

Json = dict[str, Any]


def export_definitions(broker: Broker) -> Json:
    """The definitions of the whole broker. Password hashes are among them."""
    return {
        name: list(section) if isinstance(section, Iterator) else section
        for name, section in definition_sections(broker).items()
    }


def definition_sections(broker: Broker) -> dict[str, Any]:
    """The sections of `export_definitions`; the long ones are iterators, to be read step by step."""
    vhosts = list(broker.vhosts.values())
    return {
        **export_settings(broker),
        "queues": (entry for vhost in vhosts for entry in _queues(vhost)),
        "exchanges": (entry for vhost in vhosts for entry in _exchanges(vhost)),
        "bindings": (entry for vhost in vhosts for entry in _bindings(vhost)),
    }


def export_settings(broker: Broker) -> Json:
    """The definitions without queues, exchanges and bindings."""
    vhosts = broker.vhosts.values()
    return {
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "RabbitMQ",
        "product_version": RABBITMQ_VERSION,
        "users": [_user(user) for user in broker.users.all()],
        "vhosts": [_vhost(vhost) for vhost in vhosts],
        "permissions": [
            {
                "user": user,
                "vhost": vhost,
                "configure": each.configure.text,
                "write": each.write.text,
                "read": each.read.text,
            }
            for (user, vhost), each in broker.users.permissions().items()
        ],
        "topic_permissions": [
            {"user": user, "vhost": vhost, "exchange": exchange, "write": each.write, "read": each.read}
            for (user, vhost, exchange), each in broker.users.topic_permissions().items()
        ],
        "parameters": [
            *(
                {"component": component, "vhost": vhost, "name": name, "value": value}
                for (component, vhost, name), value in broker.parameters.items()
            ),
            *(entry for vhost in vhosts for entry in _operator_policies(vhost)),
        ],
        "global_parameters": [
            {"name": name, "value": value} for name, value in broker.global_parameters.items()
        ],
        "policies": [entry for vhost in vhosts for entry in _policies(vhost)],
    }


def export_vhost(broker: Broker, vhost: VirtualHost) -> Json:
    """The definitions of one virtual host; the entries do not name it."""
    parameters = [
        {"component": component, "vhost": name, "name": key, "value": value}
        for (component, name, key), value in broker.parameters.items()
        if name == vhost.name
    ]
    return {
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "product_name": "RabbitMQ",
        "product_version": RABBITMQ_VERSION,
        "parameters": _without_vhost([*parameters, *_operator_policies(vhost)]),
        "policies": _without_vhost(_policies(vhost)),
        "queues": _without_vhost(_queues(vhost)),
        "exchanges": _without_vhost(_exchanges(vhost)),
        "bindings": _without_vhost(_bindings(vhost)),
    }


def _without_vhost(found: Iterator[Json] | list[Json]) -> list[Json]:
    return [{key: value for key, value in each.items() if key != "vhost"} for each in found]


def _user(user: User) -> Json:
    password = user.password
    return {
        "name": user.name,
        "password_hash": "" if password is None else password.encoded,
        "hashing_algorithm": "rabbit_password_hashing_sha256"
        if password is None
        else password.algorithm.value,
        "tags": list(user.tags),
        "limits": dict(user.limits),
    }


def _vhost(vhost: VirtualHost) -> Json:
    info = vhost.info
    metadata = {"description": info.description, "tags": list(info.tags)}
    return {"name": vhost.name, "limits": [], "metadata": metadata}


def _operator_policies(vhost: VirtualHost) -> Iterator[Json]:
    for policy in vhost.policies.operator.values():
        yield {
            "component": OPERATOR_POLICY,
            "vhost": vhost.name,
            "name": policy.name,
            "value": _policy_fields(policy),
        }


def _policies(vhost: VirtualHost) -> Iterator[Json]:
    for policy in vhost.policies.user.values():
        yield {"vhost": vhost.name, "name": policy.name, **_policy_fields(policy)}


def _policy_fields(policy: Policy) -> Mapping[str, Any]:
    return {
        "pattern": policy.pattern.text,
        "apply-to": policy.apply_to.value,
        "priority": policy.priority,
        "definition": dict(policy.definition),
    }


def _queues(vhost: VirtualHost) -> Iterator[Json]:
    for queue in list(vhost.queues.values()):  # read step by step, while others declare
        if queue.owner is None:
            yield {
                "vhost": vhost.name,
                "name": _shown(queue.name),
                "type": queue.declared.kind,
                "durable": queue.durable,
                "auto_delete": queue.auto_delete,
                "arguments": table_to_json(queue.arguments),
            }


def _exchanges(vhost: VirtualHost) -> Iterator[Json]:
    """The exchanges that clients declared; RabbitMQ leaves out internal ones, which loses them."""
    for exchange in list(vhost.routing.exchanges.values()):
        if exchange.name and not exchange.name.startswith("amq."):
            yield {
                "vhost": vhost.name,
                "name": _shown(exchange.name),
                "type": exchange.type.value,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "internal": exchange.internal,
                "arguments": table_to_json(exchange.arguments),
            }


def _bindings(vhost: VirtualHost) -> Iterator[Json]:
    for exchange in list(vhost.routing.exchanges.values()):
        for binding in list(exchange.live_bindings()):
            if not isinstance(binding.destination, Queue) or binding.destination.owner is None:
                yield _binding(vhost, exchange, binding)


def _binding(vhost: VirtualHost, source: Exchange, binding: Binding) -> Json:
    return {
        "source": _shown(source.name),
        "vhost": vhost.name,
        "destination": _shown(binding.destination.name),
        "destination_type": "exchange" if isinstance(binding.destination, Exchange) else "queue",
        "routing_key": _shown(binding.key),
        "arguments": table_to_json(binding.arguments),
    }


def _shown(name: str) -> str:
    """A name in text that JSON can hold; bytes that are no UTF-8 are escaped."""
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")
