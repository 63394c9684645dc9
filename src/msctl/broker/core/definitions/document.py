"""Checks a definitions document and turns it into values that the broker can take over. Pure.

Fields and rules are RabbitMQ 3.10's, and what later versions add where it means something here. An error is
what RabbitMQ refuses or what cannot work; a warning is what has no effect. Both name the JSON path.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from msctl.broker.core.arguments import QUORUM, read_queue_arguments
from msctl.broker.core.definitions.entries import BadEntryError, Entry, Problems, entries, kind_of
from msctl.broker.core.exchanges import ExchangeType
from msctl.broker.core.patterns import PatternError
from msctl.broker.core.policies import Policy, PolicyError, make_policy
from msctl.broker.core.quorum import check_declaration
from msctl.broker.core.users import Algorithm, PasswordHash, Permissions, TopicPermissions, User
from msctl.broker.core.vhost import VhostInfo
from msctl.broker.protocol.replies import AmqpError, ReplyCode, resource
from msctl.broker.protocol.tables import Table
from msctl.secret import Secret

OPERATOR_POLICY = "operator_policy"
VHOST_LIMITS = "vhost-limits"
_DETAILS = frozenset(
    {
        *("rabbit_version", "rabbitmq_version", "product_name", "product_version"),
        *("rabbitmq_definition_format", "original_vhost_name", "original_cluster_name", "explanation"),
        *("metadata", "default_queue_type"),
    }
)
"""Keys that describe the document."""


@dataclass(frozen=True, slots=True)
class ExchangeDefinition:
    vhost: str
    name: str
    kind: str
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Table
    path: str


@dataclass(frozen=True, slots=True)
class QueueDefinition:
    vhost: str
    name: str
    durable: bool
    auto_delete: bool
    arguments: Table
    path: str


@dataclass(frozen=True, slots=True)
class BindingDefinition:
    vhost: str
    source: str
    destination: str
    kind: str
    """queue or exchange"""
    key: str
    arguments: Table
    path: str


@dataclass(frozen=True, slots=True)
class PolicyDefinition:
    vhost: str
    policy: Policy
    operator: bool
    path: str

    @property
    def identity(self) -> tuple[str, bool, str]:
        return self.vhost, self.operator, self.policy.name


@dataclass(slots=True)
class Definitions:
    """A checked document; `source` names it in messages, `digest` identifies its content."""

    source: str = "definitions"
    digest: bytes = b""
    users: dict[str, User] = field(default_factory=dict)
    vhosts: dict[str, VhostInfo] = field(default_factory=dict)
    permissions: dict[tuple[str, str], Permissions] = field(default_factory=dict)
    topic_permissions: dict[tuple[str, str, str], TopicPermissions] = field(default_factory=dict)
    parameters: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    """Values by component, virtual host and name; without operator policies."""
    global_parameters: dict[str, Any] = field(default_factory=dict)
    policies: list[PolicyDefinition] = field(default_factory=list)
    exchanges: list[ExchangeDefinition] = field(default_factory=list)
    queues: list[QueueDefinition] = field(default_factory=list)
    bindings: list[BindingDefinition] = field(default_factory=list)


def read_document(
    document: object,
    *,
    users: Collection[str] = (),
    vhosts: Collection[str] = ("/",),
    vhost: str | None = None,
) -> tuple[Definitions, Problems]:
    """Check a decoded JSON document.

    `users` and `vhosts` exist already, so that permissions and topology may refer to them. `vhost` is the
    one for everything, in a document of one virtual host, whose entries name none.
    """
    reader = _Reader(users, vhosts, vhost)
    if isinstance(document, dict):
        reader.read(document)
    else:
        reader.problems.add("", f"must be a JSON object, not {kind_of(document)}")
    return reader.found, reader.problems


class _Reader:
    def __init__(self, users: Collection[str], vhosts: Collection[str], vhost: str | None) -> None:
        self.found = Definitions()
        self.problems = Problems()
        self._users = users
        self._vhosts = vhosts
        self._only_vhost = vhost
        self._version = ""

    def read(self, document: Mapping[str, Any]) -> None:
        sections: dict[str, tuple[Callable[[Entry], None], tuple[str, ...]]] = {
            "users": (self._user, _USER_FIELDS),
            "vhosts": (self._vhost, _VHOST_FIELDS),
            "permissions": (self._permission, ("user", "vhost", "configure", "write", "read")),
            "topic_permissions": (self._topic, ("user", "vhost", "exchange", "write", "read")),
            "global_parameters": (self._global_parameter, ("name", "value")),
            "parameters": (self._parameter, ("vhost", "component", "name", "value")),
            "policies": (self._policy, ("vhost", "name", "pattern", "apply-to", "definition", "priority")),
            "exchanges": (self._exchange, (*_COMMON, "type", "internal")),
            "queues": (self._queue, (*_COMMON, "type")),
            "bindings": (self._binding, _BINDING_FIELDS),
        }
        for key in document.keys() - sections.keys() - _DETAILS:
            self.problems.add(key, "is not known and ignored", fatal=False)
        self._version = str(document.get("rabbitmq_version", document.get("rabbit_version", "")))
        if self._only_vhost is not None:
            for section in ("users", "vhosts", "permissions", "topic_permissions", "global_parameters"):
                del sections[section]
        for section, (read, fields) in sections.items():
            for entry in entries(document, section, self.problems):
                entry.warn_unknown(fields)
                try:
                    read(entry)
                except BadEntryError:
                    continue
                except PatternError as error:
                    self.problems.add(entry.path, f"its pattern is no regular expression: {error}")

    # --- references ---

    def _vhost_of(self, entry: Entry) -> str:
        if self._only_vhost is not None:
            return self._only_vhost
        name = entry.name("vhost")
        if name not in self.found.vhosts and name not in self._vhosts:
            raise entry.bad("vhost", f"virtual host {name!r} is not defined")
        return name

    def _user_of(self, entry: Entry) -> str:
        name = entry.text("user")
        if name not in self.found.users and name not in self._users:
            raise entry.bad("user", f"user {name!r} is not defined")
        return name

    # --- sections ---

    def _user(self, entry: Entry) -> None:
        name = entry.name("name")
        if name in self.found.users:
            raise entry.bad("name", f"user {name!r} is defined twice")
        if "tags" not in entry.fields and "administrator" not in entry.fields:
            raise entry.bad("tags", "is missing")
        limits = {
            key: value for key, value in entry.object("limits").items() if type(value) is int and value >= 0
        }
        self.found.users[name] = User(name, self._password(entry), _tags(entry), limits)
        for vhost, allowed in entry.object("permissions").items():
            fields = allowed if isinstance(allowed, dict) else {}
            inner = Entry(fields, f"{entry.path}.permissions.{vhost}", self.problems)
            self.found.permissions[name, vhost] = Permissions.of(
                inner.text("configure", ""), inner.text("write", ""), inner.text("read", "")
            )

    def _password(self, entry: Entry) -> PasswordHash | None:
        if "password" in entry.fields:
            if "password_hash" in entry.fields:
                raise entry.bad("password", "stands beside password_hash; keep one of them")
            password = entry.text("password")
            return PasswordHash.make(Secret(password)) if password else None
        text = entry.text("password_hash", "")
        if not text:
            entry.warn("password_hash", "is empty, so that nobody can log in as this user")
            return None
        named = entry.text("hashing_algorithm", _default_algorithm(self._version).value)
        if named not in tuple(Algorithm):
            raise entry.bad(
                "hashing_algorithm", f"{named!r} is not one of {', '.join(each.value for each in Algorithm)}"
            )
        try:
            return PasswordHash.decode(text, Algorithm(named))
        except (binascii.Error, ValueError) as error:
            raise entry.bad("password_hash", f"is no salted hash in base64: {error}") from None

    def _vhost(self, entry: Entry) -> None:
        metadata = entry.object("metadata")
        tags = entry.fields.get("tags", metadata.get("tags"))
        kind = entry.fields.get("default_queue_type", metadata.get("default_queue_type", "undefined"))
        if kind not in ("classic", "undefined", None):
            entry.warn("default_queue_type", f"{kind!r} has no effect: queues are classic unless they say so")
        name = entry.name("name")
        if limits := entry.object(
            "limits"
        ):  # since RabbitMQ 4; before, a parameter of component vhost-limits
            self.found.parameters[VHOST_LIMITS, name, "limits"] = limits
        self.found.vhosts[name] = VhostInfo(
            str(entry.fields.get("description", metadata.get("description", ""))),
            tuple(map(str, tags)) if isinstance(tags, list) else (),
        )

    def _permission(self, entry: Entry) -> None:
        key = self._user_of(entry), self._vhost_of(entry)
        self.found.permissions[key] = Permissions.of(
            entry.text("configure"), entry.text("write"), entry.text("read")
        )

    def _topic(self, entry: Entry) -> None:
        key = self._user_of(entry), self._vhost_of(entry), entry.name("exchange", empty=True)
        self.found.topic_permissions[key] = TopicPermissions(entry.text("write"), entry.text("read"))

    def _global_parameter(self, entry: Entry) -> None:
        self.found.global_parameters[entry.text("name")] = entry.fields.get("value")

    def _parameter(self, entry: Entry) -> None:
        component, vhost, name = entry.text("component"), self._vhost_of(entry), entry.text("name")
        value = entry.fields.get("value")
        if component == OPERATOR_POLICY:
            fields = value if isinstance(value, dict) else {}
            inner = Entry({**fields, "name": name}, f"{entry.path}.value", self.problems)
            self._add_policy(inner, vhost, operator=True)
            return
        if component != VHOST_LIMITS:
            entry.warn("component", f"{component!r} has no effect in the embedded broker")
        elif not isinstance(value, dict) or any(type(each) is not int for each in value.values()):
            raise entry.bad("value", "must be an object of numbers")
        self.found.parameters[component, vhost, name] = value

    def _policy(self, entry: Entry) -> None:
        self._add_policy(entry, self._vhost_of(entry), operator=False)

    def _add_policy(self, entry: Entry, vhost: str, *, operator: bool) -> None:
        priority = entry.fields.get("priority")
        try:
            policy = make_policy(
                entry.name("name"),
                entry.text("pattern"),
                entry.fields.get("definition"),
                apply_to=entry.text("apply-to", "all"),
                priority=0 if priority is None else priority,
                operator=operator,
            )
        except PolicyError as error:
            key = "" if error.key is None else f"definition.{error.key}"
            raise entry.bad(key, str(error)) from None
        except PatternError as error:
            raise entry.bad("pattern", f"is no regular expression: {error}") from None
        self.found.policies.append(PolicyDefinition(vhost, policy, operator, entry.path))

    def _exchange(self, entry: Entry) -> None:
        name, kind = entry.name("name", empty=True), entry.text("type")
        if not name or name.startswith("amq."):
            entry.warn("name", f"{name!r} is the broker's own and skipped")
            return
        if kind not in tuple(ExchangeType):
            raise entry.bad("type", f"unknown exchange type {kind!r}")
        self.found.exchanges.append(
            ExchangeDefinition(
                self._vhost_of(entry),
                name,
                kind,
                entry.flag("durable", True),
                entry.flag("auto_delete", False),
                entry.flag("internal", False),
                entry.table("arguments"),
                entry.path,
            )
        )

    def _queue(self, entry: Entry) -> None:
        name, vhost = entry.name("name"), self._vhost_of(entry)
        arguments = entry.table("arguments")
        kind = entry.text("type", "classic")
        if kind != "classic":
            arguments.setdefault(b"x-queue-type", ("S", kind.encode()))
        if name.startswith("amq."):
            entry.warn("name", f"{name!r} is the broker's own and skipped")
            return
        durable, auto_delete = entry.flag("durable", True), entry.flag("auto_delete", False)
        shown = resource("queue", name, vhost)
        try:
            options = read_queue_arguments(arguments, shown)
            if options.kind == QUORUM:
                check_declaration(shown, durable=durable, exclusive=False, auto_delete=auto_delete)
        except AmqpError as error:
            if error.code is ReplyCode.NOT_IMPLEMENTED:
                entry.warn("", f"{error.detail}; it is skipped")
                return
            raise entry.bad("arguments", error.detail) from None
        self.found.queues.append(QueueDefinition(vhost, name, durable, auto_delete, arguments, entry.path))

    def _binding(self, entry: Entry) -> None:
        kind = entry.text("destination_type", "queue")
        if kind not in ("queue", "exchange"):
            raise entry.bad("destination_type", f"must be queue or exchange, not {kind!r}")
        source = entry.name("source", empty=True)
        if not source:
            return  # the default exchange binds every queue by itself
        self.found.bindings.append(
            BindingDefinition(
                self._vhost_of(entry),
                source,
                entry.name("destination"),
                kind,
                entry.name("routing_key", "", empty=True),
                entry.table("arguments"),
                entry.path,
            )
        )


_COMMON = ("vhost", "name", "durable", "auto_delete", "arguments")
_USER_FIELDS = (
    *("name", "password", "password_hash", "hashing_algorithm", "tags", "administrator", "limits"),
    "permissions",
)
_VHOST_FIELDS = ("name", "description", "tags", "tracing", "metadata", "limits", "default_queue_type")
_BINDING_FIELDS = (
    *("vhost", "source", "destination", "destination_type", "routing_key", "arguments"),
    "properties_key",
)


def _tags(entry: Entry) -> tuple[str, ...]:
    """Tags are a list, or text with commas in documents of old versions."""
    tags = entry.fields.get("tags")
    if tags is None:
        return ("administrator",) if str(entry.fields.get("administrator")).lower() == "true" else ()
    if isinstance(tags, str):
        tags = tags.split(",")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise entry.bad("tags", "must be a list of strings")
    return tuple(tag.strip() for tag in tags if tag.strip())


def _default_algorithm(version: str) -> Algorithm:
    """The hash of documents that do not name it: MD5 before RabbitMQ 3.6."""
    old = any(version.startswith(f"3.{minor}.") for minor in range(6))
    return Algorithm.MD5 if old else Algorithm.SHA256
