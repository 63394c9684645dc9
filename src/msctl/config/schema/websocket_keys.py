"""The key `websocket` of a service: limits of the WebSockets of a hosted ASGI application."""

from __future__ import annotations

from msctl.config.schema.quantities import DURATION, MESSAGE_SIZE
from msctl.config.schema.table import Key, Table
from msctl.config.schema.values import BOOLEAN
from msctl.model.websocket_spec import WebSocketSpec

WEBSOCKET = Table(
    "services.NAME.websocket",
    WebSocketSpec,
    (
        Key(
            "max_size", MESSAGE_SIZE, "The longest message from a client, decompressed; a longer one is 1009."
        ),
        Key("ping_interval", DURATION, "The time between pings; 0 sends none."),
        Key("ping_timeout", DURATION, "How long a client may take to answer one; 0 waits for ever."),
        Key("compression", BOOLEAN, "Whether permessage-deflate is agreed to with clients that offer it."),
    ),
)
