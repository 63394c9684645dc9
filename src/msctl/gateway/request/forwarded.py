"""A plan: what the gateway does with a request, and the head that it forwards. Shared by equal requests."""

from __future__ import annotations

from typing import NamedTuple, Self

from msctl.gateway.message.headers import Fields
from msctl.gateway.message.http1 import serialize_fields
from msctl.gateway.message.target import Target
from msctl.gateway.request.validation import FieldFacts
from msctl.gateway.routing.route_settings import RouteSettings
from msctl.gateway.routing.routes import Match
from msctl.model.exchange import RequestHead


class ForwardedHead(RequestHead):
    """A request's head as it is forwarded, without the fields that differ with every request.

    `target` is in origin form. `host` is the client's Host, empty if it sent none (HTTP/1.0).
    `serialized_fields` are `fields` as bytes.
    """

    __slots__ = ("host", "serialized_fields")

    def __init__(self, method: str, target: str, host: str, fields: Fields, facts: FieldFacts) -> None:
        all_fields: Fields = [(b"Host", host.encode("latin-1")), *fields] if host else list(fields)
        if facts.chunked:
            all_fields.append((b"Transfer-Encoding", b"chunked"))
        elif facts.length is not None:
            all_fields.append((b"Content-Length", b"%d" % facts.length))
        if facts.upgrade is not None:
            all_fields += [(b"Connection", b"Upgrade"), (b"Upgrade", facts.upgrade.encode())]
        super().__init__(
            method,
            target,
            (1, 1),
            tuple(all_fields),
            length=facts.length,
            chunked=facts.chunked,
            upgrade=facts.upgrade,
            expects_continue=facts.expects_continue,
        )
        self.host = host
        self.serialized_fields = serialize_fields(all_fields)

    def with_target(self, target: str) -> Self:
        head = super().with_target(target)
        head.host = self.host
        head.serialized_fields = self.serialized_fields
        return head


Peer = tuple[str, str]
"""A connection's client address (empty for a Unix socket) and its scheme."""


class Plan(NamedTuple):
    """What the gateway does with a request.

    `client_address` is that of the original client, as far as trusted peers name it. `forwarded` are
    the fields to forward, before framing. `gateway_response` holds the fields of the 200 with which the
    gateway answers the request itself; None if the request is to be forwarded.
    """

    settings: RouteSettings
    match: Match
    scheme: str
    facts: FieldFacts
    client_address: str
    forwarded: Fields
    close: bool
    gateway_response: Fields | None
    target: Target
    head: ForwardedHead

    def with_query(self, query: str | None) -> Plan:
        """Return the plan of a request that differs in its query alone."""
        old = self.target
        path = self.head.target.partition("?")[0]
        target = Target(old.path, query, old.authority, old.asterisk)
        head = self.head.with_target(path if query is None else f"{path}?{query}")
        return Plan._make((*self[:-2], target, head))
