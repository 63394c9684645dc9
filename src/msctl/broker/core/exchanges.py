"""Exchanges, their bindings, and the destinations of a message. Pure.

Sources: AMQP 0-9-1 section 3.1.3; RabbitMQ's exchange-to-exchange bindings and `x-match`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum

from msctl.broker.core.consistent_hash import HashKey, HashRing, weight_of
from msctl.broker.core.delayed import DELAYED_TYPE, delay_of
from msctl.broker.core.held import Held, each_of, with_one, without_one
from msctl.broker.core.policies import NONE, Applied
from msctl.broker.core.queues import Queue
from msctl.broker.core.topic_index import TopicIndex
from msctl.broker.protocol.replies import erlang_binary, precondition_failed
from msctl.broker.protocol.tables import TYPE_NAMES, FieldValue, Table


class ExchangeType(StrEnum):
    DIRECT = "direct"
    FANOUT = "fanout"
    TOPIC = "topic"
    HEADERS = "headers"
    CONSISTENT_HASH = "x-consistent-hash"
    DELAYED = "x-delayed-message"


CORE_TYPES = (ExchangeType.DIRECT, ExchangeType.FANOUT, ExchangeType.TOPIC, ExchangeType.HEADERS)
"""The types of the specification, of which each virtual host has an exchange `amq.…`."""


Identity = tuple[object, str, str]
"""Bindings of an exchange with the same identity are the same binding."""

_NO_ARGUMENTS: Table = {}


class Binding:
    """One binding. `entry` is its number in the log, 0 if it is in memory only."""

    __slots__ = ("arguments", "destination", "entry", "identity", "key", "source")

    def __init__(
        self, source: Exchange, destination: Exchange | Queue, key: str, arguments: Table, entry: int = 0
    ) -> None:
        self.source = source
        self.destination = destination
        self.key = key
        self.arguments = arguments or _NO_ARGUMENTS
        self.entry = entry
        self.identity = binding_identity(destination, key, arguments)


def binding_identity(destination: Exchange | Queue, key: str, arguments: Table) -> Identity:
    """The destination object, the routing key, and the arguments in any order."""
    shown = repr(sorted(arguments.items(), key=lambda item: item[0])) if arguments else ""
    return destination, key, shown


class Exchange:
    """An exchange and its outgoing bindings.

    `routes_as` is its type, for one that delays messages the x-delayed-type; `delayed` counts those.
    After the deletion of a queue or exchange with very many bindings, `bindings` still has some that lead to
    it; `stale` counts them. Such bindings are never followed or shown, see `binding_table`.
    """

    __slots__ = (
        "_direct",
        "_ring",
        "_topic",
        "alternate",
        "applied",
        "arguments",
        "auto_delete",
        "bindings",
        "declared_alternate",
        "delayed",
        "deleted",
        "durable",
        "entry",
        "hash_key",
        "internal",
        "name",
        "routes_as",
        "stale",
        "type",
    )

    def __init__(
        self,
        name: str,
        kind: ExchangeType,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
    ) -> None:
        self.name = name
        self.type = kind
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments: Table = arguments or {}
        self.declared_alternate = _text(self.arguments.get(b"alternate-exchange"))
        self.alternate = self.declared_alternate
        self.applied = NONE
        self.entry = 0
        """The exchange's number in the log; 0: it is not in it."""
        self.deleted = False
        self.bindings: dict[Identity, Binding] = {}
        self.stale = 0
        inner = _text(self.arguments.get(DELAYED_TYPE)) if kind is ExchangeType.DELAYED else None
        self.routes_as = kind if inner is None else ExchangeType(inner)
        self.delayed = 0
        self.hash_key = HashKey(self.arguments) if self.routes_as is ExchangeType.CONSISTENT_HASH else None
        self._direct: dict[str, Held[Binding]] = {}
        self._topic: TopicIndex[Binding] = TopicIndex()
        self._ring: HashRing[Binding] | None = None

    def apply(self, applied: Applied) -> None:
        """Follow other policies; an alternate exchange among the arguments wins."""
        self.applied = applied
        setting = applied.definition.get("alternate-exchange")
        self.alternate = setting if self.declared_alternate is None else self.declared_alternate

    def bind(self, binding: Binding) -> bool:
        """Add a binding; return False if it exists."""
        if binding.identity in self.bindings:
            return False
        self.bindings[binding.identity] = binding
        self._ring = None
        if self.routes_as is ExchangeType.DIRECT:
            self._direct[binding.key] = with_one(self._direct.get(binding.key), binding)
        elif self.routes_as is ExchangeType.TOPIC:
            self._topic.add(binding)
        return True

    def unbind(self, identity: Identity) -> Binding | None:
        """Remove and return a binding, or None if it does not exist."""
        binding = self.bindings.pop(identity, None)
        if binding is not None:
            self._unindex(binding)
        return binding

    def unbind_last(self) -> Binding:
        """Remove and return the newest binding. Raises KeyError without one."""
        _, binding = self.bindings.popitem()
        self._unindex(binding)
        return binding

    def _unindex(self, binding: Binding) -> None:
        self._ring = None
        if self.routes_as is ExchangeType.DIRECT:
            left = self._direct[binding.key] = without_one(self._direct[binding.key], binding)
            if left is None:
                del self._direct[binding.key]
        elif self.routes_as is ExchangeType.TOPIC:
            self._topic.remove(binding)

    def made_stale(self, count: int) -> None:
        """The destination of `count` bindings was deleted."""
        self.stale += count
        self._ring = None

    @property
    def in_use(self) -> bool:
        """Whether it has a binding."""
        return len(self.bindings) > self.stale

    def live_bindings(self) -> Iterable[Binding]:
        """The bindings, in the order in which they were made. Invalid once a binding changes."""
        found = self.bindings.values()
        return (each for each in found if not each.destination.deleted) if self.stale else found

    def match(
        self, keys: Iterable[str], headers: Table, properties: bytes = b""
    ) -> Iterator[Exchange | Queue]:
        """The destinations of a message with these routing keys and headers; may repeat."""
        kind = self.routes_as
        if kind is ExchangeType.FANOUT:
            found = self.live_bindings()
        elif kind is ExchangeType.HEADERS:
            found = [b for b in self.live_bindings() if headers_match(b.arguments, headers)]
        elif kind is ExchangeType.TOPIC:
            found = [binding for key in keys for binding in self._topic.find(key)]
        elif self.hash_key is not None:
            chosen = self._hash_ring().choose(self.hash_key.of(keys, headers, properties))
            found = [] if chosen is None else [chosen]
        else:
            found = [binding for key in keys for binding in each_of(self._direct.get(key))]
        for binding in found:
            if not binding.destination.deleted:
                yield binding.destination

    def _hash_ring(self) -> HashRing[Binding]:
        if self._ring is None:
            first: dict[int, Binding] = {}
            for binding in self.live_bindings():
                first.setdefault(id(binding.destination), binding)
            self._ring = HashRing(
                (each, f"{type(each.destination).__name__} {each.destination.name}", weight_of(each.key))
                for each in first.values()
            )
        return self._ring


def headers_match(pattern: Table, headers: Table) -> bool:
    """Whether a message's headers match a binding's arguments.

    A void field in the pattern matches any value. Names that begin with `x-` count only in the
    `-with-x` modes. An empty pattern matches every message with `all`, none with `any`.
    """
    mode = _mode(pattern)
    with_x = mode.endswith("-with-x")
    some = mode.startswith("any")
    matched = (
        name in headers and (field[0] == "V" or _same(field, headers[name]))
        for name, field in pattern.items()
        if name != b"x-match" and (with_x or not name.startswith(b"x-"))
    )
    return any(matched) if some else all(matched)


def _same(wanted: FieldValue, found: FieldValue) -> bool:
    """Compare values across types; a boolean never equals a number."""
    return (wanted[0] == "t") == (found[0] == "t") and bool(wanted[1] == found[1])


def _mode(pattern: Table) -> str:
    kind, value = pattern.get(b"x-match", ("S", b"all"))
    mode = value.decode(errors="replace") if kind == "S" else "all"
    return mode if mode in _MODES else "all"


_MODES = ("all", "any", "all-with-x", "any-with-x")


def check_headers_binding(arguments: Table) -> None:
    """Raises AmqpError 406 for an invalid x-match."""
    field = arguments.get(b"x-match")
    if field is None:
        return
    kind, value = field
    if kind != "S":
        shown = str(value).lower() if kind == "t" else str(value)
        raise precondition_failed(
            f"Invalid x-match field type {TYPE_NAMES[kind]} (value {shown}); expected longstr"
        )
    if value.decode(errors="replace") not in _MODES:
        raise precondition_failed(
            f"Invalid x-match field value {erlang_binary(value)}; "
            "expected all, any, all-with-x, or any-with-x"
        )


def _text(field: FieldValue | None) -> str | None:
    return None if field is None else field[1].decode(errors="surrogateescape")


Lookup = Callable[[str], Exchange | None]
"""Finds an exchange by name."""


def resolve(
    first: Exchange, keys: Iterable[str], headers: Table, lookup: Lookup, properties: bytes = b""
) -> dict[Queue | Exchange, None]:
    """The queues that a message reaches from exchange `first`, each once, in the order found, and the
    exchanges that delay it.

    Bindings between exchanges may form cycles, so each exchange is visited once. An exchange without
    a matching binding passes the message to its alternate exchange.
    """
    found: dict[Queue | Exchange, None] = {}
    seen = {first.name}
    work = [first]
    while work:
        exchange = work.pop()
        if exchange.type is ExchangeType.DELAYED and delay_of(headers):
            found[exchange] = None
            continue
        destinations = list(exchange.match(keys, headers, properties))
        if not destinations and exchange.alternate is not None:
            alternate = lookup(exchange.alternate)
            destinations = [] if alternate is None else [alternate]
        for destination in destinations:
            if not isinstance(destination, Exchange):
                found[destination] = None
            elif destination.name not in seen:
                seen.add(destination.name)
                work.append(destination)
    return found
