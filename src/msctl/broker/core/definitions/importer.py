"""Applies definitions to a broker, in RabbitMQ's order. Pure.

As in RabbitMQ an import adds and updates: queues, exchanges and virtual hosts that exist stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from msctl.broker.core.broker import Broker
from msctl.broker.core.definitions.document import (
    VHOST_LIMITS,
    BindingDefinition,
    Definitions,
    ExchangeDefinition,
    QueueDefinition,
)
from msctl.broker.core.definitions.entries import Problems
from msctl.broker.core.policies import Policy
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.replies import AmqpError

TopologyDefinition = ExchangeDefinition | QueueDefinition | BindingDefinition
PER_STEP = 200
"""Users, queues, exchanges, bindings and the like of one step."""


def import_definitions(broker: Broker, definitions: Definitions, problems: Problems) -> Iterator[None]:
    """Apply definitions in steps, so that the caller can do other things between them."""
    for done, step in enumerate(_steps(broker, definitions, problems), 1):
        step()
        if done % PER_STEP == 0:
            yield
    yield


def _steps(broker: Broker, definitions: Definitions, problems: Problems) -> Iterator[Callable[[], object]]:
    """What an import does, one thing after the other."""
    users = broker.users
    for user in definitions.users.values():
        yield partial(users.put, user)
    for vhost, info in definitions.vhosts.items():
        yield partial(broker.add_vhost, vhost, info)
    for (name, vhost), permissions in definitions.permissions.items():
        yield partial(users.permit, name, vhost, permissions)
    for (name, vhost, exchange), topic in definitions.topic_permissions.items():
        yield partial(users.permit_topic, name, vhost, exchange, topic)
    broker.global_parameters.update(definitions.global_parameters)
    for (component, vhost, name), value in definitions.parameters.items():
        yield partial(_set_parameter, broker, component, vhost, name, value)
    yield partial(_import_policies, broker, definitions)
    topology: list[TopologyDefinition] = [
        *definitions.exchanges,
        *definitions.queues,
        *definitions.bindings,
    ]
    for each in topology:
        yield partial(_declare, broker, each, problems)


def report(broker: Broker, definitions: Definitions, problems: Problems) -> None:
    """Log what could not be imported, what was skipped, and the policies that match nothing."""
    for each in problems.errors:
        broker.log("error", f"{definitions.source}: {each}")
    for each in problems.warnings:
        broker.log("warning", f"{definitions.source}: {each}")
    for path, policy in unmatched_policies(broker, definitions):
        broker.log(
            "warning",
            f"{definitions.source}: {path}: policy {policy.name!r} matches no queue or exchange so far",
        )


def _set_parameter(broker: Broker, component: str, vhost: str, name: str, value: Any) -> None:
    broker.parameters[component, vhost, name] = value
    if component == VHOST_LIMITS and vhost in broker.vhosts:
        _limit(broker, broker.vhosts[vhost], value)


def _limit(broker: Broker, vhost: VirtualHost, limits: dict[str, int]) -> None:
    """Apply max-connections and max-queues; a negative number is no limit."""
    connections, queues = (limits.get(key, -1) for key in ("max-connections", "max-queues"))
    vhost.limits = replace(
        broker.limits,
        connections=broker.limits.connections if connections < 0 else connections,
        queues=broker.limits.queues if queues < 0 else queues,
    )


def _import_policies(broker: Broker, definitions: Definitions) -> None:
    changed: dict[str, None] = {}
    for each in definitions.policies:
        vhost = broker.vhosts.get(each.vhost)
        if vhost is not None:
            vhost.policies.table(operator=each.operator)[each.policy.name] = each.policy
            changed[each.vhost] = None
    for name in changed:
        broker.vhosts[name].apply_policies()


def _declare(broker: Broker, wanted: TopologyDefinition, problems: Problems) -> None:
    vhost = broker.vhosts.get(wanted.vhost)
    if vhost is None:
        problems.add(wanted.path, f"virtual host {wanted.vhost!r} has been deleted")
        return
    known = vhost.queues if isinstance(wanted, QueueDefinition) else vhost.routing.exchanges
    existed = not isinstance(wanted, BindingDefinition) and wanted.name in known
    try:
        if isinstance(wanted, BindingDefinition):
            _bind(vhost, wanted, problems)
        elif isinstance(wanted, QueueDefinition):
            vhost.declare_queue(
                wanted.name,
                None,
                durable=wanted.durable,
                exclusive=False,
                auto_delete=wanted.auto_delete,
                arguments=wanted.arguments,
            )
        else:
            vhost.routing.declare(
                wanted.name,
                wanted.kind,
                passive=False,
                durable=wanted.durable,
                auto_delete=wanted.auto_delete,
                internal=wanted.internal,
                arguments=wanted.arguments,
            )
    except AmqpError as error:
        if existed:
            problems.add(wanted.path, f"{error.detail}; it stays as it is", fatal=False)
        else:
            problems.add(wanted.path, error.detail)


def _bind(vhost: VirtualHost, wanted: BindingDefinition, problems: Problems) -> None:
    """Bind; a missing end is a warning, because RabbitMQ skips such a binding without a word."""
    known = vhost.queues if wanted.kind == "queue" else vhost.routing.exchanges
    for key, found in (
        ("source", wanted.source in vhost.routing.exchanges),
        ("destination", wanted.destination in known),
    ):
        if not found:
            kind = "exchange" if key == "source" else wanted.kind
            name = wanted.source if key == "source" else wanted.destination
            problems.add(
                f"{wanted.path}.{key}", f"{kind} {name!r} does not exist; the binding is skipped", fatal=False
            )
            return
    vhost.routing.bind(wanted.source, wanted.destination, wanted.kind, wanted.key, wanted.arguments, None)


def remove_what_is_gone(broker: Broker, before: Definitions, after: Definitions) -> list[str]:
    """Remove users, permissions and policies that only `before` has; return what was removed.

    Virtual hosts, queues and exchanges stay: their messages would be lost.
    """
    removed = [
        f"user {name!r}" for name in before.users.keys() - after.users.keys() if broker.delete_user(name)
    ]
    for user, vhost in before.permissions.keys() - after.permissions.keys():
        if broker.users.revoke(user, vhost):
            removed.append(f"the permissions of user {user!r} in virtual host {vhost!r}")
    for user, vhost, exchange in before.topic_permissions.keys() - after.topic_permissions.keys():
        if broker.users.revoke_topic(user, vhost, exchange):
            removed.append(f"topic permissions of user {user!r} in virtual host {vhost!r}")
    kept = {each.identity for each in after.policies}
    for each in before.policies:
        vhost_of_policy = broker.vhosts.get(each.vhost)
        if (
            each.identity not in kept
            and vhost_of_policy is not None
            and vhost_of_policy.clear_policy(each.policy.name, operator=each.operator)
        ):
            removed.append(f"policy {each.policy.name!r} of virtual host {each.vhost!r}")
    return sorted(removed)


def unmatched_policies(broker: Broker, definitions: Definitions) -> Iterator[tuple[str, Policy]]:
    """The policies, with their paths, that match nothing in a virtual host for which topology is defined."""
    defined = {queue.vhost for queue in definitions.queues} | {each.vhost for each in definitions.exchanges}
    for each in definitions.policies:
        vhost = broker.vhosts.get(each.vhost)
        if vhost is None or each.vhost not in defined:
            continue
        policy = each.policy
        if not (
            any(policy.matches_queue(queue.name, queue.declared.kind) for queue in vhost.queues.values())
            or any(policy.matches_exchange(name) for name in vhost.routing.exchanges)
        ):
            yield each.path, policy
