"""What the user of one connection may do in its virtual host, with RabbitMQ's answers. Pure.

Decisions are kept by name until a user or permission changes anywhere in the broker.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from msctl.broker.core.patterns import Pattern
from msctl.broker.core.users import Users
from msctl.broker.protocol.replies import access_refused, resource

DECISIONS_KEPT = 1024
_DEFAULT_EXCHANGE = "amq.default"
"""The name by which permissions know the default exchange."""


class Operation(StrEnum):
    CONFIGURE = "configure"
    WRITE = "write"
    READ = "read"


class Access(Protocol):
    """Checks operations on queues and exchanges."""

    def check(self, operation: Operation, kind: str, name: str) -> None:
        """Check an operation on a queue or exchange (`kind`). Raises AmqpError 403."""
        ...

    def check_topic(self, operation: Operation, exchange: str, key: str) -> None:
        """Check a routing key at a topic exchange. Raises AmqpError 403."""
        ...


class _Unrestricted:
    """Access of the broker itself and of its operator."""

    def check(self, operation: Operation, kind: str, name: str) -> None:
        """Allow everything."""

    def check_topic(self, operation: Operation, exchange: str, key: str) -> None:
        """Allow everything."""


UNRESTRICTED: Access = _Unrestricted()


class UserAccess:
    """The access of one user to one virtual host."""

    def __init__(self, users: Users, user: str, vhost: str) -> None:
        self._users = users
        self._user = user
        self._vhost = vhost
        self._generation = users.generation
        self._decisions: dict[tuple[Operation, str], bool] = {}
        self._topics: dict[tuple[Operation, str, str], bool] = {}

    def check(self, operation: Operation, kind: str, name: str) -> None:
        if kind == "exchange" and name == "":
            name = _DEFAULT_EXCHANGE
        self._refresh()
        allowed = self._decisions.get((operation, name))
        if allowed is None:
            if len(self._decisions) >= DECISIONS_KEPT:
                self._decisions.clear()
            allowed = self._decisions[operation, name] = self._allows(operation, name)
        if not allowed:
            raise access_refused(
                f"access to {resource(kind, name, self._vhost)} refused for user '{self._user}'"
            )

    def _allows(self, operation: Operation, name: str) -> bool:
        permissions = self._users.permissions_of(self._user, self._vhost)
        if permissions is None:
            return False
        pattern: Pattern = getattr(permissions, operation.value)
        return _matches(pattern, name)

    def check_topic(self, operation: Operation, exchange: str, key: str) -> None:
        self._refresh()
        allowed = self._topics.get((operation, exchange, key))
        if allowed is None:
            if len(self._topics) >= DECISIONS_KEPT:
                self._topics.clear()
            allowed = self._topics[operation, exchange, key] = self._allows_topic(operation, exchange, key)
        if not allowed:
            raise access_refused(
                f"access to topic '{key}' in {resource('exchange', exchange, self._vhost)} "
                f"refused for user '{self._user}'"
            )

    def _allows_topic(self, operation: Operation, exchange: str, key: str) -> bool:
        permissions = self._users.topic_permissions_of(self._user, self._vhost, exchange)
        if permissions is None:
            return True
        text = permissions.write if operation is Operation.WRITE else permissions.read
        expanded = text.replace("{username}", self._user).replace("{vhost}", self._vhost)
        try:
            return _matches(Pattern(expanded), key)
        except ValueError:  # the names made the pattern invalid
            return False

    def _refresh(self) -> None:
        if self._generation != self._users.generation:
            self._generation = self._users.generation
            self._decisions.clear()
            self._topics.clear()


def _matches(pattern: Pattern, name: str) -> bool:
    """Whether a permission's pattern matches; an empty one matches the empty name alone."""
    return pattern.matches(name) if pattern.text else name == ""
