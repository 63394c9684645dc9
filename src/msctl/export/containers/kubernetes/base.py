"""The kustomize base: the objects with a namespace, an entry, and what ties them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.export.containers.kubernetes.network import ingress, parent
from msctl.export.containers.kubernetes.objects import CONFIG
from msctl.export.containers.kubernetes.system import (
    build_commands,
    files_of,
    labelled,
    notices,
    routes_to,
    secret_commands,
    system,
)
from msctl.export.containers.system import ContainerSystem
from msctl.export.kind import ExportKind, ExportOptions, File, Item, Notice
from msctl.export.names import project_name_label
from msctl.export.workloads import Workload
from msctl.export.yaml import dump, dump_all
from msctl.model.project import Project


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    whole = system(project, options)
    namespace = project_name_label(options.namespace or project.name)
    place: dict[str, object] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    files = {"namespace.yaml": [labelled(place, project)], **files_of(whole)}
    if whole.gateway is not None:
        entries = _entries(whole, whole.gateway)
        files["entry.yaml"] = [labelled(item, project) for item in entries]
    for path, objects in files.items():
        yield File(path, dump_all(objects))
    yield File("msctl.toml", whole.config)
    yield File("kustomization.yaml", _kustomization(whole, namespace, list(files)))
    if namespace != (options.namespace or project.name):
        yield Notice("project.name", f"the namespace is {namespace!r}, since the name is not a DNS label")
    yield from notices(whole, "kustomization.yaml")


def _entries(whole: ContainerSystem, gateway: Workload) -> list[dict[str, object]]:
    """The Ingress, or the HTTPRoutes of a Gateway."""
    options = whole.options
    if options.gateway_api is None:
        return [ingress(gateway, options)]
    given = [options.host] if options.host else []
    parents = [parent(options.gateway_api)]
    routes = routes_to(whole, gateway).routes
    return [route.document(parents, [route.host] if route.host else given) for route in routes]


def _kustomization(whole: ContainerSystem, namespace: str, files: Sequence[str]) -> str:
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
        for image in whole.built
        if "@" not in image.name
    ]:
        document["images"] = tags
    lines = [
        f"{whole.project.name} on Kubernetes, as a kustomize base.",
        "",
        "Build and push its images, in the project's folder:",
        "",
        *(f"  {command}" for command in build_commands(whole)),
        "",
        "Create the secrets once:",
        "",
        f"  kubectl create namespace {namespace}",
        *(f"  {command}" for command in secret_commands(whole, namespace)),
        "  kubectl apply -k .",
    ]
    return dump(document, comment="\n".join(lines))


KIND = ExportKind(
    "kubernetes",
    "A kustomize base: Deployments, Services, probes, autoscaling, network policies, an Ingress or HTTPRoute",
    render,
    frozenset(
        {"image", "registry", "tag", "namespace", "host", "gateway_api", "native_routes"}
        | {"ingress_class", "tls_secret"}
    ),
    folder="kubernetes",
)
