"""The protocol between an instance and its worker, the thing that it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from msctl.model.endpoint import Endpoint
from msctl.model.service_spec import ServiceSpec


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an instance ended: `reason` as a person reads it ("exit 1", "killed by SIGSEGV").

    `final` means that another try cannot help: the import fails, the command is a folder. `absent` means that
    the program is not there: final at the first start, but at a later one it may be being rebuilt.
    `left_children` means that processes of it are left, which `Worker.stop` ends.
    """

    success: bool
    reason: str
    final: bool = False
    left_children: bool = False
    absent: bool = False


class StartError(Exception):
    """A worker failed to start; nothing of it is left."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.reason)
        self.outcome = outcome


class Checks(Protocol):
    """The health checks of a worker."""

    async def run(self, report: Report) -> str:
        """Report each result until the worker has to be replaced; return why."""
        ...


class Report(Protocol):
    """Receives the results of health checks."""

    def passed(self) -> None: ...

    def moved(self) -> None:
        """The endpoint of the worker has changed."""

    def failed(self, reason: str, *, unhealthy: bool) -> None:
        """A probe failed; `unhealthy` means that it failed too often."""
        ...


class Worker(Protocol):
    """One start of an instance; each start has a worker of its own."""

    @property
    def pid(self) -> int | None: ...

    @property
    def address(self) -> str | None:
        """host:port, or a URL for HTTPS and external services; None until it is known."""
        ...

    @property
    def endpoint(self) -> Endpoint | None:
        """Where its requests go; None if it takes none."""
        ...

    @property
    def checks(self) -> Checks | None:
        """None if it is ready as soon as it has started."""
        ...

    async def start(self) -> None:
        """Raises StartError. When cancelled, it leaves nothing running."""
        ...

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Apply the live keys of `spec` from now on."""
        ...

    async def wait(self) -> Outcome:
        """Return how it ended by itself."""
        ...

    async def stop(self, timeout: float) -> str | None:
        """Stop it within about `timeout` seconds; return how it ended, if that is worth showing."""
        ...

    def kill(self) -> None:
        """Kill it now; a `stop` under way then returns soon."""
        ...
