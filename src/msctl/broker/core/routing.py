"""The exchanges and bindings of a virtual host, with RabbitMQ's rules and texts. Pure.

`route_key` caches its results. The cache is right as long as every change of an exchange, binding or
queue calls `changed`, which also increments `generation`, on which publish plans depend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msctl.broker.core import consistent_hash
from msctl.broker.core.access import UNRESTRICTED, Access, Operation
from msctl.broker.core.arguments import check_equivalent, check_same
from msctl.broker.core.binding_table import BindingTable
from msctl.broker.core.delayed import DELAYED_TYPE, DelayedMessages, DelayHost, DelayingExchange, Target
from msctl.broker.core.exchanges import (
    CORE_TYPES,
    Binding,
    Exchange,
    ExchangeType,
    binding_identity,
    check_headers_binding,
    resolve,
)
from msctl.broker.core.journal import StoredDelay
from msctl.broker.core.limits import BrokerLimits, too_many_bindings, too_many_exchanges
from msctl.broker.core.policies import Policies
from msctl.broker.core.queues import Queue
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    not_found,
    precondition_failed,
    resource,
)
from msctl.broker.protocol.tables import TYPE_NAMES, Table

_DEFAULT_EXCHANGE = "operation not permitted on the default exchange"
_ROUTES_KEPT = 4096


class Routing:
    """Exchanges, bindings and routes. `generation` increases whenever a route may have changed.

    `queues` belongs to the virtual host, which calls `changed` when it adds or removes a queue. Messages
    that an exchange delays go to `delay_host`'s timers and then through `route_delayed`. `unbind_later` is
    called when bindings of something deleted wait to be removed: call `bindings.remove_more`.
    """

    def __init__(
        self,
        vhost: str,
        queues: Mapping[str, Queue],
        policies: Policies,
        limits: BrokerLimits,
        delay_host: DelayHost,
        unbind_later: Callable[[], None] = lambda: None,
    ) -> None:
        self._memory = delay_host.memory
        self.generation = 0
        self.bindings = BindingTable(self._memory, unbind_later)
        self._limits = limits
        self.exchanges: dict[str, Exchange] = {}
        self._vhost = vhost
        self._queues = queues
        self._policies = policies
        self._delayed = DelayedMessages(delay_host, self._route_delayed)
        self._hashed_properties = 0
        """How many exchanges route by a message's properties: their routes are not cached by key."""
        self._routes: dict[tuple[str, str], tuple[Target, ...]] = {}
        for exchange in CORE_TYPES:
            self._create(Exchange(f"amq.{exchange}", exchange))
        self._create(Exchange("amq.match", ExchangeType.HEADERS))
        self._create(Exchange("", ExchangeType.DIRECT))

    # --- routes ---

    def exchange(self, name: str) -> Exchange:
        """Raises AmqpError 404."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found("exchange", name, self._vhost)
        return exchange

    def route(
        self, exchange: Exchange, keys: Iterable[str], headers: Table, properties: bytes = b""
    ) -> tuple[Target, ...]:
        """The queues of a message, each once, and the exchanges that delay it."""
        if exchange.name == "":
            return tuple({self._queues[key]: None for key in keys if key in self._queues})
        keys = tuple(keys)
        found = resolve(exchange, keys, headers, self.exchanges.get, properties)
        return tuple(
            self._delayed.hold(each, keys, headers) if isinstance(each, Exchange) else each for each in found
        )

    def route_key(self, exchange: Exchange, key: str, properties: bytes = b"") -> tuple[Target, ...]:
        """`route` for one key and no headers, cached until the next change."""
        if self._hashed_properties:
            return self.route(exchange, (key,), {}, properties)
        found = self._routes.get((exchange.name, key))
        if found is None:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            found = self._routes[exchange.name, key] = self.route(exchange, (key,), {})
        return found

    def _route_delayed(
        self, exchange: DelayingExchange, keys: Sequence[str], headers: Table, properties: bytes
    ) -> Sequence[Target]:
        found = self.exchanges.get(exchange.name)
        return self.route(found, keys, headers, properties) if found is exchange else ()

    def changed(self) -> None:
        self.generation += 1
        self._routes.clear()

    # --- exchanges ---

    def declare(
        self,
        name: str,
        kind: str,
        *,
        passive: bool,
        durable: bool,
        auto_delete: bool,
        internal: bool,
        arguments: Table,
        access: Access = UNRESTRICTED,
    ) -> None:
        """Declare an exchange. Raises AmqpError 403, 404, 406, or 503 for an unknown type."""
        name = strip_name(name)
        if passive:
            _refuse_default(name)
            self.exchange(name)
            return
        if kind not in tuple(ExchangeType):
            raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{kind}'")
        _refuse_default(name)
        access.check(Operation.CONFIGURE, "exchange", name)
        found = self.exchanges.get(name)
        if found is None:
            refuse_reserved("exchange", name)
            if len(self.exchanges) >= self._limits.exchanges:
                raise too_many_exchanges(name, self._vhost, self._limits.exchanges)
            alternate = arguments.get(b"alternate-exchange")
            if alternate is not None and alternate[0] != "S":
                raise precondition_failed(
                    f"invalid type '{TYPE_NAMES[alternate[0]]}' for arg 'alternate-exchange' "
                    f"in {resource('exchange', name, self._vhost)}"
                )
            if alternate is not None:
                access.check(Operation.READ, "exchange", name)
                access.check(Operation.WRITE, "exchange", alternate[1].decode(errors="surrogateescape"))
            _check_arguments(ExchangeType(kind), arguments)
            exchange = Exchange(
                name,
                ExchangeType(kind),
                durable=durable,
                auto_delete=auto_delete,
                internal=internal,
                arguments=arguments,
            )
            journal = self._memory.journal
            if durable and journal is not None:
                exchange.entry = journal.put_exchange(
                    self._vhost, name, kind, auto_delete=auto_delete, internal=internal, arguments=arguments
                )
            self._create(exchange)
            return
        shown = resource("exchange", name, self._vhost)
        check_same("type", shown, found.type.value, kind)
        check_same("durable", shown, found.durable, durable)
        check_same("auto_delete", shown, found.auto_delete, auto_delete)
        check_same("internal", shown, found.internal, internal)
        check_equivalent(found.arguments, arguments, (b"alternate-exchange",), shown)

    def apply_policies(self, exchange: Exchange) -> None:
        """Apply the present policies to an exchange."""
        exchange.apply(self._policies.for_exchange(exchange.name))
        self.changed()

    def _create(self, exchange: Exchange) -> None:
        exchange.apply(self._policies.for_exchange(exchange.name))
        self.exchanges[exchange.name] = exchange
        if exchange.hash_key is not None:
            self._hashed_properties += exchange.hash_key.reads_properties
        self.changed()

    def delete(self, name: str, *, if_unused: bool, access: Access = UNRESTRICTED) -> None:
        """Delete an exchange; a missing one is no error. Raises AmqpError 403, 406."""
        name = strip_name(name)
        _refuse_default(name)
        shown = resource("exchange", name, self._vhost)
        if name.startswith("amq."):
            raise access_refused(f"deletion of system {shown} not allowed")
        access.check(Operation.CONFIGURE, "exchange", name)
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.in_use:
            raise precondition_failed(f"{shown} in use")
        self._remove(exchange)

    def _remove(self, exchange: Exchange) -> None:
        if self.exchanges.pop(exchange.name, None) is None:
            return
        if exchange.hash_key is not None:
            self._hashed_properties -= exchange.hash_key.reads_properties
        self._drop(exchange.entry)
        self.changed()
        exchange.deleted = True
        self.bindings.source_deleted(exchange)
        self.unbind_destination(exchange)

    # --- bindings ---

    def bind(
        self,
        source: str,
        destination: str,
        kind: str,
        key: str,
        arguments: Table,
        owner: object,
        access: Access = UNRESTRICTED,
    ) -> None:
        """Bind a queue or an exchange (`kind`). Raises AmqpError 403, 404, 405, 406."""
        source, destination = self._ends(source, destination, kind, key, access)
        exchange = self.exchange(source)
        target = self._destination(kind, destination)
        if target is None:
            raise not_found(kind, destination, self._vhost)
        if exchange.routes_as is ExchangeType.HEADERS:
            check_headers_binding(arguments)
        elif exchange.routes_as is ExchangeType.CONSISTENT_HASH:
            consistent_hash.weight_of(key)
        if not isinstance(target, Exchange):
            target.check_access(owner)
        if binding_identity(target, key, arguments) in exchange.bindings:
            return
        if self.bindings.count >= self._limits.bindings:
            raise too_many_bindings(source, self._vhost, self._limits.bindings)
        journal = self._memory.journal
        entry = 0
        if journal is not None and exchange.durable and target.durable:
            entry = journal.put_binding(self._vhost, source, destination, kind, key, arguments)
        self._add(Binding(exchange, target, key, arguments, entry))

    def _add(self, binding: Binding) -> None:
        if self.bindings.add(binding):
            self.changed()

    def recover_exchange(self, entry: int, exchange: Exchange) -> None:
        """Add an exchange that the log has."""
        exchange.entry = entry
        self._create(exchange)

    def recover_binding(
        self, entry: int, source: str, destination: str, kind: str, key: str, arguments: Table
    ) -> bool:
        """Add a binding that the log has; return False if one of its ends does not exist or is younger."""
        exchange, target = self.exchanges.get(source), self._destination(kind, destination)
        if exchange is None or target is None or entry < max(exchange.entry, target.entry):
            return False
        self._add(Binding(exchange, target, key, arguments, entry))
        return True

    def recover_delayed(self, entry: int, stored: StoredDelay) -> None:
        """Add a delayed message that the log has; drop it if its exchange is gone."""
        exchange = self.exchanges.get(stored.exchange)
        if exchange is None:
            self._drop(entry)
        else:
            self._delayed.recover(entry, exchange, stored)

    def close(self) -> None:
        """Remove all exchanges from the log."""
        for exchange in list(self.exchanges.values()):
            self._remove(exchange)

    def _drop(self, entry: int) -> None:
        journal = self._memory.journal
        if entry and journal is not None:
            journal.drop(entry)

    def unbind(
        self,
        source: str,
        destination: str,
        kind: str,
        key: str,
        arguments: Table,
        owner: object,
        access: Access = UNRESTRICTED,
    ) -> None:
        """Remove a binding; a missing one is no error. Raises AmqpError 403, 405."""
        source, destination = self._ends(source, destination, kind, key, access)
        exchange = self.exchanges.get(source)
        target = self._destination(kind, destination)
        if exchange is None or target is None:
            return
        identity = binding_identity(target, key, arguments)
        if identity not in exchange.bindings:
            return
        if not isinstance(target, Exchange):
            target.check_access(owner)
        self.bindings.remove(exchange, identity)
        self.changed()
        self._auto_delete(exchange)

    def _ends(self, source: str, destination: str, kind: str, key: str, access: Access) -> tuple[str, str]:
        """Source and destination names of a binding, once the user may bind them.

        Raises AmqpError 403, also for the default exchange.
        """
        source, destination = strip_name(source), strip_name(destination)
        access.check(Operation.WRITE, kind, destination)
        if kind == "exchange":
            _refuse_default(destination)
        _refuse_default(source)
        access.check(Operation.READ, "exchange", source)
        exchange = self.exchanges.get(source)
        if exchange is not None and exchange.type is ExchangeType.TOPIC:
            access.check_topic(Operation.READ, source, key)
        return source, destination

    def _destination(self, kind: str, name: str) -> Exchange | Queue | None:
        return self._queues.get(name) if kind == "queue" else self.exchanges.get(name)

    def unbind_destination(self, target: Exchange | Queue) -> None:
        """Remove the bindings that lead to something deleted."""
        for exchange in self.bindings.destination_deleted(target):
            self._auto_delete(exchange)

    def _auto_delete(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.in_use:
            self._remove(exchange)


def _check_arguments(kind: ExchangeType, arguments: Table) -> None:
    """Raises AmqpError 406, or 503 for an unknown x-delayed-type."""
    if kind is ExchangeType.DELAYED:
        field = arguments.get(DELAYED_TYPE)
        if field is None or field[0] != "S" or field[1] == ExchangeType.DELAYED.value.encode():
            raise precondition_failed("Invalid argument, 'x-delayed-type' must be an existing exchange type")
        inner = field[1].decode(errors="replace")
        if inner not in tuple(ExchangeType):
            raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{inner}'")
        kind = ExchangeType(inner)
    if kind is ExchangeType.CONSISTENT_HASH:
        consistent_hash.check_arguments(arguments)


def _refuse_default(name: str) -> None:
    if name == "":
        raise access_refused(_DEFAULT_EXCHANGE)


def refuse_reserved(kind: str, name: str) -> None:
    """Raises AmqpError 403 for a name that is reserved for the broker."""
    if name.startswith("amq."):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def strip_name(name: str) -> str:
    """Remove line breaks from a name, as RabbitMQ does."""
    return name.replace("\r", "").replace("\n", "")
