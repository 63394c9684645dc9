"""The configuration of the broker. Frozen plain data, part of the Project."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from msctl.model.snapshots import BrokerMode, Durability
from msctl.model.tls_spec import BrokerTlsSpec
from msctl.secret import Secret


@dataclass(frozen=True, slots=True)
class BrokerSpec:
    """The broker's mode and the URL at which the stack and the CLI reach it.

    `username` and `password` are None in a loaded project: they are parts of `url` then. The other keys are
    those of an embedded broker; sizes in bytes.
    `durable` is when a persistent message is safe. `…_given` says that the user has set a key: mode auto
    checks the owner of a server at the default URL, and a broker that cannot keep a log runs without one
    unless `durable` is set.
    """

    mode: BrokerMode = BrokerMode.AUTO
    url: str = "amqp://guest:guest@localhost:5672/"
    username: str | None = None
    password: Secret | None = None
    max_message_size: int = 128 * 1024 * 1024
    memory_limit: int = 512 * 1024 * 1024
    durable: Durability = Durability.PROCESS
    definitions: Path | None = None
    tls: BrokerTlsSpec = field(default_factory=BrokerTlsSpec)
    management: bool = True
    management_port: int = 15672
    url_given: bool = field(default=False, compare=False)
    durable_given: bool = field(default=False, compare=False)
