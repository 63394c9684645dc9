"""The configuration of a project, resolved and checked: all that a stack needs to know before it starts.

Frozen plain data, built by config. Verbs that only look at a running stack do not import it: that
takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msctl.model.address import LOOPBACK
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.service_spec import Reference, ServiceSpec
from msctl.secret import Secret


@dataclass(frozen=True, slots=True)
class DashboardSpec:
    """The listener of the dashboard and the metrics.

    `token` requires the link that `up` prints. `password` is for HTTP Basic with any user name; without one
    the page is served on loopback only. `metrics_key` is the bearer token of `/metrics`. `otlp_port` takes
    OTLP of programs that the stack did not start, where that port is free; 0 takes none.
    """

    enabled: bool = True
    host: str = LOOPBACK
    port: int = 8090
    token: bool = True
    password: Secret | None = None
    metrics_key: Secret | None = None
    otlp_port: int = 4318


@dataclass(frozen=True, slots=True)
class DiscoverySpec:
    """The registry in which stacks on several machines find each other's services; `url` None means none.

    `token` is Consul's. `ca`, `cert` and `key` are PEM files for a registry with TLS. Only stacks of one
    `namespace` (None: the project's name) see each other. `advertise` is the address that other machines are
    told, None the address from which the registry is reached. What a stack announces is gone `ttl` seconds
    after the stack was last heard of.
    """

    url: str | None = field(default=None, repr=False)
    token: Secret | None = None
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    namespace: str | None = None
    advertise: str | None = None
    ttl: float = 10.0


@dataclass(frozen=True, slots=True)
class Project:
    """A resolved configuration: everything that a stack needs to know before it starts.

    `root` is the folder of `msctl.toml`, or None for the built-in course system; `source` names
    the file that was read. Services are in the order of declaration; the gateway is one of them
    (named "gateway", at the end) unless the project has switched it off. `secrets` are the keys of
    guarded routes, by the variable or the file that each was found in; they are never shown.
    `dotenv` are the variables of the project's `.env`, which every service gets. `references` are the strings
    with `${...}` outside of the services.
    """

    name: str
    root: Path | None
    source: str
    services: tuple[ServiceSpec, ...]
    gateway: GatewaySpec | None
    broker: BrokerSpec
    dashboard: DashboardSpec = DashboardSpec()
    discovery: DiscoverySpec = DiscoverySpec()
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    dotenv: Mapping[str, str] = field(default_factory=dict, repr=False)
    references: tuple[Reference, ...] = field(default=(), compare=False, repr=False)

    def service(self, name: str) -> ServiceSpec | None:
        return next((spec for spec in self.services if spec.name == name), None)
