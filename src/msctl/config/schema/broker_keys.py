"""The keys of `[broker]`."""

from __future__ import annotations

from msctl.config.schema.network_values import AMQP_URL, PORT
from msctl.config.schema.program_values import FILE
from msctl.config.schema.quantities import MEMORY_SIZE, MESSAGE_SIZE
from msctl.config.schema.table import Key, OnReload, Table, on_reload
from msctl.config.schema.tls_keys import AMQPS
from msctl.config.schema.value_type import choice
from msctl.config.schema.values import (
    BOOLEAN,
    DURABLE,
    SECRET,
    TEXT,
)
from msctl.model.broker_spec import BrokerSpec
from msctl.model.snapshots import BrokerMode

BROKER = Table(
    "broker",
    BrokerSpec,
    on_reload(
        OnReload.REFUSE,
        Key("mode", choice(BrokerMode), "Which AMQP server is used."),
        Key("url", AMQP_URL, "The URL of the broker, for the stack, its services, `send` and `consume`."),
        Key("username", TEXT, "The user, instead of the one in `url`."),
        Key("password", SECRET, "Its password as it is, not percent-encoded, instead of the one in `url`."),
        Key("max_message_size", MESSAGE_SIZE, "The largest message that an embedded broker takes."),
        Key(
            "memory_limit",
            MEMORY_SIZE,
            "The memory for messages above which an embedded broker blocks publishers.",
        ),
        Key(
            "durable",
            DURABLE,
            "When an embedded broker confirms a persistent message: once it outlives the stack's process, "
            "once it is on disk, or at once; then nothing outlives the stack.",
        ),
        Key(
            "management",
            BOOLEAN,
            "Whether an embedded broker serves RabbitMQ's management API, on loopback. Where its port is "
            "taken, there is none, and the log says so.",
        ),
        Key("management_port", PORT, "The port of the management API; 0 chooses a free one."),
        Key(
            "definitions",
            FILE,
            "RabbitMQ's definitions for a broker that the stack runs, as `rabbitmqctl export_definitions` "
            "writes them: users, virtual hosts, permissions, policies, queues, exchanges, bindings. `msctl "
            "reload` reads the file again for an embedded broker; a RabbitMQ reads it at its start.",
        ),
        Key("tls", AMQPS, "AMQPS for an embedded broker. Renewed files are used without a restart."),
    ),
)
