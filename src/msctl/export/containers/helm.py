"""`helm`: the objects of the kubernetes kind as a chart, with values for what differs between installations.

Images, replicas, resources and the entry are values; what shapes the system is written in the templates. A
value is put in as a scalar of YAML: JSON, or a quoted string. Text of the project that looks like a template
is escaped. Services find each other by fixed names, so a namespace holds one release.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from msctl.export.containers.images import Image
from msctl.export.containers.kubernetes.network import NAME
from msctl.export.containers.kubernetes.objects import COMMON, CONFIG
from msctl.export.containers.kubernetes.system import (
    Object,
    build_commands,
    files_of,
    labelled,
    notices,
    routes_to,
    secret_commands,
    system,
)
from msctl.export.containers.system import ContainerSystem
from msctl.export.kind import ExportError, ExportKind, ExportOptions, File, Item
from msctl.export.names import project_label
from msctl.export.workloads import Workload
from msctl.export.yaml import dump, dump_all
from msctl.model.project import Project

CHART_VERSION = "0.1.0"
CONFIG_FILE = "files/msctl.toml"
_TEMPLATES = "templates"
_HASH = f'.Files.Get "{CONFIG_FILE}" | sha256sum'


class _Expressions:
    """Marks in objects, each for an expression of the template language."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def mark(self, expression: str) -> str:
        """Return a scalar that becomes the expression's value."""
        name = f"msctl-expression-{len(self._found)}-of-the-chart"
        self._found[name] = f"{{{{ {expression} }}}}"
        return name

    def template(self, objects: list[Object]) -> str:
        """Return the objects as a template; what looks like one in them is escaped."""
        text = dump_all(objects).replace("{{", '{{ "{{" }}')
        return re.sub(
            r"msctl-expression-\d+-of-the-chart",
            lambda match: self._found.get(match.group(), match.group()),
            text,
        )


def render(project: Project, options: ExportOptions) -> Iterator[Item]:
    whole = system(project, options)
    images = _images(whole)
    yield File("Chart.yaml", dump(_chart(whole)))
    yield File("values.yaml", dump(_values(whole, images), comment=_comment(whole)))
    yield File(CONFIG_FILE, whole.config)
    by_label = {workload.label: workload for workload in whole.found}
    for path, objects in files_of(whole).items():
        expressions = _Expressions()
        for item in objects:
            workload = by_label.get(path.removesuffix(".yaml"))
            if workload is not None:
                _open(item, workload, whole.known[workload.name], images, expressions)
        yield File(f"{_TEMPLATES}/{path}", expressions.template(objects))
    yield File(f"{_TEMPLATES}/config.yaml", _config(project))
    if whole.gateway is not None:
        yield File(f"{_TEMPLATES}/entry.yaml", _entry(whole, whole.gateway))
    yield from notices(whole, "values.yaml")


def _chart(whole: ContainerSystem) -> Object:
    return {
        "apiVersion": "v2",
        "name": project_label(whole.project),
        "description": f"{whole.project.name}, exported by msctl",
        "type": "application",
        "version": CHART_VERSION,
        "appVersion": whole.options.tag or "latest",
        "kubeVersion": ">=1.25.0-0",
    }


def _comment(whole: ContainerSystem) -> str:
    lines = [
        f"{whole.project.name} as a Helm chart. Build and push its images, in the project's folder:",
        "",
        *(f"  {command}" for command in build_commands(whole)),
        "",
        "Create the secrets once, in the namespace of the release:",
        "",
        *(f"  {command}" for command in secret_commands(whole, "NAMESPACE")),
        f"  helm upgrade --install {project_label(whole.project)} . -n NAMESPACE",
    ]
    return "\n".join(lines)


def _images(whole: ContainerSystem) -> dict[str, tuple[str, Object]]:
    """Each image by its full name: its key in the values, and its value."""
    shared = project_label(whole.project)
    found: dict[str, tuple[str, Object]] = {}
    for workload in whole.found:
        image = whole.known[workload.name]
        key = shared if image.has_msctl and image.dockerfile is not None else workload.label
        found.setdefault(image.name, (key, _image_value(image)))
    keys = [key for key, _ in found.values()]
    if len(set(keys)) != len(keys):
        raise ExportError(
            f"services.{shared}: its image would have the key of the shared one in values.yaml",
            hint="rename the service or the project",
        )
    return found


def _image_value(image: Image) -> Object:
    repository, _, digest = image.name.partition("@")
    if digest:
        return {"repository": repository, "digest": digest}
    repository, colon, tag = image.name.rpartition(":")
    if not colon or "/" in tag:
        return {"repository": image.name, "tag": "latest"}
    return {"repository": repository, "tag": tag}


def _values(whole: ContainerSystem, images: Mapping[str, tuple[str, Object]]) -> Object:
    options = whole.options
    namespace, _, gateway = (options.gateway_api or "").rpartition("/")
    services: dict[str, object] = {}
    for workload in whole.found:
        settings: dict[str, object] = {"resources": _resources(workload, whole)}
        if not workload.spec.oneshot:
            settings = {"replicas": workload.spec.replicas if workload.spec.autostart else 0, **settings}
        services[workload.label] = settings
    entry: dict[str, object] = {
        "ingress": {
            "enabled": options.gateway_api is None,
            "className": options.ingress_class or "",
            "host": options.host or "",
            "tlsSecret": options.tls_secret or "",
            "annotations": {},
        },
        "gatewayApi": {"gateway": gateway, "namespace": namespace, "host": options.host or ""},
    }
    return {
        "images": dict(images.values()),
        "imagePullSecrets": [],
        "services": services,
        **(entry if whole.gateway is not None else {}),
    }


def _resources(workload: Workload, whole: ContainerSystem) -> object:
    for item in files_of(whole)[f"{workload.label}.yaml"]:
        if item["kind"] in ("Deployment", "Job"):
            return _pod(item)["containers"][0]["resources"]
    return {}


def _pod(item: Object) -> dict[str, Any]:
    spec: Any = item["spec"]
    pod: dict[str, Any] = spec["template"]["spec"]
    return pod


def _open(
    item: Object,
    workload: Workload,
    image: Image,
    images: Mapping[str, tuple[str, Object]],
    expressions: _Expressions,
) -> None:
    """Put the values in the place of what differs between installations."""
    if item["kind"] not in ("Deployment", "Job"):
        return
    key, value = images[image.name]
    at = f'index .Values.images "{key}"'
    service = f'index .Values.services "{workload.label}"'
    pod = _pod(item)
    (container,) = pod["containers"]
    joint, part = ("@", "digest") if "digest" in value else (":", "tag")
    container["image"] = expressions.mark(
        f'printf "%s{joint}%s" ({at}).repository (({at}).{part} | toString) | quote'
    )
    container["resources"] = expressions.mark(f"({service}).resources | toJson")
    pod["imagePullSecrets"] = expressions.mark(".Values.imagePullSecrets | toJson")
    spec: Any = item["spec"]
    if image.has_msctl:
        # A new configuration restarts the pods.
        annotations = spec["template"]["metadata"]["annotations"]
        annotations["checksum/config"] = expressions.mark(_HASH)
    if item["kind"] == "Job":
        metadata: Any = item["metadata"]
        label, _, content = metadata["name"].rpartition("-")
        # The template of a Job is immutable: whatever changes it makes another Job.
        changes = f'printf "%s%s" (toJson .Values) ({_HASH}) | sha256sum | trunc 8'
        metadata["name"] = f"{label[:45]}-{content}-{expressions.mark(changes)}"
    elif "replicas" in spec:
        spec["replicas"] = expressions.mark(f"({service}).replicas")


def _labels(name: str, project: Project, indent: str) -> str:
    found = {"app.kubernetes.io/part-of": project_label(project), **COMMON, NAME: name}
    return "".join(f"{indent}{key}: {value}\n" for key, value in found.items())


def _config(project: Project) -> str:
    return (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
        f"  name: {CONFIG}\n  labels:\n{_labels(CONFIG, project, '    ')}"
        f'data:\n  msctl.toml: {{{{ .Files.Get "{CONFIG_FILE}" | toJson }}}}\n'
    )


_PARENTS = """\
  parentRefs:
    - name: {{ .Values.gatewayApi.gateway | quote }}
      {{- if .Values.gatewayApi.namespace }}
      namespace: {{ .Values.gatewayApi.namespace | quote }}
      {{- end }}
"""
_HOSTS = """\
  {{- if .Values.gatewayApi.host }}
  hostnames:
    - {{ .Values.gatewayApi.host | quote }}
  {{- end }}
"""


def _entry(whole: ContainerSystem, gateway: Workload) -> str:
    """The HTTPRoutes or the Ingress, as the values say."""
    metadata = (
        f"metadata:\n  name: {gateway.label}\n  labels:\n{_labels(gateway.label, whole.project, '    ')}"
    )
    return f"""\
{{{{- if .Values.gatewayApi.gateway }}}}
{_http_routes(whole, gateway)}{{{{- else if .Values.ingress.enabled }}}}
apiVersion: networking.k8s.io/v1
kind: Ingress
{metadata}  annotations: {{{{ .Values.ingress.annotations | toJson }}}}
spec:
  {{{{- if .Values.ingress.className }}}}
  ingressClassName: {{{{ .Values.ingress.className | quote }}}}
  {{{{- end }}}}
  {{{{- if .Values.ingress.tlsSecret }}}}
  tls:
    - secretName: {{{{ .Values.ingress.tlsSecret | quote }}}}
      {{{{- if .Values.ingress.host }}}}
      hosts:
        - {{{{ .Values.ingress.host | quote }}}}
      {{{{- end }}}}
  {{{{- end }}}}
  rules:
    - http:
        paths:
          - path: /
            pathType: Prefix
            backend:
              service:
                name: {gateway.label}
                port:
                  name: http
      {{{{- if .Values.ingress.host }}}}
      host: {{{{ .Values.ingress.host | quote }}}}
      {{{{- end }}}}
{{{{- end }}}}
"""


def _http_routes(whole: ContainerSystem, gateway: Workload) -> str:
    """One HTTPRoute that leads to the gateway, or those that lead to the services."""
    routes = routes_to(whole, gateway).routes
    documents = [
        route.document("PARENTS-OF-THE-CHART", [route.host] if route.host else "HOSTS-OF-THE-CHART")
        for route in routes
    ]
    text = _Expressions().template([labelled(document, whole.project) for document in documents])
    text = text.replace("  parentRefs: PARENTS-OF-THE-CHART\n", _PARENTS)
    return text.replace("  hostnames: HOSTS-OF-THE-CHART\n", _HOSTS)


KIND = ExportKind(
    "helm",
    "A Helm chart of the same objects: images, replicas, resources and the entry are values",
    render,
    frozenset(
        {"image", "registry", "tag", "host", "gateway_api", "native_routes", "ingress_class", "tls_secret"}
    ),
    folder="chart",
)
