"""Checks a publish and routes it: from its method and properties to a `PublishPlan`. No sockets.

A plan depends on what is given here, on the direct reply-to address, and on what `Routing.generation` counts;
see `publish_plan` for how long it is valid.
"""

from __future__ import annotations

from msctl.broker.core.access import Access, Operation
from msctl.broker.core.broker import Broker
from msctl.broker.core.dead_letter import cc_keys
from msctl.broker.core.exchanges import ExchangeType
from msctl.broker.core.queues import Queue
from msctl.broker.core.users import IMPERSONATOR
from msctl.broker.core.vhost import REPLY_QUEUE, VirtualHost
from msctl.broker.protocol.properties import HEADERS, REPLY_TO, join, read_properties, split, with_headers
from msctl.broker.protocol.replies import (
    AmqpError,
    ReplyCode,
    access_refused,
    precondition_failed,
    resource,
)
from msctl.broker.protocol.tables import TYPE_NAMES, MalformedError
from msctl.broker.protocol.wire import shortstr
from msctl.broker.session.publish_plan import PublishMethod, PublishPlan


class PublishPlanner:
    """Plans the publishes of one channel; `user` and `access` are those of its connection."""

    def __init__(self, broker: Broker, vhost: VirtualHost, user: str, access: Access) -> None:
        self.reply_address: str | None = None
        """What replaces the direct reply-to queue's name; None without a reply consumer."""
        self._broker = broker
        self._vhost = vhost.name
        self._routing = vhost.routing
        self._user = user
        self._access = access

    def plan(self, method: PublishMethod, raw: bytes) -> PublishPlan:
        """Check a publish with the properties `raw`, and route it. Raises AmqpError 403, 404, 406."""
        self._access.check(Operation.WRITE, "exchange", method.exchange)
        exchange = self._routing.exchange(method.exchange)
        if exchange.internal:
            shown = resource("exchange", exchange.name, self._vhost)
            raise access_refused(f"cannot publish to internal {shown}")
        if exchange.type is ExchangeType.TOPIC:
            self._access.check_topic(Operation.WRITE, exchange.name, method.key)
        try:
            properties = read_properties(raw)
        except MalformedError as exc:
            raise AmqpError(ReplyCode.INTERNAL_ERROR, method=0) from exc
        if properties.user_id is not None:
            self._check_user_id(properties.user_id.decode(errors="surrogateescape"))
        relayed = self._with_reply_address(raw) if properties.reply_to == REPLY_QUEUE.encode() else raw
        headers = properties.headers
        if headers is None:
            targets = self._routing.route_key(exchange, method.key, raw)
        else:
            for name in (b"CC", b"BCC"):
                if name in headers and headers[name][0] != "A":
                    raise _bad_copies(name, headers[name][0])
            targets = self._routing.route(exchange, (method.key, *cc_keys(headers)), headers, raw)
            if b"BCC" in headers:
                parts = split(relayed)
                shown_headers = {name: field for name, field in headers.items() if name != b"BCC"}
                relayed = join(with_headers(parts, shown_headers) if HEADERS in parts else parts)
        routed = any(isinstance(target, Queue) for target in targets)
        stored = any(
            target.entry and (properties.persistent or target.stores_transient) for target in targets
        )
        return PublishPlan(method, properties, relayed, targets, self._routing.generation, routed, stored)

    def _check_user_id(self, claimed: str) -> None:
        """Raises AmqpError 406 for the name of another user, unless this one may impersonate others."""
        user = self._broker.users.get(self._user)
        if claimed != self._user and (user is None or IMPERSONATOR not in user.tags):
            raise precondition_failed(
                f"user_id property set to '{claimed}' but authenticated user was '{self._user}'"
            )

    def _with_reply_address(self, raw: bytes) -> bytes:
        if self.reply_address is None:
            raise precondition_failed("fast reply consumer does not exist")
        return join({**split(raw), REPLY_TO: shortstr(self.reply_address)})


def _bad_copies(name: bytes, kind: str) -> AmqpError:
    return precondition_failed(
        f'invalid message: {{unacceptable_type_in_header,"{name.decode()}",{TYPE_NAMES[kind]}}}'
    )
