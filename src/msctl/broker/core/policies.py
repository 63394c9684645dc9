"""Policies and operator policies of a virtual host: settings for queues and exchanges by name. Pure.

Of the policies whose pattern matches, the one with the highest priority applies, and likewise one operator
policy. Where both set the same key, the lower limit holds; where a queue's own arguments set it too, the
lower limit or else the argument. Keys, checks and texts are RabbitMQ 3.10's. Keys that concern mirrors,
streams or the place of a message (`ha-mode`, `queue-mode`) are accepted and have no effect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from msctl.broker.core.arguments import DROP_HEAD, MAX_NAME, QUORUM, REJECT_PUBLISH_DLX, QueueOptions
from msctl.broker.core.patterns import Pattern
from msctl.broker.protocol.replies import erlang_binary
from msctl.broker.protocol.tables import Table

Definition = Mapping[str, Any]


class PolicyError(ValueError):
    """A policy that cannot be set; `key` is the key of its definition that is wrong, if it is one."""

    def __init__(self, text: str, key: str | None = None) -> None:
        super().__init__(text)
        self.key = key


class ApplyTo(StrEnum):
    ALL = "all"
    QUEUES = "queues"
    EXCHANGES = "exchanges"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy or an operator policy. Make one with `make_policy`, which checks it."""

    name: str
    pattern: Pattern
    definition: Definition
    apply_to: ApplyTo = ApplyTo.ALL
    priority: int = 0

    def matches_queue(self, name: str, kind: str) -> bool:
        """Whether it applies to a queue of this name and type."""
        return (
            self.apply_to is not ApplyTo.EXCHANGES
            and self.pattern.matches(name)
            and not (_UNSUPPORTED[kind] & self.definition.keys())
        )

    def matches_exchange(self, name: str) -> bool:
        return self.apply_to is not ApplyTo.QUEUES and self.pattern.matches(name)


@dataclass(frozen=True, slots=True)
class Applied:
    """The policies that apply to one queue or exchange, and what they set together."""

    policy: Policy | None = None
    operator: Policy | None = None
    definition: Definition = field(default_factory=dict)


NONE = Applied()
COMPARED_PER_STEP = 2_000
"""Names that one step compares with a pattern."""


class Policies:
    """The policies of one virtual host. Whoever changes them applies them to what exists."""

    def __init__(self) -> None:
        self.user: dict[str, Policy] = {}
        self.operator: dict[str, Policy] = {}

    def table(self, *, operator: bool) -> dict[str, Policy]:
        return self.operator if operator else self.user

    def for_queue(self, name: str, kind: str) -> Applied:
        return self._applied(lambda policy: policy.matches_queue(name, kind))

    def for_exchange(self, name: str) -> Applied:
        return self._applied(lambda policy: policy.matches_exchange(name))

    def bounded(self, limit: int) -> int:
        """How many things to compare with the policies in one step, of at most `limit`."""
        return max(1, min(limit, COMPARED_PER_STEP // max(1, len(self.user) + len(self.operator))))

    def _applied(self, matches: Callable[[Policy], bool]) -> Applied:
        if not self.user and not self.operator:
            return NONE
        policy, operator = _highest(self.user, matches), _highest(self.operator, matches)
        if policy is None and operator is None:
            return NONE
        return Applied(policy, operator, _joined(policy, operator))


def _highest(policies: Mapping[str, Policy], matches: Callable[[Policy], bool]) -> Policy | None:
    found = None
    for policy in policies.values():
        if (found is None or policy.priority > found.priority) and matches(policy):
            found = policy
    return found


def _joined(policy: Policy | None, operator: Policy | None) -> Definition:
    if policy is None or operator is None:
        only = policy or operator
        return only.definition if only is not None else {}
    joined = dict(policy.definition)
    for key, value in operator.definition.items():
        joined[key] = min(joined[key], value) if key in joined else value
    return joined


def queue_options(declared: QueueOptions, arguments: Table, definition: Definition) -> QueueOptions:
    """The options of a queue that was declared with these arguments, under a policy's definition."""
    if not definition:
        return declared
    overflow = declared.overflow
    if b"x-overflow" not in arguments:
        overflow = definition.get("overflow", DROP_HEAD)
        if declared.kind == QUORUM and overflow == REJECT_PUBLISH_DLX:
            overflow = DROP_HEAD
    return replace(
        declared,
        message_ttl=_lower(declared.message_ttl, definition.get("message-ttl")),
        expires=_lower(declared.expires, definition.get("expires")),
        max_length=_lower(declared.max_length, definition.get("max-length")),
        max_bytes=_lower(declared.max_bytes, definition.get("max-length-bytes")),
        delivery_limit=_lower(declared.delivery_limit, definition.get("delivery-limit")),
        overflow=overflow,
        dead_letter_exchange=_first(declared.dead_letter_exchange, definition.get("dead-letter-exchange")),
        dead_letter_key=_first(declared.dead_letter_key, definition.get("dead-letter-routing-key")),
    )


def _lower(first: int | None, second: int | None) -> int | None:
    return min(first, second) if first is not None and second is not None else _first(first, second)


def _first(argument: Any, setting: Any) -> Any:
    return setting if argument is None else argument


# --- checks ---


def make_policy(
    name: str,
    pattern: str,
    definition: Any,
    *,
    apply_to: str = ApplyTo.ALL.value,
    priority: Any = 0,
    operator: bool = False,
) -> Policy:
    """Check and make a policy. Raises PolicyError with RabbitMQ's text, PatternError for the pattern."""
    if not name or len(name.encode(errors="surrogateescape")) > MAX_NAME:
        raise PolicyError(f"a policy's name takes 1 to {MAX_NAME} bytes")
    if type(priority) not in (int, float):
        raise PolicyError(f"priority should be a number, actually was {_term(priority)}")
    if apply_to not in tuple(ApplyTo):
        raise PolicyError(f"apply-to '{apply_to}' unrecognised; should be 'queues', 'exchanges' or 'all'")
    if not isinstance(definition, Mapping):
        raise PolicyError(f"definition must be a dictionary: {_term(definition)}")
    if not definition:
        raise PolicyError("no policy provided")
    checks = _OPERATOR_CHECKS if operator else _CHECKS
    for key, value in definition.items():
        check = checks.get(key)
        if check is None:
            raise PolicyError(f"[{{{_term(key)},{_term(value)}}}] are not recognised policy settings", key)
        valid, meaning = check
        if not valid(value):
            raise PolicyError(f"{_term(value)} is not a valid {meaning}", key)
    return Policy(name, Pattern(pattern), dict(definition), ApplyTo(apply_to), priority)


def _term(value: Any) -> str:
    """A JSON value as Erlang prints it."""
    if isinstance(value, str):
        return erlang_binary(value.encode(errors="replace"))
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list):
        return "[" + ",".join(map(_term, value)) + "]"
    if isinstance(value, Mapping):
        return "#{" + ",".join(f"{_term(key)} => {_term(each)}" for key, each in value.items()) + "}"
    return str(value)


_Check = tuple[Callable[[Any], bool], str]


def _number(meaning: str, least: int = 0, most: int | None = None) -> _Check:
    def valid(value: Any) -> bool:
        return type(value) is int and value >= least and (most is None or value <= most)

    return valid, meaning


def _text(meaning: str) -> _Check:
    return _is_text, meaning


def _is_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _one_of(meaning: str, *values: Any) -> _Check:
    return lambda value: not isinstance(value, bool) and value in values, meaning


def _anything(value: Any) -> bool:
    return value is not None


_OPERATOR_CHECKS: dict[str, _Check] = {
    "expires": _number("queue expiry", 1),
    "message-ttl": _number("message TTL"),
    "max-length": _number("maximum length"),
    "max-length-bytes": _number("maximum length in bytes"),
    "max-in-memory-length": _number("maximum memory in bytes"),
    "max-in-memory-bytes": _number("maximum memory in bytes"),
    "delivery-limit": _number("delivery limit"),
}
_CHECKS: dict[str, _Check] = _OPERATOR_CHECKS | {
    "alternate-exchange": _text("alternate exchange name"),
    "dead-letter-exchange": _text("dead letter exchange name"),
    "dead-letter-routing-key": _text("dead letter routing key"),
    "dead-letter-strategy": _one_of("dead letter strategy", "at-most-once", "at-least-once"),
    "queue-mode": _one_of("queue-mode value", "default", "lazy"),
    "queue-version": _one_of("queue-version value", 1, 2),
    "overflow": _one_of("overflow value", "drop-head", "reject-publish", "reject-publish-dlx"),
    "max-age": _text("max age"),
    "stream-max-segment-size-bytes": _number("segment size", 0, 3_000_000_000),
    "queue-leader-locator": _one_of(
        "queue leader locator value", "client-local", "balanced", "random", "least-leaders"
    ),
    "initial-cluster-size": _number("cluster size"),
    "queue-master-locator": _text("master locator"),
    "ha-mode": _one_of("ha-mode value", "all", "exactly", "nodes"),
    "ha-params": (_anything, "ha-params value"),
    "ha-sync-mode": _one_of("ha-sync-mode value", "automatic", "manual"),
    "ha-sync-batch-size": _number("ha-sync-batch-size value", 1),
    "ha-promote-on-shutdown": _one_of("ha-promote-on-shutdown value", "always", "when-synced"),
    "ha-promote-on-failure": _one_of("ha-promote-on-failure value", "always", "when-synced"),
}

_STREAM_KEYS = frozenset({"max-age", "stream-max-segment-size-bytes", "initial-cluster-size"})
_UNSUPPORTED: dict[str, frozenset[str]] = {
    "classic": _STREAM_KEYS | {"queue-leader-locator", "delivery-limit", "dead-letter-strategy"},
    QUORUM: _STREAM_KEYS
    | {
        "queue-mode",
        "queue-master-locator",
        "ha-mode",
        "ha-params",
        "ha-sync-mode",
        "ha-promote-on-shutdown",
        "ha-promote-on-failure",
    },
}
"""By queue type, the keys for the sake of which a whole policy does not apply."""
