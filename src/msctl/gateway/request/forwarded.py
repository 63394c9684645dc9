"""A plan: what the gateway does with a request, and the head that it forwards. Shared by equal requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from msctl.gateway.message.headers import Fields
from msctl.gateway.message.http1 import serialize_fields
from msctl.gateway.message.target import Target, parse_target
from msctl.gateway.request.validation import FieldFacts
from msctl.gateway.routing.route_settings import RouteSettings
from msctl.gateway.routing.routes import Match
from msctl.model.exchange import RequestHead


class ForwardedHead(RequestHead):
    """A request's head as it is forwarded, without the fields that differ with every request.

    `target` is in origin form. `host` is the client's Host, empty if it sent none (HTTP/1.0).
    `serialized_fields` are `fields` as bytes, without Expect: whether it is sent on to a process is decided
    for each attempt. A hosted application sees it.
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
        self.serialized_fields = serialize_fields(all_fields)
        if facts.expects_continue:
            all_fields.append((b"Expect", b"100-continue"))
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

    def with_target(self, target: str) -> Self:
        head = self.__class__.__new__(self.__class__)  # not through super(): for each request that is new
        head.method = self.method
        head.target = target
        head.version = self.version
        head.fields = self.fields
        head.keep_alive = self.keep_alive
        head.length = self.length
        head.chunked = self.chunked
        head.upgrade = self.upgrade
        head.expects_continue = self.expects_continue
        head.memo = {}
        head.fields_memo = self.fields_memo
        head.host = self.host
        head.serialized_fields = self.serialized_fields
        return head


Peer = tuple[str, str]
"""A connection's client address (empty for a Unix socket) and its scheme."""


@dataclass(slots=True)
class Plan:
    """What the gateway does with a request. Shared, so it is never changed.

    `client_address` is that of the original client, as far as trusted peers name it. `forwarded` are
    the fields to forward, before framing. `gateway_response` holds the fields of the 200 with which the
    gateway answers the request itself; None if the request is to be forwarded. `match` has the variables of
    composed routes; those of other routes may be another request's.
    """

    settings: RouteSettings
    match: Match
    scheme: str
    facts: FieldFacts
    client_address: str
    forwarded: Fields
    close: bool
    gateway_response: Fields | None
    received_target: str
    head: ForwardedHead

    replace = replace

    @property
    def target(self) -> Target:
        """The target as the client sent it, before a prefix was stripped, in origin form."""
        return parse_target(self.received_target)

    def to(self, target: str) -> Plan:
        """Return the plan of a request with another target, of a route that forwards it as it came."""
        return Plan(
            self.settings,
            self.match,
            self.scheme,
            self.facts,
            self.client_address,
            self.forwarded,
            self.close,
            self.gateway_response,
            target,
            self.head.with_target(target),
        )
