"""The reference tells every key that the model has."""

from __future__ import annotations

from dataclasses import fields

import pytest

from msctl.config.reference import KeyDoc, reference, to_markdown
from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.route_keys import HEADER_EDIT, INNER_TABLES, POLICY, ROUTE
from msctl.config.schema.service_keys import SERVICE
from msctl.config.schema.table import Table
from msctl.config.schema.tls_keys import TLS

ALL_TABLES = [SERVICE, ROUTE, GATEWAY, TLS, BROKER, POLICY, HEADER_EDIT, *INNER_TABLES]
# Not written as a key: the name of a table, what keys of the same table make up, and what a key's files hold.
DERIVED = {
    SERVICE.spec: {
        "name",
        "policy",
        "file_variables",
        "secret_env",
        "references",
        "routed",
        "shell_operator",
    },
    ROUTE.spec: {"service", "policy"},
    BROKER.spec: {"durable_given", "url_given"},
}


@pytest.mark.parametrize("table", ALL_TABLES, ids=lambda table: table.title)
def test_every_field_of_the_model_has_a_key(table: Table) -> None:
    assert {field.name for field in fields(table.spec)} <= set(table.names()) | DERIVED.get(table.spec, set())


def test_a_key_is_told_in_full() -> None:
    docs = {(doc.table, doc.name): doc for doc in reference()}
    assert docs["gateway", "max_body"] == KeyDoc(
        "gateway",
        "max_body",
        'a size such as "16MiB" or a number of bytes',
        '"16MiB"',
        "MSCTL_GATEWAY_MAX_BODY",
        "applied",
        "The largest request body; 0 sets no limit.",
    )
    assert docs["services.NAME", "port"].variable == "MSCTL_NAME_PORT"
    assert docs["gateway.tls", "cert"].variable == "MSCTL_GATEWAY_TLS_CERT"
    assert docs["gateway", "tls"].variable == ""
    assert docs["gateway", "tls"].default == ""
    assert docs["services.NAME", "replicas"].reload == "scales"
    assert docs["services.NAME", "app"].reload == "restarts"
    assert docs["broker", "url"].reload == "needs down and up"
    assert docs["services.NAME", "env"].variable == ""
    assert docs["services.NAME.routes", "exact"].variable == ""
    assert docs["project", "name"].default == "the folder's name"
    assert docs["gateway", "enabled"].default == "true"
    assert docs["services.NAME", "app"].default == ""


def test_the_tables_have_a_row_for_each_key() -> None:
    text = to_markdown()
    assert all(f"| `{doc.name}` |" in text for doc in reference())
    assert "### `[services.NAME]`" in text
