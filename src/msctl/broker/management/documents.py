"""The JSON documents of queues, exchanges, bindings, connections, channels and consumers. Pure.

Field names and meanings are those of RabbitMQ 3.10's management API. Left out is what only an Erlang node
has: reductions, garbage collection, the status of the backing queue.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from urllib.parse import quote

from msctl.broker.core.consumers import ConsumerChannel, QueueConsumer
from msctl.broker.core.exchanges import Binding, Exchange
from msctl.broker.core.policies import Policy
from msctl.broker.core.queues import Queue
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.management.json_values import name_text
from msctl.broker.management.rates import Rates, with_rates
from msctl.broker.protocol.json_tables import bytes_to_json, table_to_json
from msctl.broker.protocol.tables import encode_table
from msctl.broker.session.channel import Channel
from msctl.broker.session.session import Session, SessionState

NODE = "msctl@localhost"
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """What the documents of one answer share: rates, and the time as monotonic and epoch seconds."""

    rates: Rates
    now: float
    epoch: float

    def shown(self, monotonic: float) -> str:
        """A monotonic time as ISO 8601 text."""
        moment = datetime.fromtimestamp(self.epoch - (self.now - monotonic), UTC)
        return moment.isoformat(timespec="milliseconds")


# --- queues ---------------------------------------------------------------------------------------


def queue_counters(queue: Queue) -> dict[str, int]:
    """The counters of message_stats."""
    consumed = queue.delivered - queue.got
    return {
        "publish": queue.published,
        "deliver": consumed - queue.delivered_no_ack,
        "deliver_no_ack": queue.delivered_no_ack,
        "get": queue.got - queue.got_no_ack,
        "get_no_ack": queue.got_no_ack,
        "get_empty": queue.got_nothing,
        "deliver_get": queue.delivered,
        "ack": queue.acked,
        "redeliver": queue.redelivered,
    }


def queue_levels(queue: Queue) -> dict[str, int]:
    ready, unacked = queue.ready.count, queue.unacked
    return {
        "messages": ready + unacked,
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    }


def queue_document(vhost: VirtualHost, queue: Queue, moment: Moment) -> Document:
    counters = queue_counters(queue)
    rates = moment.rates.of(queue, counters, moment.now)
    active, exclusive = queue.consumers.active, next((c for c in queue.consumers if c.exclusive), None)
    document: Document = {
        "arguments": table_to_json(queue.arguments),
        "auto_delete": queue.auto_delete,
        "consumer_capacity": 1.0 if queue.consumers else 0,
        "consumer_utilisation": 1.0 if queue.consumers else 0,
        "consumers": len(queue.consumers),
        "durable": queue.durable,
        "effective_policy_definition": dict(queue.applied.definition),
        "exclusive": queue.owner is not None,
        "exclusive_consumer_tag": None if exclusive is None else name_text(exclusive.tag),
        "head_message_timestamp": None,
        "memory": queue.ready.bytes,
        "message_bytes": queue.ready.bytes,
        "message_bytes_ready": queue.ready.bytes,
        **with_rates(queue_levels(queue), {}),
        "name": name_text(queue.name),
        "node": NODE,
        "operator_policy": _policy_name(queue.applied.operator),
        "policy": _policy_name(queue.applied.policy),
        "single_active_consumer_tag": None if active is None else name_text(active.tag),
        "state": "running",
        "type": queue.options.kind,
        "vhost": name_text(vhost.name),
    }
    if any(counters.values()):
        document["message_stats"] = with_rates(counters, rates)
    if isinstance(queue.owner, Session):
        document["owner_pid_details"] = _connection_details(queue.owner)
    return document


def _policy_name(policy: Policy | None) -> str | None:
    return None if policy is None else name_text(policy.name)


def consumer_documents(vhost: VirtualHost, queue: Queue) -> list[Document]:
    return [_consumer_document(vhost, queue, consumer) for consumer in queue.consumers]


def _consumer_document(vhost: VirtualHost, queue: Queue, consumer: QueueConsumer) -> Document:
    single = queue.options.single_active_consumer
    active = not single or consumer is queue.consumers.active
    return {
        "arguments": table_to_json(consumer.arguments),
        "ack_required": not consumer.no_ack,
        "active": active,
        "activity_status": ("single_active" if single else "up") if active else "waiting",
        "channel_details": {} if consumer.channel is None else _channel_details(consumer.channel),
        "consumer_tag": name_text(consumer.tag),
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "queue": {"name": name_text(queue.name), "vhost": name_text(vhost.name)},
    }


# --- exchanges and bindings -----------------------------------------------------------------------


def exchange_document(vhost: VirtualHost, exchange: Exchange) -> Document:
    document: Document = {
        "arguments": table_to_json(exchange.arguments),
        "auto_delete": exchange.auto_delete,
        "durable": exchange.durable,
        "internal": exchange.internal,
        "name": name_text(exchange.name),
        "type": exchange.type.value,
        "user_who_performed_action": "rmq-internal",
        "vhost": name_text(vhost.name),
    }
    if exchange.delayed:
        document["message_stats"] = {"messages_delayed": exchange.delayed}
    return document


def binding_document(vhost: VirtualHost, binding: Binding) -> Document:
    is_exchange = isinstance(binding.destination, Exchange)
    return {
        "source": name_text(binding.source.name),
        "vhost": name_text(vhost.name),
        "destination": name_text(binding.destination.name),
        "destination_type": "exchange" if is_exchange else "queue",
        "routing_key": name_text(binding.key),
        "arguments": table_to_json(binding.arguments),
        "properties_key": properties_key(binding),
    }


def default_binding(vhost: VirtualHost, queue: Queue) -> Document:
    """The implicit binding of a queue to the default exchange."""
    name = name_text(queue.name)
    return {
        "source": "",
        "vhost": name_text(vhost.name),
        "destination": name,
        "destination_type": "queue",
        "routing_key": name,
        "arguments": {},
        "properties_key": quote(name, safe=""),
    }


def properties_key(binding: Binding) -> str:
    """The last part of a binding's path: its key, and a digest of its arguments."""
    key = quote(name_text(binding.key), safe="")
    if not binding.arguments:
        return key or "~"
    table = encode_table(dict(sorted(binding.arguments.items())))
    digest = blake2b(table, digest_size=4).digest()
    return f"{key}~{urlsafe_b64encode(digest).decode().rstrip('=')}"


def bindings_of(vhost: VirtualHost) -> Iterator[Binding]:
    """All bindings that were made; those to the default exchange are implicit."""
    for exchange in list(vhost.routing.exchanges.values()):
        yield from list(exchange.live_bindings())


# --- connections and channels ---------------------------------------------------------------------


def _connection_details(session: Session) -> Document:
    (host, port), _ = session.addresses or (("", 0), ("", 0))
    return {"name": session.name, "peer_host": host, "peer_port": port}


def connection_counters(session: Session) -> dict[str, int]:
    return {"recv_oct": session.received, "send_oct": session.sent}


def connection_document(session: Session, moment: Moment) -> Document:
    (peer_host, peer_port), (host, port) = session.addresses or (("", 0), ("", 0))
    counters = connection_counters(session)
    vhost = session.vhost
    provided = session.login.client_properties.get(b"connection_name")
    document: Document = {
        "auth_mechanism": session.login.mechanism,
        "channel_max": session.login.channel_max,
        "channels": session.channel_count,
        "client_properties": table_to_json(session.login.client_properties),
        "connected_at": int(session.connected_at * 1000),
        "frame_max": session.outbox.frame_max,
        "host": host,
        "name": session.name,
        "node": NODE,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "port": port,
        "protocol": "AMQP 0-9-1",
        **with_rates(counters, moment.rates.of(session, counters, moment.now)),
        "recv_cnt": 0,
        "send_cnt": 0,
        "send_pend": 0,
        "ssl": False,
        "state": _state(session),
        "timeout": session.login.heartbeat,
        "type": "network",
        "user": name_text(session.user),
        "user_who_performed_action": name_text(session.user),
        "vhost": "" if vhost is None else name_text(vhost.name),
    }
    if provided is not None and provided[0] == "S":
        document["user_provided_name"] = bytes_to_json(provided[1])
    return document


def _state(session: Session) -> str:
    if session.blocked:
        return "blocked"
    return "running" if session.state is SessionState.RUNNING else session.state.name.lower()


def _channel_name(channel: Any) -> str:
    return f"{channel.connection.name} ({channel.number})"


def _channel_details(channel: ConsumerChannel) -> Document:
    session = channel.connection
    details = _connection_details(session)
    return {
        "peer_host": details["peer_host"],
        "peer_port": details["peer_port"],
        "connection_name": session.name,
        "name": _channel_name(channel),
        "node": NODE,
        "number": channel.number,
        "user": name_text(session.user),
    }


def channel_counters(channel: Channel) -> dict[str, int]:
    return {
        "publish": channel.publisher.confirms.published,
        "confirm": channel.publisher.confirms.confirmed,
        "deliver_get": channel.deliveries.delivered,
    }


def channel_document(session: Session, channel: Channel, moment: Moment) -> Document:
    publisher, deliveries = channel.publisher, channel.deliveries
    confirms = publisher.confirms
    counters = channel_counters(channel)
    document: Document = {
        "acks_uncommitted": 0,
        "confirm": publisher.confirming,
        "connection_details": _connection_details(session),
        "consumer_count": len(deliveries.consumers),
        "global_prefetch_count": deliveries.limit,
        "messages_unacknowledged": len(deliveries.unacked),
        "messages_uncommitted": len(publisher.transaction or ()),
        "messages_unconfirmed": confirms.published - confirms.confirmed,
        "name": _channel_name(channel),
        "node": NODE,
        "number": channel.number,
        "prefetch_count": deliveries.prefetch,
        "state": "running",
        "transactional": publisher.transaction is not None,
        "user": name_text(session.user),
        "user_who_performed_action": name_text(session.user),
        "vhost": "" if session.vhost is None else name_text(session.vhost.name),
    }
    if any(counters.values()):
        rates = moment.rates.of(channel, counters, moment.now)
        document["message_stats"] = with_rates(counters, rates)
    return document
