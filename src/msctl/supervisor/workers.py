"""Makes the worker of an instance from its spec: its listener or port, its environment, its program."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from msctl import ports
from msctl.errors import MsctlError
from msctl.hosting.hosted_app import HostedApp, HostedFactory
from msctl.hosting.hosted_worker import HostedWorker
from msctl.hosting.imported_app import import_app
from msctl.hosting.modules import Loader
from msctl.hosting.static_app import StaticApp
from msctl.http.listener import Listeners
from msctl.model import services
from msctl.model.address import Address
from msctl.model.project import Project
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import runs_here, shell_advice
from msctl.model.snapshots import Kind
from msctl.model.views import ServiceVariables
from msctl.model.worker import Worker
from msctl.processes.command_worker import ChildContext, CommandWorker
from msctl.processes.environment import assigned_variables, environment, fill_in
from msctl.processes.pid_file import PidFile
from msctl.processes.process_table import ProcessTableReader
from msctl.processes.watchdog_client import WatchdogClient
from msctl.supervisor.context import SupervisorContext
from msctl.supervisor.discovered_service import DiscoveredWorker
from msctl.supervisor.external_service import ExternalWorker
from msctl.telemetry.logs.hub import STACK


class Workers:
    """The workers of one project, and the resources that they share."""

    def __init__(self, project: Project, context: SupervisorContext) -> None:
        self.listeners = Listeners(project, context.tls)
        self.token = secrets.token_hex(8)
        self.watchdog = WatchdogClient(self.token)
        self._project = project
        self._context = context
        self._loader = Loader(project.root)
        self._child_context = ChildContext(
            context.clock,
            context.logs,
            ProcessTableReader(),
            self.watchdog,
            PidFile(context.pid_file, lambda text: context.logs.append(STACK, text, "warning")),
            files=context.files,
            faults=context.faults,
        )
        self._ports: dict[str, int] = {}
        self._starts = 0
        self._warned: set[str] = set()

    def make(self, spec: ServiceSpec, instance: str) -> Worker:
        """A worker for one start of `instance`."""
        if spec.only_discovered:
            return DiscoveredWorker(spec.name, self._context.discovered)
        if spec.kind is Kind.REMOTE:
            if spec.tls is not None and not spec.tls.verify and spec.name not in self._warned:
                self._warned.add(spec.name)
                text = "its certificate is not verified: whoever answers at its address is believed"
                self._context.logs.append(spec.name, f"{text} (tls.verify = false)", "warning")
            return ExternalWorker(spec, instance, clock=self._context.clock)
        return self._hosted(spec, instance) if runs_here(spec) else self._child(spec, instance)

    async def close(self) -> None:
        """Release the listeners and everything shared; no worker may be left."""
        self.listeners.release()
        self._loader.close()
        await self.watchdog.close()

    def forget(self, instance: str) -> None:
        """Free what is kept for an instance that is not started again."""
        self._ports.pop(instance, None)

    def adopt(self, project: Project) -> None:
        """Make workers of this project from now on; listeners change by `listeners.assign` alone."""
        self._project = project

    def reload_modules(self) -> None:
        """Import hosted applications again at their next start."""
        self._loader.forget()

    def collect(self) -> None:
        """Free what hosted applications held that have been replaced, and have stopped."""
        self._loader.collect()

    def reserve(self, services: Sequence[ServiceSpec]) -> None:
        """Bind the listeners of these services, and check that the declared ports of children are free."""
        for spec in services:
            if spec.port and not runs_here(spec):
                ports.probe_free(Address(spec.host, spec.port), spec.name)
        self.listeners.reserve([spec.name for spec in services])

    def _hosted(self, spec: ServiceSpec, instance: str) -> HostedWorker:
        listener = self.listeners.get(spec.name)
        address = None if listener is None else listener.address
        env = self._environment(spec, instance, address, os.environ)
        context = ServiceContext(
            name=spec.name,
            instance=instance,
            host=address.host if address else spec.host,
            port=address.port if address else None,
            amqp_url=env["AMQP_URL"],
            env=env,
            messaging=self._context.instrument.messages(spec.name),
        )
        return HostedWorker(
            self._context.builtin.get(spec.name, self._application(spec)),
            context,
            listener=listener,
            prefixes=lambda: self._prefixes(spec.name),
            logs=self._context.logs,
            clock=self._context.clock,
            instrument=self._context.instrument,
            start_timeout=spec.start_timeout,
            stopped_at=lambda: None if spec.app is None else self._loader.stopped_at(spec.app),
        )

    def _child(self, spec: ServiceSpec, instance: str) -> CommandWorker:
        # Chosen again for each start: another program may have taken the former port.
        self.forget(instance)
        address = self._port(spec, instance)
        listens = services.listens(spec)
        directory = spec.cwd or self._project.root
        inherited = {
            "PYTHONUNBUFFERED": "1",
            **os.environ,
            **self._context.child_env(spec, instance, os.environ),
        }
        env = self._environment(spec, instance, address, inherited, directory)
        self._starts += 1
        if spec.shell_operator is not None and instance not in self._warned:
            self._warned.add(instance)
            self._context.logs.append(spec.name, shell_advice(spec), "warning")
        return CommandWorker(
            spec,
            instance,
            self._argv(spec, instance, env),
            env=env,
            cwd=directory,
            mark=f"{self.token}:{instance}:{self._starts}",
            listens=address if listens else None,
            # Nothing says that it listens, so nothing waits for that; who calls its address finds out.
            url=address.url if listens or self._context.service_address(spec.name) else None,
            context=self._child_context,
        )

    def _argv(self, spec: ServiceSpec, instance: str, env: Mapping[str, str]) -> Sequence[str]:
        if spec.command is not None:
            return fill_in(spec.command, env)
        if self._context.serve_argv is None:
            raise RuntimeError("services in processes of their own need a serve_argv")
        return self._context.serve_argv(spec.name, instance)

    def variables(self, spec: ServiceSpec) -> ServiceVariables:
        """The variables for a command that is run beside the service."""
        assigned = self._assigned(spec, f"{spec.name}-1", self._locate(spec.name))
        full = environment(spec, self._project, shell=os.environ, assigned=assigned)
        return ServiceVariables(
            defaults={**self._project.dotenv, **spec.file_variables},
            overrides={name: full[name] for name in (*assigned, *spec.env)},
        )

    def _environment(
        self,
        spec: ServiceSpec,
        instance: str,
        address: Address | None,
        shell: Mapping[str, str],
        directory: Path | None = None,
    ) -> Mapping[str, str]:
        assigned = self._assigned(spec, instance, address)
        return environment(spec, self._project, shell=shell, assigned=assigned, directory=directory)

    def _assigned(self, spec: ServiceSpec, instance: str, address: Address | None) -> Mapping[str, str]:
        return assigned_variables(
            spec,
            self._project,
            instance,
            address=address,
            amqp_url=self._context.amqp_url(),
            locate=self._locate,
        )

    def _application(self, spec: ServiceSpec) -> HostedFactory:
        async def make(context: ServiceContext) -> HostedApp:
            if spec.static is not None:
                return StaticApp(spec.static)
            if spec.app is None:
                raise MsctlError(f"service {spec.name!r} has neither an app nor a command")
            return await import_app(
                spec.app,
                spec,
                context,
                loader=self._loader,
                logs=self._context.logs,
                clock=self._context.clock,
            )

        return make

    def _prefixes(self, name: str) -> tuple[str, ...]:
        spec = self._project.service(name)
        return () if spec is None else tuple(route.path for route in spec.routes)

    def _locate(self, name: str) -> Address | None:
        """The address at which other services reach it directly: a service address, its listener, or its
        only instance."""
        spec = self._project.service(name)
        if spec is None:
            return None
        if (address := self._context.service_address(name)) is not None:
            return address
        if spec.kind is Kind.REMOTE:
            return None
        if not runs_here(spec):
            return self._port(spec, f"{name}-1")
        found = self.listeners.get(name)
        return None if found is None else found.internal

    def _port(self, spec: ServiceSpec, instance: str) -> Address:
        """The address for a child: the declared port for the first instance, free ones for the others."""
        if spec.port and instance == f"{spec.name}-1":
            return Address(spec.host, spec.port)
        if instance not in self._ports:
            declared = {other.port for other in self._project.services if other.port}
            avoid = frozenset(declared | set(self._ports.values()))
            # With the folder: stacks of one name that start at once would race for the same port.
            key = f"{self._project.root}/{self._project.name}/{instance}"
            self._ports[instance] = ports.choose(spec.host, key, avoid)
        return Address(spec.host, self._ports[instance])
