"""What a supervisor gets from its composition root: one object, passed whole."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msctl.clock import AsyncClock
from msctl.discovery.discovery import Discovered
from msctl.discovery.registry import Registry
from msctl.hosting.hosted_app import HostedFactory, Instrument, NoInstrument
from msctl.http.listener import TlsContext
from msctl.model.address import Address
from msctl.model.events import Event
from msctl.model.service_spec import ServiceSpec
from msctl.processes.checks import ProbeFaults
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.logs.run_files import RunFiles

ChildEnv = Callable[[ServiceSpec, str, Mapping[str, str]], Mapping[str, str]]
"""Extra variables for a child of this service and instance, given the variables it inherits; those that
msctl itself or the service's `env` sets win."""


def _no_child_env(_spec: ServiceSpec, _instance: str, _inherited: Mapping[str, str]) -> Mapping[str, str]:
    return {}


def _no_address(_service: str) -> Address | None:
    return None


@dataclass(frozen=True, kw_only=True)
class SupervisorContext:
    """The parts that a supervisor, its workers and its instances share.

    `builtin` are the hosted services without an import path (the gateway). `serve_argv(service,
    instance)` is the command that runs one hosted service in a process of its own. `pid_file` records
    children, for the next start to find after a crash. `instrument` observes the requests and messages
    of hosted services, `tls` gives the certificate of the gateway's address, `chance` numbers from 0 up
    to 1 for jitter. `files` keep what services print.
    `service_address` gives the balanced address of a service, if it has one. `discovered` knows the instances
    on other machines. `faults` break checks on purpose.
    """

    clock: AsyncClock
    logs: LogHub
    registry: Registry
    amqp_url: Callable[[], str]
    on_event: Callable[[Event], None]
    builtin: Mapping[str, HostedFactory] = field(default_factory=dict)
    serve_argv: Callable[[str, str], Sequence[str]] | None = None
    pid_file: Path | None = None
    instance_name: Callable[[str, int], str] = "{}-{}".format
    instrument: Instrument = field(default_factory=NoInstrument)
    tls: TlsContext | None = None
    child_env: ChildEnv = _no_child_env
    files: RunFiles | None = None
    service_address: Callable[[str], Address | None] = _no_address
    discovered: Discovered | None = None
    chance: Callable[[], float] = random.random
    faults: ProbeFaults | None = None
