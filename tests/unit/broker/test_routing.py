"""Exchanges and bindings of a virtual host: declarations, and what is deleted together."""

from __future__ import annotations

from typing import Any

import pytest

from msctl.broker.core.queues import Queue
from msctl.broker.core.routing import Routing
from msctl.broker.core.vhost import VirtualHost
from msctl.broker.protocol.replies import AmqpError, ReplyCode
from tests.unit.broker.client import make_broker

ME, YOU = object(), object()


def declare(routing: Routing, name: str, kind: str = "direct", **options: Any) -> None:
    flags = {"passive": False, "durable": False, "auto_delete": False, "internal": False} | options
    arguments = flags.pop("arguments", {})
    routing.declare(name, kind, arguments=arguments, **flags)


@pytest.fixture
def vhost() -> VirtualHost:
    return make_broker().vhosts["/"]


def queue(vhost: VirtualHost, name: str, *, exclusive: bool = False) -> Queue:
    return vhost.declare_queue(name, ME, durable=False, exclusive=exclusive, auto_delete=False, arguments={})


@pytest.mark.parametrize(
    ("name", "options", "code"),
    [
        ("", {}, ReplyCode.ACCESS_REFUSED),
        ("amq.mine", {}, ReplyCode.ACCESS_REFUSED),
        ("x", {"kind": "odd"}, ReplyCode.COMMAND_INVALID),
        ("nowhere", {"passive": True}, ReplyCode.NOT_FOUND),
        ("amq.direct", {"kind": "fanout", "durable": True}, ReplyCode.PRECONDITION_FAILED),
        ("x", {"arguments": {b"alternate-exchange": ("I", 1)}}, ReplyCode.PRECONDITION_FAILED),
    ],
)
def test_invalid_declaration_is_refused(
    vhost: VirtualHost, name: str, options: dict[str, Any], code: ReplyCode
) -> None:
    with pytest.raises(AmqpError) as caught:
        declare(vhost.routing, name, **options)
    assert caught.value.code is code


def test_deleting_a_queue_removes_bindings_and_auto_delete_exchanges(vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "source", "fanout", auto_delete=True)
    declare(routing, "middle", "fanout", auto_delete=True)
    target = queue(vhost, "q")
    routing.bind("source", "middle", "exchange", "", {}, ME)
    routing.bind("middle", "q", "queue", "", {}, ME)
    assert routing.route_key(routing.exchange("source"), "k") == (target,)
    vhost.delete_queue(target)
    assert {"source", "middle"}.isdisjoint(routing.exchanges)


def test_exchange_in_use_is_kept_by_if_unused(vhost: VirtualHost) -> None:
    routing = vhost.routing
    declare(routing, "x")
    queue(vhost, "q")
    routing.bind("x", "q", "queue", "k", {}, ME)
    with pytest.raises(AmqpError, match="exchange 'x' in vhost '/' in use"):
        routing.delete("x", if_unused=True)
    routing.unbind("x", "q", "queue", "k", {}, ME)
    routing.delete("x", if_unused=True)
    routing.delete("x", if_unused=False)
    with pytest.raises(AmqpError, match="deletion of system exchange"):
        routing.delete("amq.topic", if_unused=False)


def test_equal_bindings_are_one(vhost: VirtualHost) -> None:
    routing = vhost.routing
    target = queue(vhost, "q")
    for arguments in ({b"a": ("I", 1), b"b": ("I", 2)}, {b"b": ("I", 2), b"a": ("I", 1)}):
        routing.bind("amq.headers", "q", "queue", "k", arguments, ME)
    assert len(routing.exchange("amq.headers").bindings) == 1
    routing.unbind("amq.headers", "q", "queue", "other", {}, ME)
    routing.unbind("nowhere", "q", "queue", "k", {}, ME)
    assert len(routing.exchange("amq.headers").bindings) == 1
    assert not target.deleted


def test_exclusive_queue_of_another_connection_cannot_be_bound(vhost: VirtualHost) -> None:
    routing = vhost.routing
    queue(vhost, "mine", exclusive=True)
    routing.bind("amq.direct", "mine", "queue", "k", {}, ME)
    for action in (routing.bind, routing.unbind):
        with pytest.raises(AmqpError) as caught:
            action("amq.direct", "mine", "queue", "k", {}, YOU)
        assert caught.value.code is ReplyCode.RESOURCE_LOCKED


def test_binding_error_names_the_missing_exchange_first(vhost: VirtualHost) -> None:
    with pytest.raises(AmqpError, match="no exchange 'x' in vhost '/'"):
        vhost.routing.bind("x", "q", "queue", "k", {}, ME)
    with pytest.raises(AmqpError, match="no queue 'q' in vhost '/'"):
        vhost.routing.bind("amq.direct", "q", "queue", "k", {}, ME)
