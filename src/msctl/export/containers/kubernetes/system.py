"""The system on Kubernetes, however it is deployed: objects, what to create first, what is different."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from urllib.parse import quote

from msctl.export.broker import BROKER, BrokerPlan
from msctl.export.containers.docker import image_files
from msctl.export.containers.images import Image
from msctl.export.containers.kubernetes.http_routes import HttpRoutes, http_routes, to_gateway
from msctl.export.containers.kubernetes.network import check_names, default_deny, policy, service
from msctl.export.containers.kubernetes.objects import (
    BROKER_SECRET,
    COMMON,
    SHARED_SECRET,
    autoscaler,
    broker_objects,
    disruption_budget,
    env_secret,
    runner,
)
from msctl.export.containers.system import ContainerSystem, container_system
from msctl.export.kind import ExportOptions, Notice
from msctl.export.names import project_label
from msctl.export.notices import health_notices, restart_notices
from msctl.export.workloads import Workload, env_file_paths
from msctl.model.project import Project
from msctl.model.service_policies import RestartPolicy

Object = dict[str, object]


def system(project: Project, options: ExportOptions) -> ContainerSystem:
    """Raises ExportError for names that Kubernetes refuses, and for two services with one name there."""
    check_names(options)
    # Images are built in the project's folder, by the files of `msctl export docker`.
    whole = container_system(project, replace(options, context=".", folder="."))
    return replace(whole, options=options)


def routes_to(system: ContainerSystem, gateway: Workload) -> HttpRoutes:
    """The HTTPRoutes of a Gateway: to msctl's gateway, or to the services themselves if asked for."""
    options = system.options
    if not options.native_routes:
        return to_gateway(gateway)
    return http_routes(system.project, gateway, system.found, options.host)


def files_of(system: ContainerSystem) -> dict[str, list[Object]]:
    """The objects by file, but for the namespace and the entry."""
    public = frozenset[str]() if system.gateway is None else routes_to(system, system.gateway).services
    files = {
        f"{workload.label}.yaml": list(
            _objects(workload, system.broker, system.known[workload.name], system.config)
        )
        for workload in system.found
    }
    if system.broker.is_ours:
        files[f"{BROKER}.yaml"] = broker_objects(system.broker)
    files["network.yaml"] = [default_deny(), *_policies(system.found, system.broker, public)]
    return {path: [labelled(item, system.project) for item in items] for path, items in files.items()}


def notices(system: ContainerSystem, where: str) -> Iterator[Notice]:
    """Say what the user must give to the target, as `where` tells, and what is different there."""
    project, options = system.project, system.options
    yield from (item for item in image_files(project, options) if isinstance(item, Notice))
    yield from system.notices(f"create the Secret as {where} says")
    yield Notice("broker.url", f"its credentials are read from Secret {BROKER_SECRET}; see {where}")
    if any(image.name.endswith(":latest") for image in system.built):
        yield Notice(
            "--tag", "its images have the tag latest, which cannot be rolled back: give each version one"
        )
    if system.gateway is not None:
        native = routes_to(system, system.gateway)
        yield from native.notices
        if native.services:
            names = ", ".join(sorted(native.services))
            text = f"every pod may connect to {names}: only the cluster knows where a Gateway's proxies run"
            yield Notice("--native-routes", text)
    for workload in system.found:
        yield from _differences(workload, system.gateway, system.known[workload.name])


def build_commands(system: ContainerSystem) -> Iterator[str]:
    """The commands that build and push the images, in the project's folder."""
    yield "msctl export docker"
    for image in system.built:
        context = shlex.quote(image.context)
        yield f"docker build -t {image.name} -f {shlex.quote(image.dockerfile or 'Dockerfile')} {context}"
        yield f"docker push {image.name}"


def secret_commands(system: ContainerSystem, namespace: str) -> Iterator[str]:
    """The commands that create the Secrets."""
    broker = system.broker
    create = f"kubectl -n {namespace} create secret generic"
    credentials = shlex.quote(f"--from-literal=username={broker.user}") + " --from-literal=password=..."
    if system.has_programs:
        # A program without msctl reads a URL, whose password is percent-encoded.
        login = f"{quote(broker.user, safe='')}:PERCENT-ENCODED"
        credentials += f" {shlex.quote(f'--from-literal=url={broker.url(login)}')}"
    yield f"{create} {BROKER_SECRET} {credentials}"
    for workload in system.found:
        if names := (*workload.secrets, *workload.optional):
            yield f"{create} {workload.label}-secrets {_literals(names)}"
        if workload.spec.env_file:
            paths = env_file_paths(workload.spec, system.project)
            yield f"{create} {env_secret(workload)} {' '.join(f'--from-env-file={path}' for path in paths)}"
    if shared := dict.fromkeys(name for workload in system.found for name in workload.shared):
        yield f"{create} {SHARED_SECRET} {_literals(shared)}"


def _literals(names: Iterable[str]) -> str:
    return " ".join(f"--from-literal={name}=..." for name in names)


def _objects(
    workload: Workload, broker: BrokerPlan, image: Image, config: str
) -> Iterator[dict[str, object]]:
    yield runner(workload, broker, image, config)
    if workload.address is not None and not workload.spec.oneshot:
        yield service(workload.label, {"http": workload.address.port})
    most = workload.spec.autoscale
    if most is not None and not workload.spec.oneshot:
        yield autoscaler(workload, most)
    if workload.spec.replicas > 1:
        yield disruption_budget(workload)


def _policies(
    found: Sequence[Workload], broker: BrokerPlan, public: Collection[str]
) -> Iterator[dict[str, object]]:
    """`public` services are reached by the proxies of a Gateway, which run nobody knows where."""
    for workload in found:
        if workload.address is None or workload.spec.oneshot:
            continue
        callers = [
            other.label
            for other in found
            if any(dependency.service == workload.name for dependency in other.spec.depends_on)
            or (other.is_gateway and (workload.spec.routes or workload.spec.routed))
        ]
        metrics = "metrics" if workload.has_metrics else None
        is_public = workload.is_gateway or workload.name in public
        yield policy(workload.label, ["http"], None if is_public else callers, metrics)
    if broker.is_ours:
        clients = [workload.label for workload in found if not workload.is_gateway]
        yield policy(BROKER, ["amqp"], clients, "metrics")


def labelled(item: dict[str, object], project: Project) -> dict[str, object]:
    """Add the common labels before its own."""
    metadata = item["metadata"]
    if not isinstance(metadata, Mapping):
        raise TypeError("an object without metadata")
    own = metadata.get("labels", {})
    common = {"app.kubernetes.io/part-of": project_label(project), **COMMON}
    return {**item, "metadata": {**metadata, "labels": {**common, **own}}}


def _differences(workload: Workload, gateway: Workload | None, image: Image) -> Iterator[Notice]:
    spec = workload.spec
    key = "gateway" if workload.is_gateway else f"services.{workload.name}"
    if not image.has_msctl and workload.health is not None and workload.health.secret_headers:
        yield Notice(f"{key}.health.headers", "its probe sends no field with a secret")
    if spec.depends_on:
        yield Notice(f"{key}.depends_on", "Kubernetes starts everything at once")
    if not spec.autostart:
        command = f"kubectl scale deployment {workload.label} --replicas=1"
        yield Notice(f"{key}.autostart", f"it has 0 replicas; start it with: {command}")
    if spec.ready_log is not None:
        yield Notice(
            f"{key}.ready_log",
            "Kubernetes does not look at logs; its probes alone tell its readiness",
        )
    yield from health_notices(spec, key, "Kubernetes")
    if not spec.oneshot:
        yield from restart_notices(spec, key, "Kubernetes")
    if spec.stop_signal != "SIGTERM":
        how = f"Kubernetes sends SIGTERM; in the Dockerfile: STOPSIGNAL {spec.stop_signal}"
        yield Notice(f"{key}.stop_signal", how)
    if spec.restart is RestartPolicy.NO and not spec.oneshot:
        yield Notice(f"{key}.restart", "Kubernetes restarts every container that exits")
    if spec.success_exit_codes:
        yield Notice(f"{key}.success_exit_codes", "Kubernetes treats only 0 as success")
    if spec.port and not workload.is_gateway:
        through = "; from outside, use the gateway" if gateway and spec.routes else ""
        yield Notice(f"{key}.port", f"port {spec.port} is reachable only within the cluster{through}")
