"""The edits that a running stack cannot apply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.errors import ConfigError
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import DashboardSpec, Project
from msctl.model.snapshots import BrokerMode, Durability
from msctl.model.tls_spec import BrokerTlsSpec, TlsSpec
from msctl.runtime.reload_request import refuse
from msctl.secret import Secret

PROJECT = Project("shop", None, "msctl.toml", (), GatewaySpec(), BrokerSpec())
EDITS: dict[str, Project] = {
    "broker.mode": replace(PROJECT, broker=BrokerSpec(mode=BrokerMode.LOCAL)),
    "broker.url": replace(PROJECT, broker=BrokerSpec(url="amqp://far/")),
    "broker.username": replace(PROJECT, broker=BrokerSpec(username="me")),
    "broker.password": replace(PROJECT, broker=BrokerSpec(password=Secret("hush"))),
    "broker.max_message_size": replace(PROJECT, broker=BrokerSpec(max_message_size=1)),
    "broker.memory_limit": replace(PROJECT, broker=BrokerSpec(memory_limit=1)),
    "broker.management": replace(PROJECT, broker=BrokerSpec(management=False)),
    "broker.management_port": replace(PROJECT, broker=BrokerSpec(management_port=1)),
    "broker.definitions": replace(PROJECT, broker=BrokerSpec(definitions=Path("other.json"))),
    "broker.tls": replace(PROJECT, broker=BrokerSpec(tls=BrokerTlsSpec(only=True))),
    "broker.durable": replace(PROJECT, broker=BrokerSpec(durable=Durability.DISK)),
    "dashboard.enabled": replace(PROJECT, dashboard=DashboardSpec(enabled=False)),
    "dashboard.host": replace(PROJECT, dashboard=DashboardSpec(host="0.0.0.0")),
    "dashboard.port": replace(PROJECT, dashboard=DashboardSpec(port=1)),
    "dashboard.token": replace(PROJECT, dashboard=DashboardSpec(token=False)),
    "dashboard.metrics_key": replace(PROJECT, dashboard=DashboardSpec(metrics_key=Secret("long enough"))),
    "dashboard.password": replace(PROJECT, dashboard=DashboardSpec(password=Secret("long enough"))),
    "dashboard.otlp_port": replace(PROJECT, dashboard=DashboardSpec(otlp_port=1)),
}


def test_every_key_of_the_broker_and_the_dashboard_is_refused() -> None:
    assert set(EDITS) == {f"{table.title}.{key.name}" for table in (BROKER, DASHBOARD) for key in table.keys}


@pytest.mark.parametrize("key", EDITS)
def test_a_refused_edit_names_its_key(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        refuse(PROJECT, EDITS[key])
    assert key in caught.value.message


def test_another_name_and_https_switched_on_are_refused_and_the_rest_is_not() -> None:
    with pytest.raises(ConfigError, match="'other'"):
        refuse(PROJECT, replace(PROJECT, name="other"))
    with pytest.raises(ConfigError, match="HTTPS was switched on"):
        refuse(PROJECT, replace(PROJECT, gateway=GatewaySpec(tls=TlsSpec(dev=True))))
    refuse(PROJECT, replace(PROJECT, gateway=GatewaySpec(retries=7)))
