"""Users log in with RabbitMQ's password hashes, and do what their permissions allow."""

from __future__ import annotations

from typing import Any

import pytest
from pamqp import base, commands

from msctl.broker.core.users import Algorithm, PasswordHash, Permissions, TopicPermissions, User
from msctl.broker.session.session import Session
from msctl.secret import Secret
from tests.unit.broker.client import Client, make_broker

DOCUMENTED = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"
"""The hash of "test12" in RabbitMQ's documentation of its algorithm."""


def alice(configure: str = "", write: str = "", read: str = "", **topics: tuple[str, str]) -> Client:
    """A client that is logged in as a user with these permissions on `/`."""
    broker = make_broker()
    broker.users.put(User("alice", PasswordHash.make(Secret("s3cret"))))
    broker.users.permit("alice", "/", Permissions.of(configure, write, read))
    for exchange, (may_write, may_read) in topics.items():
        name = exchange.replace("_", ".")
        broker.users.permit_topic("alice", "/", name, TopicPermissions(may_write, may_read))
    client = Client(broker, handshake=False)
    client.handshake(user="alice", password="s3cret")
    client.open(1)
    return client


def refused(client: Client, method: base.Frame) -> str:
    client.send(method)
    close = client.take(commands.Channel.Close)
    assert close.reply_code == 403
    client.send(commands.Channel.CloseOk())
    client.open(1)
    return (close.reply_text or "").removeprefix("ACCESS_REFUSED - ")


def test_documented_hash_is_verified() -> None:
    stored = PasswordHash.decode(DOCUMENTED, Algorithm.SHA256)
    assert stored.verify(b"test12")
    assert not stored.verify(b"test13")
    assert stored.encoded == DOCUMENTED


@pytest.mark.parametrize("algorithm", Algorithm)
def test_hash_of_each_algorithm_round_trips(algorithm: Algorithm) -> None:
    made = PasswordHash.make(Secret("pässword"), algorithm)
    read = PasswordHash.decode(made.encoded, algorithm)
    assert read.verify("pässword".encode())
    assert not read.verify(b"password")
    assert "salted" not in repr(read)


@pytest.mark.parametrize("text", ["", "not base64!", "AAAA", DOCUMENTED[:-4]])
def test_bad_hash_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|base64|padding|data"):
        PasswordHash.decode(text, Algorithm.SHA256)


@pytest.mark.parametrize(
    ("user", "password"), [("nobody", "x"), ("guest", "wrong"), ("guest", ""), ("empty", "")]
)
def test_wrong_login_is_refused_with_one_text(user: str, password: str) -> None:
    broker = make_broker()
    broker.users.put(User("empty"))
    client = Client(broker, handshake=False)
    with pytest.raises(AssertionError):
        client.handshake(user=user, password=password)
    close = client.take(commands.Connection.Close, 0)
    assert close.reply_code == 403
    assert "authentication mechanism PLAIN" in (close.reply_text or "")


def test_guest_logs_in_from_this_machine_only() -> None:
    broker = make_broker()
    client = Client(broker, handshake=False)
    client.session = Session(broker, "a test", loopback=False)
    with pytest.raises(AssertionError):
        client.handshake()
    assert client.take(commands.Connection.Close, 0).reply_code == 403


def test_user_without_permissions_may_not_open_the_virtual_host() -> None:
    broker = make_broker()
    broker.users.revoke("guest", "/")
    client = Client(broker, handshake=False)
    with pytest.raises(AssertionError):
        client.handshake()
    close = client.take(commands.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'guest'",
    )


@pytest.mark.parametrize(
    ("method", "resource"),
    [
        (commands.Queue.Declare(queue="other"), "queue 'other'"),
        (commands.Queue.Delete(queue="other"), "queue 'other'"),
        (commands.Queue.Purge(queue="other"), "queue 'other'"),
        (commands.Queue.Bind(queue="other", exchange="amq.direct"), "queue 'other'"),
        (commands.Queue.Bind(queue="mine", exchange="amq.fanout"), "exchange 'amq.fanout'"),
        (commands.Queue.Unbind(queue="mine", exchange="amq.fanout"), "exchange 'amq.fanout'"),
        (commands.Basic.Get(queue="other"), "queue 'other'"),
        (commands.Basic.Consume(queue="other"), "queue 'other'"),
        (commands.Exchange.Declare(exchange="x"), "exchange 'x'"),
        (commands.Exchange.Delete(exchange="x"), "exchange 'x'"),
        (commands.Exchange.Bind(destination="amq.topic", source="amq.direct"), "exchange 'amq.topic'"),
        (
            commands.Queue.Declare(queue="mine2", arguments={"x-dead-letter-exchange": "amq.topic"}),
            "exchange 'amq.topic'",
        ),
        (
            commands.Exchange.Declare(exchange="mine3", arguments={"alternate-exchange": "amq.topic"}),
            "exchange 'amq.topic'",
        ),
    ],
)
def test_operation_beyond_the_permissions_is_refused_by_name(method: base.Frame, resource: str) -> None:
    client = alice("^mine", "^mine", "^(mine|amq.direct)")
    client.queue("mine")
    assert refused(client, method) == f"access to {resource} in vhost '/' refused for user 'alice'"


def test_operations_within_the_permissions_work() -> None:
    client = alice("^mine", "^(mine|amq\\.default$)", "^(mine|amq.direct)")
    client.queue("mine")
    client.call(commands.Queue.Bind(queue="mine", exchange="amq.direct"), commands.Queue.BindOk)
    client.publish(b"hello", "mine")
    client.call(commands.Basic.Get(queue="mine"), commands.Basic.GetOk)


def test_publish_needs_write_permission_on_the_exchange() -> None:
    client = alice(".*", "^mine", ".*")
    client.publish(b"x", "mine")
    assert "exchange 'amq.default' in vhost '/'" in (client.take(commands.Channel.Close).reply_text or "")


def test_topic_permission_restricts_routing_keys() -> None:
    client = alice(".*", ".*", ".*", amq_topic=("^{username}\\.", "^{vhost}|public"))
    client.queue("q")
    bind = commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="secret")
    assert refused(client, bind) == (
        "access to topic 'secret' in exchange 'amq.topic' in vhost '/' refused for user 'alice'"
    )
    public = commands.Queue.Bind(queue="q", exchange="amq.topic", routing_key="public.#")
    client.call(public, commands.Queue.BindOk)
    client.publish(b"x", "alice.one", exchange="amq.topic")
    client.publish(b"x", "bob.one", exchange="amq.topic")
    assert "access to topic 'bob.one'" in (client.take(commands.Channel.Close).reply_text or "")


def test_revoked_permission_holds_for_a_repeated_publish() -> None:
    client = alice(".*", ".*", ".*")
    client.queue("q")
    for _ in range(5):
        client.publish(b"x", "q")
    client.broker.users.permit("alice", "/", Permissions.of(".*", "^$", ".*"))
    client.publish(b"x", "q")
    assert client.take(commands.Channel.Close).reply_code == 403
    assert client.broker.vhosts["/"].queues["q"].ready.count == 5


def test_decision_of_one_user_is_not_used_for_another() -> None:
    client = alice("^mine", "", "")
    other = Client(client.broker)
    other.open(1)
    other.queue("theirs")
    assert "queue 'theirs'" in refused(client, commands.Queue.Declare(queue="theirs"))
    other.queue("theirs")


@pytest.mark.parametrize(("tags", "accepted"), [((), False), (("impersonator",), True)])
def test_only_an_impersonator_publishes_with_another_user_id(tags: tuple[str, ...], accepted: bool) -> None:
    broker = make_broker()
    guest = broker.users.get("guest")
    assert guest is not None
    broker.users.put(User("guest", guest.password, tags))
    client = Client(broker)
    client.open(1)
    client.queue()
    client.publish(b"x", user_id="somebody")
    assert bool(broker.vhosts["/"].queues["q"].ready.count) is accepted


def test_deleting_a_user_closes_its_connections() -> None:
    client = alice(".*", ".*", ".*")
    assert client.broker.delete_user("alice")
    client.read()
    close = client.take(commands.Connection.Close, 0)
    assert (close.reply_code, "user 'alice' is deleted" in (close.reply_text or "")) == (320, True)
    assert not client.broker.users.permissions_of("alice", "/")


def test_connection_limit_of_a_user_holds() -> None:
    broker = make_broker()
    guest = broker.users.get("guest")
    assert guest is not None
    broker.users.put(User("guest", guest.password, limits={"max-connections": 1}))
    Client(broker)
    late = Client(broker, handshake=False)
    with pytest.raises(AssertionError):
        late.handshake()
    assert "user connection limit (1)" in (late.take(commands.Connection.Close, 0).reply_text or "")


def test_amqplain_login_is_accepted() -> None:
    client = Client(make_broker(), handshake=False)
    client.feed(b"AMQP\x00\x00\x09\x01")
    login: dict[str, Any] = {"LOGIN": "guest", "PASSWORD": "guest"}
    response = base_table(login)
    client.send(commands.Connection.StartOk({}, "AMQPLAIN", response), 0)
    client.take(commands.Connection.Tune, 0)


def base_table(fields: dict[str, Any]) -> str:
    from pamqp.encode import field_table

    return field_table(fields)[4:].decode("latin-1")
