"""The gateways of a stack: the one that takes its requests, and one for each service address."""

from __future__ import annotations

from collections.abc import Sequence

from msctl.clock import AsyncClock
from msctl.discovery.registry import Registry
from msctl.errors import NotRunningError
from msctl.faults.http import HttpFaultPoint
from msctl.gateway.app import Gateway
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.snapshots import TargetSnapshot
from msctl.runtime.reload_request import rules_of
from msctl.telemetry.tracing.requests import RequestObserver


class Gateways:
    """Builds gateways over the same registry; `current` is the last one that was made to take requests.

    `faults` and `address_faults` are where the gateways ask for faults that were set on purpose.
    """

    def __init__(
        self,
        registry: Registry,
        clock: AsyncClock,
        observer: RequestObserver,
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._observer = observer
        self.faults = HttpFaultPoint()
        self.address_faults = HttpFaultPoint(routed=False)
        self.current: Gateway | None = None

    @property
    def running(self) -> Gateway:
        """The one that takes requests. Raises NotRunningError."""
        if self.current is None:
            raise NotRunningError("no gateway is running", hint="start it with: msctl start gateway")
        return self.current

    @property
    def routes(self) -> Sequence[RouteSpec] | None:
        """The routes in force; None without a gateway."""
        return None if self.current is None else self.current.routes

    def targets(self) -> tuple[TargetSnapshot, ...]:
        """The instances behind its routes, while it takes requests."""
        return self.current.targets() if self.current is not None and self.current.ready else ()

    def make(self, project: Project) -> Gateway:
        self.current = self.build(project)
        return self.current

    def build(self, project: Project) -> Gateway:
        """Build a gateway by the rules of a project. Raises ConfigError for unusable ones."""
        rules = rules_of(project)
        return Gateway(
            rules.spec,
            rules.routes,
            self._registry,
            clock=self._clock,
            services=rules.services,
            secrets=rules.secrets,
            observer=self._observer,
            faults=self.faults,
        )

    def build_for_address(self, spec: GatewaySpec, routes: list[RouteSpec], project: Project) -> Gateway:
        """Build the gateway of a service's own address."""
        return Gateway(
            spec,
            routes,
            self._registry,
            clock=self._clock,
            services={service.name: service.policy for service in project.services},
            observer=self._observer,
            faults=self.address_faults,
        )
