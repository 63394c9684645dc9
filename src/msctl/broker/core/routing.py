"""Exchanges and bindings of a virtual host, and where a message goes by them. Pure.

Declaring, deleting and binding with RabbitMQ's rules and texts. What was found for a routing key is
remembered until something changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from msctl.broker.core.arguments import check_equivalent, check_same
from msctl.broker.core.exchanges import (
    Binding,
    Exchange,
    ExchangeType,
    binding_identity,
    check_headers_binding,
    resolve,
)
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    not_found,
    precondition_failed,
    resource,
)
from msctl.broker.protocol.tables import TYPE_NAMES, Table

if TYPE_CHECKING:
    from msctl.broker.core.queues import Queue

_DEFAULT_EXCHANGE = "operation not permitted on the default exchange"
_ROUTES_KEPT = 4096


class Routing:
    """`generation` changes with everything that can change where messages go.

    `queues` are those of the virtual host; who adds or removes one calls `changed`.
    """

    def __init__(self, vhost: str, queues: Mapping[str, Queue]) -> None:
        self.generation = 0
        self.exchanges: dict[str, Exchange] = {}
        self._vhost = vhost
        self._queues = queues
        self._routes: dict[tuple[str, str], tuple[Queue, ...]] = {}
        self._inbound: dict[Exchange | Queue, dict[tuple[object, ...], Exchange]] = {}
        for exchange in ExchangeType:
            self._create(Exchange(f"amq.{exchange}", exchange))
        self._create(Exchange("amq.match", ExchangeType.HEADERS))
        self._create(Exchange("", ExchangeType.DIRECT))

    # --- where to ---

    def exchange(self, name: str) -> Exchange:
        """Raises AmqpError 404."""
        exchange = self.exchanges.get(name)
        if exchange is None:
            raise not_found("exchange", name, self._vhost)
        return exchange

    def route(self, exchange: Exchange, keys: Iterable[str], headers: Table) -> tuple[Queue, ...]:
        """The queues that a message goes to, each once."""
        if exchange.name == "":
            found = {self._queues[key]: None for key in keys if key in self._queues}
        else:
            found = resolve(exchange, keys, headers, self.exchanges.get)
        return tuple(found)

    def route_key(self, exchange: Exchange, key: str) -> tuple[Queue, ...]:
        """`route` for a message with one key and no headers: remembered until something changes."""
        found = self._routes.get((exchange.name, key))
        if found is None:
            if len(self._routes) >= _ROUTES_KEPT:
                self._routes.clear()
            found = self._routes[exchange.name, key] = self.route(exchange, (key,), {})
        return found

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
    ) -> None:
        """Raises AmqpError 403, 404, 406, or 503 for a type that does not exist."""
        name = strip_name(name)
        if passive:
            _refuse_default(name)
            self.exchange(name)
            return
        if kind not in tuple(ExchangeType):
            raise AmqpError(ReplyCode.COMMAND_INVALID, f"unknown exchange type '{kind}'")
        _refuse_default(name)
        found = self.exchanges.get(name)
        if found is None:
            refuse_reserved("exchange", name)
            alternate = arguments.get(b"alternate-exchange")
            if alternate is not None and alternate[0] != "S":
                raise precondition_failed(
                    f"invalid type '{TYPE_NAMES[alternate[0]]}' for arg 'alternate-exchange' "
                    f"in {resource('exchange', name, self._vhost)}"
                )
            self._create(
                Exchange(
                    name,
                    ExchangeType(kind),
                    durable=durable,
                    auto_delete=auto_delete,
                    internal=internal,
                    arguments=arguments,
                )
            )
            return
        shown = resource("exchange", name, self._vhost)
        check_same("type", shown, found.type.value, kind)
        check_same("durable", shown, found.durable, durable)
        check_same("auto_delete", shown, found.auto_delete, auto_delete)
        check_same("internal", shown, found.internal, internal)
        check_equivalent(found.arguments, arguments, (b"alternate-exchange",), shown)

    def _create(self, exchange: Exchange) -> None:
        self.exchanges[exchange.name] = exchange
        self.changed()

    def delete(self, name: str, *, if_unused: bool) -> None:
        """Deleting what is not there is no error. Raises AmqpError 403, 406."""
        name = strip_name(name)
        _refuse_default(name)
        shown = resource("exchange", name, self._vhost)
        if name.startswith("amq."):
            raise access_refused(f"deletion of system {shown} not allowed")
        exchange = self.exchanges.get(name)
        if exchange is None:
            return
        if if_unused and exchange.bindings:
            raise precondition_failed(f"{shown} in use")
        self._remove(exchange)

    def _remove(self, exchange: Exchange) -> None:
        if self.exchanges.pop(exchange.name, None) is None:
            return
        self.changed()
        for identity, binding in list(exchange.bindings.items()):
            exchange.unbind(identity)
            self._forget_inbound(binding.destination, exchange, identity)
        self.unbind_destination(exchange)

    # --- bindings ---

    def bind(
        self, source: str, destination: str, kind: str, key: str, arguments: Table, owner: object
    ) -> None:
        """Bind a queue or an exchange (`kind`). Raises AmqpError 403, 404, 405, 406."""
        source, destination = _ends(source, destination, kind)
        exchange = self.exchange(source)
        target = self._destination(kind, destination)
        if target is None:
            raise not_found(kind, destination, self._vhost)
        if exchange.type is ExchangeType.HEADERS:
            check_headers_binding(arguments)
        if not isinstance(target, Exchange):
            target.check_access(owner)
        binding = Binding(exchange, target, key, arguments)
        if exchange.bind(binding):
            identity = binding.identity
            self._inbound.setdefault(target, {})[exchange.name, *identity] = exchange
            self.changed()

    def unbind(
        self, source: str, destination: str, kind: str, key: str, arguments: Table, owner: object
    ) -> None:
        """Removing what is not there is no error. Raises AmqpError 403, 405."""
        source, destination = _ends(source, destination, kind)
        exchange = self.exchanges.get(source)
        target = self._destination(kind, destination)
        if exchange is None or target is None:
            return
        identity = binding_identity(target, key, arguments)
        if identity not in exchange.bindings:
            return
        if not isinstance(target, Exchange):
            target.check_access(owner)
        exchange.unbind(identity)
        self._forget_inbound(target, exchange, identity)
        self.changed()
        self._auto_delete(exchange)

    def _destination(self, kind: str, name: str) -> Exchange | Queue | None:
        return self._queues.get(name) if kind == "queue" else self.exchanges.get(name)

    def _forget_inbound(
        self, target: Exchange | Queue, exchange: Exchange, identity: tuple[object, ...]
    ) -> None:
        known = self._inbound.get(target)
        if known is not None:
            known.pop((exchange.name, *identity), None)
            if not known:
                del self._inbound[target]

    def unbind_destination(self, target: Exchange | Queue) -> None:
        sources = self._inbound.pop(target, {})
        for (_, *identity), exchange in sources.items():
            exchange.unbind(tuple(identity))
        for exchange in {exchange.name: exchange for exchange in sources.values()}.values():
            self._auto_delete(exchange)

    def _auto_delete(self, exchange: Exchange) -> None:
        if exchange.auto_delete and not exchange.bindings:
            self._remove(exchange)


def _ends(source: str, destination: str, kind: str) -> tuple[str, str]:
    """The names of a binding's ends. Raises AmqpError 403 for the default exchange, which has none."""
    source, destination = strip_name(source), strip_name(destination)
    _refuse_default(source)
    if kind == "exchange":
        _refuse_default(destination)
    return source, destination


def _refuse_default(name: str) -> None:
    if name == "":
        raise access_refused(_DEFAULT_EXCHANGE)


def refuse_reserved(kind: str, name: str) -> None:
    """Raises AmqpError 403 for a name that only the broker may give."""
    if name.startswith("amq."):
        raise access_refused(f"{kind} name '{name}' contains reserved prefix 'amq.*'")


def strip_name(name: str) -> str:
    """Names lose their line ends, as RabbitMQ has it."""
    return name.replace("\r", "").replace("\n", "")
