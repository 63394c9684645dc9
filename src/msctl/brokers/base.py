"""What the stack asks of its broker, in every mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msctl.model.queue_messages import QueueLook
from msctl.model.snapshots import BrokerSnapshot

LogFunction = Callable[[str, str], None]
"""Called with a level ("debug", "info", "warning", "error") and a text."""


class StackBroker(Protocol):
    """The broker of a stack. Services know only its URL; the modes differ in who starts and stops it,
    and in how much `snapshot` can report."""

    @property
    def url(self) -> str:
        """The URL for services and the CLI, with the password."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def snapshot(self) -> BrokerSnapshot: ...

    def browse(self, queue: str) -> QueueLook | None:
        """The messages at the head of a queue; changes nothing. None for an external broker."""
        ...

    def purge(self, queue: str) -> int:
        """Drop the ready messages of a queue and return their number. Raises MsctlError."""
        ...

    def delete(self, queue: str) -> int:
        """Delete a queue and return the number of its ready messages. Raises MsctlError."""
        ...
