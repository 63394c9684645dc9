"""Virtual hosts: separate queues and exchanges, created and deleted while clients are connected."""

from __future__ import annotations

import pytest
from pamqp import commands

from msctl.broker.core.broker import Broker
from msctl.broker.core.users import Permissions
from tests.unit.broker.client import Client, make_broker


def connect(vhost: str, *, broker: Broker) -> Client:
    broker.users.permit("guest", vhost, Permissions.of())
    client = Client(broker, handshake=False)
    client.handshake(vhost=vhost)
    client.open(1)
    return client


def test_virtual_hosts_share_no_queue_and_no_exchange() -> None:
    broker = make_broker()
    broker.add_vhost("other")
    one, two = connect("/", broker=broker), connect("other", broker=broker)
    for client, durable in ((one, False), (two, True)):
        client.call(commands.Queue.Declare(queue="q", durable=durable), commands.Queue.DeclareOk, 1)
        client.call(commands.Exchange.Declare(exchange="x", durable=durable), commands.Exchange.DeclareOk, 1)
    one.publish(b"to one", "q")
    assert [vhost.queues["q"].ready.count for vhost in broker.vhosts.values()] == [1, 0]
    two.send(commands.Queue.Declare(queue="only-here", passive=True), 1)
    assert (
        two.take(commands.Channel.Close, 1).reply_text == "NOT_FOUND - no queue 'only-here' in vhost 'other'"
    )


def test_unknown_virtual_host_is_not_allowed() -> None:
    client = Client(make_broker(), handshake=False)
    with pytest.raises(AssertionError):
        client.handshake(vhost="missing")
    close = client.take(commands.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (530, "NOT_ALLOWED - vhost missing not found")


def test_deleting_a_virtual_host_closes_its_connections_and_frees_its_messages() -> None:
    broker = make_broker()
    broker.add_vhost("other")
    gone, stays = connect("other", broker=broker), connect("/", broker=broker)
    gone.call(commands.Queue.Declare(queue="q"), commands.Queue.DeclareOk, 1)
    gone.publish(b"x" * 1000, "q")
    gone.call(commands.Basic.Get(queue="q"), commands.Basic.GetOk, 1)
    gone.publish(b"y" * 1000, "q")
    assert broker.delete_vhost("other")
    gone.read()
    close = gone.take(commands.Connection.Close, 0)
    assert close.reply_code == 320
    assert close.reply_text == "CONNECTION_FORCED - vhost 'other' is deleted"
    broker.free(100)
    assert (broker.memory.used, broker.memory.messages, list(broker.vhosts)) == (0, 0, ["/"])
    stays.call(commands.Queue.Declare(queue="q"), commands.Queue.DeclareOk, 1)
    assert not broker.delete_vhost("other")


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_name_that_cannot_be_sent_is_no_virtual_host(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 bytes"):
        make_broker().add_vhost(name)
