"""Definitions are checked by JSON path, applied in RabbitMQ's order, and written in its format."""

from __future__ import annotations

import json
from typing import Any

import pytest

from msctl.broker.core.broker import Broker
from msctl.broker.core.definitions.document import read_document
from msctl.broker.core.definitions.exporter import export_definitions, export_vhost
from msctl.broker.core.definitions.importer import (
    import_definitions,
    remove_what_is_gone,
    unmatched_policies,
)
from tests.unit.broker.client import Client, make_broker

HASH = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR"  # of "test12"
SHOP: dict[str, Any] = {
    "rabbit_version": "3.10.8",
    "users": [
        {
            "name": "app",
            "password_hash": HASH,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": ["monitoring"],
            "limits": {"max-connections": 5},
        }
    ],
    "vhosts": [{"name": "/"}, {"name": "shop", "metadata": {"description": "orders", "tags": ["a"]}}],
    "permissions": [{"user": "app", "vhost": "shop", "configure": "", "write": "^orders", "read": "^orders"}],
    "topic_permissions": [
        {"user": "app", "vhost": "shop", "exchange": "amq.topic", "write": "^a", "read": "^b"}
    ],
    "parameters": [
        {"component": "vhost-limits", "vhost": "shop", "name": "limits", "value": {"max-queues": 3}},
        {
            "component": "operator_policy",
            "vhost": "shop",
            "name": "cap",
            "value": {
                "pattern": ".*",
                "definition": {"max-length": 100},
                "priority": 0,
                "apply-to": "queues",
            },
        },
    ],
    "global_parameters": [{"name": "cluster_name", "value": "rabbit@prod"}],
    "policies": [
        {
            "vhost": "shop",
            "name": "dlx",
            "pattern": "^orders$",
            "apply-to": "queues",
            "priority": 1,
            "definition": {"dead-letter-exchange": "dead"},
        }
    ],
    "queues": [
        {
            "vhost": "shop",
            "name": "orders",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-message-ttl": 60000},
        },
        {
            "vhost": "shop",
            "name": "q2",
            "durable": True,
            "auto_delete": False,
            "arguments": {"x-queue-type": "quorum"},
        },
    ],
    "exchanges": [
        {
            "vhost": "shop",
            "name": "dead",
            "type": "fanout",
            "durable": True,
            "auto_delete": False,
            "internal": False,
            "arguments": {},
        }
    ],
    "bindings": [
        {
            "source": "dead",
            "vhost": "shop",
            "destination": "orders",
            "destination_type": "queue",
            "routing_key": "k",
            "arguments": {"a": 1},
        }
    ],
}


def with_(section: str, *entries: Any) -> dict[str, Any]:
    return {"vhosts": [{"name": "/"}], "users": [], section: list(entries)}


def load(broker: Broker, document: Any) -> list[str]:
    definitions, problems = read_document(document, users={"guest"}, vhosts=set(broker.vhosts))
    assert problems.errors == []
    for _ in import_definitions(broker, definitions, problems):
        pass
    assert problems.errors == []
    return [str(each) for each in problems.warnings]


def test_loaded_definitions_take_effect() -> None:
    broker = make_broker()
    assert load(broker, SHOP) == []
    shop = broker.vhosts["shop"]
    orders = shop.queues["orders"]
    assert (orders.options.message_ttl, orders.options.max_length) == (60000, 100)
    assert orders.options.dead_letter_exchange == "dead"
    assert shop.queues["q2"].options.kind == "quorum"
    assert (shop.info.description, shop.limits.queues) == ("orders", 3)
    client = Client(broker, handshake=False)
    client.handshake(user="app", password="test12", vhost="shop")
    client.open(1)
    client.publish(b"x", "ignored", exchange="dead")
    assert not orders.ready.count


def test_written_definitions_are_those_that_were_loaded() -> None:
    broker = make_broker()
    load(broker, SHOP)
    broker.users.delete("guest")
    written = export_definitions(broker)
    expected = json.loads(json.dumps(SHOP))
    for queue in expected["queues"]:
        queue["type"] = queue["arguments"].get("x-queue-type", "classic")
    for section in expected:
        if section not in ("rabbit_version", "vhosts"):
            assert written[section] == expected[section], section
    again = make_broker()
    load(again, written)
    again.users.delete("guest")
    assert export_definitions(again) == written


def test_definitions_of_one_virtual_host_move_to_another() -> None:
    broker = make_broker()
    load(broker, SHOP)
    written = export_vhost(broker, broker.vhosts["shop"])
    assert "vhost" not in written["queues"][0]
    definitions, problems = read_document(written, vhosts=set(broker.vhosts), vhost="/")
    assert not problems.errors
    for _ in import_definitions(broker, definitions, problems):
        pass
    assert set(broker.vhosts["/"].queues) == {"orders", "q2"}


@pytest.mark.parametrize(
    ("document", "path", "fragment"),
    [
        ([], "", "must be a JSON object"),
        ({"users": {}}, "users", "must be a list"),
        ({"users": [1]}, "users[0]", "must be an object"),
        (with_("users", {"tags": []}), "users[0].name", "missing"),
        (with_("users", {"name": "u"}), "users[0].tags", "missing"),
        (
            with_("users", {"name": "u", "tags": "", "password_hash": "xx"}),
            "users[0].password_hash",
            "base64",
        ),
        (
            with_("users", {"name": "u", "tags": "", "password_hash": HASH[:40]}),
            "users[0].password_hash",
            "bytes",
        ),
        (
            with_("users", {"name": "u", "tags": "", "password_hash": HASH, "hashing_algorithm": "sha1"}),
            "users[0].hashing_algorithm",
            "sha1",
        ),
        (
            with_("users", {"name": "u", "tags": "", "password_hash": HASH, "password": "x"}),
            "users[0].password",
            "password_hash",
        ),
        (
            with_("permissions", {"user": "nobody", "vhost": "/", "configure": "", "write": "", "read": ""}),
            "permissions[0].user",
            "'nobody'",
        ),
        (
            with_("permissions", {"user": "guest", "vhost": "x", "configure": "", "write": "", "read": ""}),
            "permissions[0].vhost",
            "'x'",
        ),
        (
            with_("permissions", {"user": "guest", "vhost": "/", "configure": "(", "write": "", "read": ""}),
            "permissions[0]",
            "regular expression",
        ),
        (
            with_("policies", {"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}),
            "policies[0].pattern",
            "regular expression",
        ),
        (
            with_("policies", {"vhost": "/", "name": "p", "pattern": ".*", "definition": {"max-lenght": 1}}),
            "policies[0].definition.max-lenght",
            "not recognised",
        ),
        (
            with_(
                "policies",
                {
                    "vhost": "/",
                    "name": "p",
                    "pattern": "",
                    "definition": {"max-length": 1},
                    "priority": "high",
                },
            ),
            "policies[0]",
            "priority",
        ),
        (
            with_("queues", {"vhost": "/", "name": "q", "arguments": {"x-max-length": -1}}),
            "queues[0].arguments",
            "x-max-length",
        ),
        (
            with_("queues", {"vhost": "/", "name": "q", "durable": "yes"}),
            "queues[0].durable",
            "true or false",
        ),
        (
            with_("queues", {"vhost": "/", "name": "q", "arguments": {"a": None}}),
            "queues[0].arguments",
            "null",
        ),
        (with_("queues", {"vhost": "/", "name": "x" * 300}), "queues[0].name", "255"),
        (with_("queues", {"vhost": "/", "name": "\ud800"}), "queues[0].name", "surrogate"),
        (
            with_(
                "policies",
                {"vhost": "/", "name": "p", "pattern": "", "definition": {"dead-letter-exchange": "\ud800"}},
            ),
            "policies[0].definition.dead-letter-exchange",
            "not a valid",
        ),
        (with_("exchanges", {"vhost": "/", "name": "x", "type": "odd"}), "exchanges[0].type", "'odd'"),
        (
            with_("bindings", {"vhost": "/", "source": "x", "destination": "q", "destination_type": "topic"}),
            "bindings[0].destination_type",
            "'topic'",
        ),
    ],
)
def test_error_names_its_path(document: Any, path: str, fragment: str) -> None:
    _, problems = read_document(document, users={"guest"})
    assert [each.path for each in problems.errors] == [path]
    assert fragment in problems.errors[0].text


@pytest.mark.parametrize(
    ("document", "path", "fragment"),
    [
        ({"userz": []}, "userz", "not known"),
        (with_("queues", {"vhost": "/", "name": "q", "colour": "red"}), "queues[0].colour", "not known"),
        (with_("queues", {"vhost": "/", "name": "q", "type": "stream"}), "queues[0]", "stream"),
        (with_("queues", {"vhost": "/", "name": "amq.gen-1"}), "queues[0].name", "skipped"),
        (with_("users", {"name": "u", "tags": [], "password_hash": ""}), "users[0].password_hash", "log in"),
        (
            with_(
                "bindings", {"vhost": "/", "source": "no", "destination": "q", "destination_type": "queue"}
            ),
            "bindings[0].source",
            "does not exist",
        ),
        (
            with_("parameters", {"component": "shovel", "vhost": "/", "name": "s", "value": {}}),
            "parameters[0].component",
            "no effect",
        ),
    ],
)
def test_warning_names_its_path_and_the_rest_is_loaded(document: Any, path: str, fragment: str) -> None:
    broker = make_broker()
    document = {**document, "exchanges": [{"vhost": "/", "name": "loaded", "type": "direct"}]}
    warnings = load(broker, document)
    assert len(warnings) == 1
    assert warnings[0].startswith(f"{path}: ")
    assert fragment in warnings[0]
    assert "loaded" in broker.vhosts["/"].routing.exchanges


def test_existing_queue_is_left_as_it_is() -> None:
    broker = make_broker()
    queue = broker.vhosts["/"].declare_queue(
        "q", None, durable=False, exclusive=False, auto_delete=False, arguments={}
    )
    assert load(broker, with_("queues", {"vhost": "/", "name": "q", "durable": False})) == []
    (warning,) = load(broker, with_("queues", {"vhost": "/", "name": "q", "durable": True}))
    assert warning.startswith("queues[0]: inequivalent arg 'durable'")
    assert broker.vhosts["/"].queues["q"] is queue


def test_policy_that_matches_nothing_is_found() -> None:
    broker = make_broker()
    policy = {"vhost": "/", "name": "p", "pattern": "^nothing", "definition": {"max-length": 1}}
    document = {"policies": [policy], "queues": [{"vhost": "/", "name": "q"}]}
    definitions, problems = read_document(document)
    for _ in import_definitions(broker, definitions, problems):
        pass
    assert [path for path, _ in unmatched_policies(broker, definitions)] == ["policies[0]"]


def test_what_an_edit_removes_is_removed_but_queues_stay() -> None:
    broker = make_broker()
    load(broker, SHOP)
    before, _ = read_document(SHOP)
    after, _ = read_document({"vhosts": [{"name": "shop"}]})
    removed = remove_what_is_gone(broker, before, after)
    assert removed == [
        "policy 'cap' of virtual host 'shop'",
        "policy 'dlx' of virtual host 'shop'",
        "user 'app'",
    ]
    assert broker.users.get("app") is None
    assert broker.vhosts["shop"].queues["orders"].options.max_length is None


def test_hash_of_an_old_version_is_md5() -> None:
    users = [{"name": "old", "password_hash": "kI3GCh5dEP0TrGWNGbiwEbDqVlo=", "administrator": "true"}]
    definitions, problems = read_document({"rabbit_version": "3.5.7", "users": users})
    assert not problems.errors
    password = definitions.users["old"].password
    assert password is not None
    assert "md5" in password.algorithm
    assert definitions.users["old"].tags == ("administrator",)
