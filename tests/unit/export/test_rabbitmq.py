"""The export for a RabbitMQ: definitions that it imports, without the password of broker.url."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from msctl.broker.core.definitions.document import read_document
from msctl.broker.core.users import Algorithm, PasswordHash
from msctl.export import ExportOptions, export
from msctl.model.broker_spec import BrokerSpec
from msctl.model.tls_spec import BrokerTlsSpec
from tests.unit.export import projects

QUEUE = {"vhost": "/", "name": "jobs", "durable": True, "auto_delete": False, "arguments": {}}


def exported(
    broker: BrokerSpec, declared: dict[str, Any] | None = None, running: dict[str, Any] | None = None
) -> tuple[dict[str, Any], str, str]:
    """The definitions, rabbitmq.conf and the notices."""
    project = replace(projects.course(), broker=broker)
    found = export("rabbitmq", project, ExportOptions(definitions=declared, running_definitions=running))
    files = {file.path: file.text for file in found.files}
    document = json.loads(files["definitions.json"])
    _, problems = read_document(document, vhosts=())
    assert not problems.errors
    return document, files["rabbitmq.conf"], "\n".join(f"{each.key}: {each.text}" for each in found.notices)


def test_default_user_is_guest_with_its_known_password() -> None:
    document, conf, _ = exported(BrokerSpec())
    (user,) = document["users"]
    assert PasswordHash.decode(user["password_hash"], Algorithm.SHA256).verify(b"guest")
    assert conf == "load_definitions = /etc/rabbitmq/definitions.json\n"


def test_password_of_the_url_is_not_written() -> None:
    document, conf, notices = exported(BrokerSpec(url="amqp://app:hush@localhost/shop"))
    assert document["users"][0]["password_hash"] == ""
    assert document["permissions"][0]["vhost"] == "shop"
    assert "hush" not in f"{document}{conf}{notices}"
    assert "change_password app" in notices
    assert "skip_if_unchanged" in conf


def test_passwords_of_declared_users_become_hashes_that_stay_the_same() -> None:
    declared = {"users": [{"name": "app", "password": "hush", "tags": []}], "vhosts": [{"name": "/"}]}
    document, _, notices = exported(BrokerSpec(), declared)
    (user,) = document["users"]
    assert PasswordHash.decode(user["password_hash"], Algorithm.SHA256).verify(b"hush")
    assert "password" not in user
    assert exported(BrokerSpec(), declared)[0] == document
    assert "change_password" not in notices


def test_durable_topology_of_the_running_broker_is_written_and_the_rest_is_named() -> None:
    hello = {**QUEUE, "name": "hello", "durable": False}
    binding = {"vhost": "/", "source": "amq.fanout", "destination_type": "queue", "routing_key": ""}
    running = {
        "users": [{"name": "msctl", "password_hash": "x"}],
        "queues": [QUEUE, hello],
        "bindings": [{**binding, "destination": name} for name in ("jobs", "hello")],
    }
    document, _, notices = exported(BrokerSpec(), None, running)
    assert document["queues"] == [QUEUE]
    assert [each["destination"] for each in document["bindings"]] == ["jobs"]
    assert [user["name"] for user in document["users"]] == ["guest"]
    assert "queue 'hello' in '/'" in notices


@pytest.mark.parametrize(
    ("broker", "lines"),
    [
        (BrokerSpec(max_message_size=1024), ["max_message_size = 1024"]),
        (BrokerSpec(memory_limit=1 << 30), ["vm_memory_high_watermark.absolute = 1073741824"]),
        (
            BrokerSpec(tls=BrokerTlsSpec(Path("/c.pem"), Path("/k.pem"), only=True)),
            [
                "listeners.tcp = none",
                "listeners.ssl.default = 5671",
                "ssl_options.certfile = /etc/rabbitmq/cert.pem",
            ],
        ),
    ],
)
def test_keys_of_the_broker_become_those_of_rabbitmq(broker: BrokerSpec, lines: list[str]) -> None:
    assert set(lines) <= set(exported(broker)[1].splitlines())
