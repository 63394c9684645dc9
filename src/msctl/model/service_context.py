"""What a hosted application may ask to be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msctl.model.views import MessagingObserver


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """What a hosted application may ask to be given: its factory takes one argument, this.

    `env` holds what a command service would find in its environment: $PORT, $HOST, $AMQP_URL,
    $<NAME>_URL of its dependencies, the variables of the shell, of `.env`, `env_file` and `env`.
    `messaging` is None where nobody observes.
    """

    name: str
    instance: str
    host: str
    port: int | None
    amqp_url: str
    env: Mapping[str, str]
    messaging: MessagingObserver | None = None
