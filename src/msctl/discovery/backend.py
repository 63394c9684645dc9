"""What a kind of registry has to offer; etcd.py and consul.py have it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from msctl.discovery.found import Read
from msctl.discovery.record import Record


class SessionLostError(Exception):
    """The registry has forgotten what was registered: begin a new session at once."""


class Watcher(Protocol):
    """Receives what a registry says of other machines' instances."""

    def listed(self, service: str | None, entries: Mapping[str, Read], *, resumed: bool) -> None:
        """All records there are, of one service or of all."""
        ...

    def put(self, key: str, read: Read) -> None: ...

    def removed(self, key: str) -> None: ...


class Backend(Protocol):
    """One registry; calls raise RegistryError if it cannot be used, SessionLostError if it has forgotten."""

    async def open(self) -> str | None:
        """Begin a session; return the address of this machine, if the registry tells it."""
        ...

    async def keep(self) -> None:
        """Tell it that this stack is alive."""
        ...

    async def register(self, record: Record) -> None: ...

    async def withdraw(self, record: Record) -> None: ...

    async def watch(self, services: Collection[str], watcher: Watcher) -> None:
        """Report the records of these services, then their changes, until an error."""
        ...

    async def leave(self) -> None:
        """End the session and all that was registered in it."""
        ...

    async def close(self) -> None:
        """Close the connections."""
        ...


MakeBackend = Callable[[], Backend]
