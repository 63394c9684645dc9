"""What an instance runs, as its life sees it: something that starts, may end, and can be stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msctl.model.endpoint import Endpoint
from msctl.model.project import ServiceSpec


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an instance ended: `reason` as a person reads it ("exit 1", "killed by SIGSEGV").

    `final` says that another try cannot help: the command does not exist, the import fails.
    `untidy` says that it has left something behind which is still to be ended.
    """

    success: bool
    reason: str
    final: bool = False
    untidy: bool = False


class StartError(Exception):
    """A worker could not start; nothing of it is left."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Checks(Protocol):
    """How a worker's health is found out."""

    async def run(self, report: Report) -> str:
        """Tell `report` of each change; return why the worker has to be replaced."""
        ...


class Report(Protocol):
    """What checks tell the instance."""

    def passed(self) -> None: ...

    def failed(self, reason: str, *, sick: bool) -> None:
        """A probe failed; `sick` says that it failed too often."""
        ...


class Worker(Protocol):
    """One start of an instance. Made anew for each start."""

    @property
    def pid(self) -> int | None: ...

    @property
    def address(self) -> str | None:
        """host:port, or the URL of what does not speak plain HTTP here; once it is known."""
        ...

    @property
    def endpoint(self) -> Endpoint | None:
        """Where its requests go; None for one that takes none."""
        ...

    @property
    def checks(self) -> Checks | None:
        """None means that it is ready as soon as it has started."""
        ...

    async def start(self) -> None:
        """Raises StartError; when cancelled, it leaves nothing behind."""
        ...

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Apply the live keys of `spec` from now on."""
        ...

    async def wait(self) -> Outcome:
        """How it ended by itself."""
        ...

    async def stop(self, timeout: float) -> str | None:
        """End it within about `timeout` seconds; return how it ended, if there is something to say."""
        ...

    def kill(self) -> None:
        """End it now; a `stop` under way then returns soon."""
        ...
