"""All tables of msctl.toml, by their path in it; those of services and routes occur many times.

Reading, hints for unknown keys, `MSCTL_*` names, `config`, reload and the reference derive from the tables.
To add a key: a field in the model, with its default, and a line in the module of its table.
"""

from __future__ import annotations

from msctl.config.schema.broker_keys import BROKER
from msctl.config.schema.dashboard_keys import DASHBOARD
from msctl.config.schema.discovery_keys import DISCOVERY
from msctl.config.schema.gateway_keys import GATEWAY
from msctl.config.schema.table import Key, OnReload, Table
from msctl.config.schema.tls_keys import BROKER_TLS, TLS
from msctl.config.schema.values import NAME
from msctl.model.project import Project

PROJECT = Table(
    "project",
    Project,
    (
        Key(
            "name",
            NAME,
            "The name of the stack; only one of a name runs at a time.",
            "the folder's name",
            reload=OnReload.REFUSE,
        ),
    ),
)

_SINGLE = (PROJECT, GATEWAY, TLS, BROKER, BROKER_TLS, DASHBOARD, DISCOVERY)
SINGLE = {tuple(table.title.split(".")): table for table in _SINGLE}
"""The tables that occur once, by their path."""
TABLES = (*(path[0] for path in SINGLE if len(path) == 1), "services")
