"""The files of the base, its kustomization, and what Kubernetes does differently."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote

from msctl.export.broker import BROKER, BrokerPlan, broker_plan
from msctl.export.containers.docker import image_files, secret_file_notices
from msctl.export.containers.images import Image, images
from msctl.export.containers.kubernetes.network import check_names, default_deny, entry, policy, service
from msctl.export.containers.kubernetes.objects import (
    BROKER_SECRET,
    COMMON,
    CONFIG,
    SHARED_SECRET,
    autoscaler,
    broker_objects,
    disruption_budget,
    env_secret,
    runner,
)
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import labels, project_label, project_name_label, renamed
from msctl.export.portable import portable_toml
from msctl.export.workloads import (
    Workload,
    clear_notices,
    container_addresses,
    env_file_paths,
    health_notices,
    local_services,
    restart_notices,
    secret_notices,
    source_notices,
    workloads,
)
from msctl.export.yaml import dump, dump_all
from msctl.model.project import Project, RestartPolicy


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    broker = broker_plan(project.broker)
    names = labels(
        (spec.name for spec in local_services(project)), {BROKER: "the broker"} if broker.is_ours else None
    )
    found = workloads(project, names, container_addresses(project, names))
    check_names(options)
    known = images(project, found, options)
    config, config_notices = portable_toml(project)
    namespace = project_name_label(options.namespace or project.name)

    files: dict[str, list[dict[str, object]]] = {
        "namespace.yaml": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    }
    for workload in found:
        files[f"{workload.label}.yaml"] = list(_objects(workload, broker, known[workload.name], config))
    if broker.is_ours:
        files[f"{BROKER}.yaml"] = broker_objects(broker)
    files["network.yaml"] = [default_deny(), *_policies(found, broker)]
    gateway = next((workload for workload in found if workload.is_gateway), None)
    if gateway is not None:
        files["entry.yaml"] = [entry(gateway, options)]

    for path, objects in files.items():
        yield File(path, dump_all([_labelled(item, project) for item in objects]))
    yield File("msctl.toml", config)
    yield File("kustomization.yaml", _kustomization(project, namespace, list(files), known, broker, found))

    yield from renamed(names)
    if namespace != (options.namespace or project.name):
        yield Notice("project.name", f"the namespace is {namespace!r}, since the name is not a DNS label")
    yield from config_notices
    yield from (item for item in image_files(project, options) if isinstance(item, Notice))
    yield from secret_file_notices(project)
    yield from secret_notices(found, "create the Secret as kustomization.yaml says")
    yield from clear_notices(project)
    yield from source_notices(project, options)
    yield Notice(
        "broker.url", f"its credentials are read from Secret {BROKER_SECRET}; see kustomization.yaml"
    )
    for workload in found:
        yield from _differences(workload, gateway, known[workload.name])


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


def _policies(found: Sequence[Workload], broker: BrokerPlan) -> Iterator[dict[str, object]]:
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
        yield policy(workload.label, ["http"], None if workload.is_gateway else callers, metrics)
    if broker.is_ours:
        clients = [workload.label for workload in found if not workload.is_gateway]
        yield policy(BROKER, ["amqp"], clients, "metrics")


def _labelled(item: dict[str, object], project: Project) -> dict[str, object]:
    """Add the common labels before its own."""
    metadata = item["metadata"]
    if not isinstance(metadata, Mapping):
        raise TypeError("an object without metadata")
    own = metadata.get("labels", {})
    common = {"app.kubernetes.io/part-of": project_label(project), **COMMON}
    return {**item, "metadata": {**metadata, "labels": {**common, **own}}}


def _kustomization(
    project: Project,
    namespace: str,
    files: Sequence[str],
    known: Mapping[str, Image],
    broker: BrokerPlan,
    found: Sequence[Workload],
) -> str:
    built = {image.name: image for image in known.values() if image.dockerfile is not None}
    document: dict[str, object] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace,
        "resources": list(files),
        # A new configuration gets a new name, so that pods restart.
        "configMapGenerator": [{"name": CONFIG, "files": ["msctl.toml"]}],
    }
    if tags := [
        {"name": image.repository, "newTag": image.name.rpartition(":")[2]}
        for image in built.values()
        if "@" not in image.name
    ]:
        document["images"] = tags
    create = f"kubectl -n {namespace} create secret generic"
    user = shlex.quote(f"--from-literal=username={broker.user}")
    credentials = f"{create} {BROKER_SECRET} {user} --from-literal=password=..."
    if any(not image.has_msctl for image in known.values()):
        # A program without msctl reads a URL, whose password is percent-encoded.
        login = f"{quote(broker.user, safe='')}:PERCENT-ENCODED"
        credentials += f" {shlex.quote(f'--from-literal=url={broker.url(login)}')}"
    lines = [
        f"{project.name} on Kubernetes, as a kustomize base.",
        "",
        "Build and push its images, in the project's folder:",
        "",
        "  msctl export docker",
        *_build_commands(built.values()),
        "",
        "Create the secrets once:",
        "",
        f"  kubectl create namespace {namespace}",
        f"  {credentials}",
    ]
    for workload in found:
        if names := (*workload.secrets, *workload.optional):
            lines.append(f"  {create} {workload.label}-secrets {_literals(names)}")
        if workload.spec.env_file:
            files = " ".join(f"--from-env-file={path}" for path in env_file_paths(workload.spec, project))
            lines.append(f"  {create} {env_secret(workload)} {files}")
    if shared := tuple(dict.fromkeys(name for workload in found for name in workload.shared)):
        lines.append(f"  {create} {SHARED_SECRET} {_literals(shared)}")
    lines += ["  kubectl apply -k ."]
    return dump(document, comment="\n".join(lines))


def _build_commands(built: Iterable[Image]) -> Iterator[str]:
    for image in built:
        context = shlex.quote(image.context)
        yield f"  docker build -t {image.name} -f {shlex.quote(image.dockerfile or 'Dockerfile')} {context}"
        yield f"  docker push {image.name}"


def _literals(names: Sequence[str]) -> str:
    return " ".join(f"--from-literal={name}=..." for name in names)


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


KIND = ExportKind(
    "kubernetes",
    "A kustomize base: Deployments, Services, probes, autoscaling, network policies, an Ingress or HTTPRoute",
    render,
    frozenset(
        {"image", "registry", "tag", "namespace", "host", "gateway_api", "ingress_class", "tls_secret"}
    ),
    folder="kubernetes",
)
