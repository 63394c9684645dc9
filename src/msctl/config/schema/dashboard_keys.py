"""The keys of `[dashboard]`."""

from __future__ import annotations

from msctl.config.schema.network_values import HOST, PORT
from msctl.config.schema.table import Key, OnReload, Table, on_reload
from msctl.config.schema.values import BOOLEAN, SECRET
from msctl.model.project import DashboardSpec

DASHBOARD = Table(
    "dashboard",
    DashboardSpec,
    on_reload(
        OnReload.REFUSE,
        Key("enabled", BOOLEAN, "Whether the page and the metrics are served."),
        Key("host", HOST, "The address on which it listens; beyond loopback it needs a password."),
        Key("port", PORT, "The port on which it listens; 0 chooses a free one."),
        Key(
            "token",
            BOOLEAN,
            "Whether the page requires the link that `up` prints; without it, every user of the machine can "
            "open the page.",
        ),
        Key("password", SECRET, "The password of the page, with any user name; put it into `.env`."),
        Key("metrics_key", SECRET, "The bearer token of `/metrics`, which is open on loopback without one."),
        Key(
            "otlp_port",
            PORT,
            "Where programs that the stack did not start send OTLP over HTTP, on loopback, if it is free; "
            "0 for nowhere.",
        ),
    ),
)
