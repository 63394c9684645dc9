"""A pytest plugin: runs an msctl project on free ports for a test.

    def test_an_order_is_paid(msctl_stack):
        shop = msctl_stack("examples/shop")
        assert httpx.get(shop.url("/orders")).status_code == 200

Installed with msctl, without configuration. Each stack is an isolated copy with its own name, ports,
broker and runtime folder, so tests can run in parallel and beside a running stack of the project.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from msctl.control.client import ControlClient
    from msctl.model.snapshots import FaultSnapshot, Snapshot
    from msctl.model.views import ReloadResult

__all__ = ["RunningStack", "StackFactory", "msctl_stack", "running_stack", "simulate"]


UP_TIMEOUT_S = 120.0
DOWN_TIMEOUT_S = 60.0

StackFactory = Callable[..., "RunningStack"]


class RunningStack:
    """An isolated stack of a project, started."""

    def __init__(self, client: ControlClient, amqp_url: str) -> None:
        self._client = client
        self.amqp_url = amqp_url

    def snapshot(self) -> Snapshot:
        """The stack as `msctl status` shows it."""
        return self._client.snapshot()

    def address(self, service: str) -> str:
        """host:port of the service's first instance; for one without, use the gateway: `url`.

        Raises LookupError for a service that the project does not have or that has no address.
        """
        return self._url(service).rpartition("://")[2]

    def url(self, path: str = "/", *, service: str = "gateway") -> str:
        """The URL of a path at the gateway, or at a service."""
        return self._url(service) + path

    def start(self, *services: str) -> None:
        """Start these services (none named: all); return when they are ready."""
        self._client.start(services)

    def stop(self, *services: str) -> None:
        """Stop these services (none named: all); return when they have stopped."""
        self._client.stop(services)

    def restart(self, *services: str) -> None:
        """Restart these services (none named: all); return when they are ready again."""
        self._client.restart(services)

    def scale(self, **counts: int) -> None:
        """Set the number of instances of each service; return when they are ready."""
        self._client.scale(counts)

    def reload(self) -> ReloadResult:
        """Apply edits of the project's folder, as `msctl reload` does."""
        return self._client.reload()

    @contextmanager
    def fault(
        self, kind: str, target: str | None = None, *, seconds: float = 600.0, **options: object
    ) -> Iterator[FaultSnapshot]:
        """Break something while the block runs, as `msctl fault add` does; `options` are its options.

        The fault ends after `seconds` in any case. What happens once is over when the block begins.
        Raises MsctlError for one that this stack cannot have.
        """
        from msctl.faults.kinds import KINDS, FaultKind
        from msctl.faults.parse import fault_from

        once = kind in tuple(FaultKind) and KINDS[FaultKind(kind)].once and "every" not in options
        lasts = {} if once else {"for": seconds}
        (added,) = self._client.add_faults([fault_from({"kind": kind, "target": target, **lasts, **options})])
        try:
            yield added.fault
        finally:
            if any(one.id == added.fault.id for one in self._client.faults()):
                self._client.clear_faults([added.fault.id])

    def logs(self, *services: str) -> list[str]:
        """The log lines of these services (none named: all) so far."""
        from msctl.model.events import LogQuery

        return [line.text for line in self._client.logs(LogQuery(services))]

    def _url(self, service: str) -> str:
        for found in self.snapshot().services:
            if found.name == service and found.addresses:
                return found.urls[0]
        raise LookupError(f"service {service!r} has no address")


@contextmanager
def running_stack(
    folder: str | os.PathLike[str] | None = None,
    services: Sequence[str] = (),
    *,
    env: Mapping[str, str] | None = None,
) -> Iterator[RunningStack]:
    """Run the project in `folder` (None: the built-in course system) until the context exits.

    `services` are those to start, with what they need (default: all). `env` are variables for the
    stack, on top of this process's own. Raises RuntimeError, with what msctl said, where it does not
    come up.
    """
    from msctl.control.client import ControlClient
    from msctl.control.paths import running_stacks
    from msctl.control.record import read_record

    # Not pytest's own temporary folder: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="msctl-") as runtime, ExitStack() as stack:
        cwd = folder
        if cwd is None:
            cwd = stack.enter_context(tempfile.TemporaryDirectory(prefix="msctl-"))
        full = {**os.environ, **(env or {}), "MSCTL_RUNTIME_DIR": runtime, "MSCTL_STATE_DIR": runtime}
        _msctl(["up", "-d", "--isolated", *services], cwd, full, UP_TIMEOUT_S)
        (paths,) = running_stacks(full)
        record = read_record(paths)
        if record is None or record.broker_url is None:
            raise RuntimeError("the stack started without a record")
        try:
            yield RunningStack(ControlClient(paths, record.project), record.broker_url)
        finally:
            _msctl(["--project", record.project, "down"], cwd, full, DOWN_TIMEOUT_S)


def simulate(
    folder: str | os.PathLike[str],
    scenario: str | os.PathLike[str] | None = None,
    *,
    seeds: int = 50,
    faults: str = "cut,partition,delay",
) -> None:
    """Run the project in `folder` through simulated networks; see docs/simulation.md.

    `scenario` is a file, by default the folder's scenario.py. Raises AssertionError, with what `msctl sim`
    prints, where a run fails, and RuntimeError where it cannot be simulated.
    """
    arguments = ["sim", *([] if scenario is None else [str(Path(scenario).absolute())])]
    command = [sys.executable, "-m", "msctl", *arguments, "--seeds", str(seeds), "--faults", faults]
    done = subprocess.run(  # noqa: S603 - our own program
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode == 1 and done.stdout:
        raise AssertionError(done.stdout)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


@pytest.fixture
def msctl_stack() -> Iterator[StackFactory]:
    """A factory of stacks, stopped after the test: `msctl_stack(folder, services, env=…)`."""
    with ExitStack() as stack:
        yield lambda *args, **options: stack.enter_context(running_stack(*args, **options))


def _msctl(
    arguments: list[str], folder: str | os.PathLike[str], env: Mapping[str, str], timeout: float
) -> None:
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "msctl", *arguments],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"msctl {' '.join(arguments)} → {done.returncode}\n{done.stdout}{done.stderr}")
