"""Deployments and Jobs, autoscalers and disruption budgets, and the broker.

Rules of Kubernetes that they keep:
- A Job's template is immutable: its name has a checksum of it, so that a changed one is another Job.
- `fsGroup` makes each file of a volume readable for its group, at each start; RabbitMQ refuses such a cookie.
  `OnRootMismatch` does so at the first start only (Kubernetes, "Configure a Security Context").
- Without `imagePullPolicy`, an image is pulled always if its tag is latest, else if it is not there.
- Only what has metrics is annotated for Prometheus.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256

from msctl.export.broker import AMQP_URL, BROKER, PASSWORD, USERNAME, BrokerPlan
from msctl.export.containers import program
from msctl.export.containers.health_command import health_command
from msctl.export.containers.images import USER, Image, Language
from msctl.export.containers.kubernetes.network import service
from msctl.export.health import HealthCheck
from msctl.export.workloads import METRICS_PORT, Workload
from msctl.model.service_policies import RestartPolicy
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import process_stop_timeout

RABBITMQ_IMAGE = "rabbitmq:3-management"
RABBITMQ_USER = 999
RABBITMQ_METRICS_PORT = 15692
CONFIG = "msctl-config"
SHARED_SECRET = "project.env"  # noqa: S105 - the name of a Secret
BROKER_SECRET = "broker-credentials"  # noqa: S105 - the name of a Secret
COMMON = {"app.kubernetes.io/managed-by": "msctl"}
NAME = "app.kubernetes.io/name"

PRE_STOP_S = 5
"""Seconds that a stopping pod keeps serving, until every proxy has removed it."""
GRACE_S = 5
"""Seconds on top of the service's stop timeout."""
CPU_TARGET = 70
"""Percent of the requested CPU above which the autoscaler adds a pod."""
_RESOURCES = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"memory": "384Mi"}}


def runner(workload: Workload, broker: BrokerPlan, image: Image, config: str) -> dict[str, object]:
    """Return a service's Deployment, or the Job of a oneshot. `config` is the content of its ConfigMap."""
    spec = workload.spec
    metadata = {"name": workload.label, "labels": {NAME: workload.label}, "annotations": _origin(workload)}
    pod = _pod(workload, broker, image)
    if spec.oneshot:
        content = json.dumps([pod, image.name, config if image.has_msctl else ""], sort_keys=True)
        metadata["name"] = f"{workload.label[:54]}-{sha256(content.encode()).hexdigest()[:8]}"
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": metadata,
            "spec": {
                "backoffLimit": 0 if spec.restart is RestartPolicy.NO else _limit(spec),
                "ttlSecondsAfterFinished": 3600,
                "template": pod,
            },
        }
    deployment: dict[str, object] = {}
    if not spec.autostart:
        deployment["replicas"] = 0
    elif spec.autoscale is None:  # otherwise the autoscaler sets it
        deployment["replicas"] = spec.replicas
    deployment |= {
        "selector": {"matchLabels": {NAME: workload.label}},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": pod,
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment}


def _limit(spec: ServiceSpec) -> int:
    return 5 if spec.max_restarts is None else spec.max_restarts


def _origin(workload: Workload) -> dict[str, str]:
    return {"msctl/service": workload.name}


def _pod(workload: Workload, broker: BrokerPlan, image: Image) -> dict[str, object]:
    spec = workload.spec
    annotations: dict[str, str] = _origin(workload)
    if workload.has_metrics:
        annotations |= _scraped(METRICS_PORT)
    template: dict[str, object] = {
        "automountServiceAccountToken": False,
        # Its variables (USERS_PORT=tcp://…) clash with msctl's.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": PRE_STOP_S + math.ceil(process_stop_timeout(spec)) + GRACE_S,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(workload, broker, image)],
        "volumes": [
            *([{"name": "config", "configMap": {"name": CONFIG}}] if image.has_msctl else []),
            {"name": "tmp", "emptyDir": {}},
        ],
    }
    if spec.oneshot:
        template["restartPolicy"] = "Never" if spec.restart is RestartPolicy.NO else "OnFailure"
    if spec.replicas > 1 or spec.autoscale is not None:
        template["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {NAME: workload.label}},
            }
        ]
    return {"metadata": {"labels": {NAME: workload.label}, "annotations": annotations}, "spec": template}


def _scraped(port: int, path: str = "/metrics") -> dict[str, str]:
    return {"prometheus.io/scrape": "true", "prometheus.io/port": str(port), "prometheus.io/path": path}


def _container(workload: Workload, broker: BrokerPlan, image: Image) -> dict[str, object]:
    spec = workload.spec
    mounts: list[dict[str, object]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 - the container's own
    if image.argv is None:
        run: dict[str, object] = {
            "args": list(workload.serve_in_container()),
            "env": _environment(workload, broker),
        }
        mounts.insert(
            0, {"name": "config", "mountPath": "/app/msctl.toml", "subPath": "msctl.toml", "readOnly": True}
        )
    else:
        run = {
            "command": [_literal(word) for word in image.argv],
            "env": _program_environment(workload),
        }
    container: dict[str, object] = {
        "name": "service",
        # Kustomize sets the tag of what is built for this system.
        "image": image.name if image.dockerfile is None else image.repository,
        **run,
        "resources": _RESOURCES,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }
    if spec.env_file:
        container["envFrom"] = [{"secretRef": {"name": env_secret(workload)}}]
    if workload.address is not None and not spec.oneshot:
        ports = {"http": workload.address.port, **({"metrics": METRICS_PORT} if workload.has_metrics else {})}
        container["ports"] = [{"name": name, "containerPort": port} for name, port in ports.items()]
    check = workload.health
    if check is None:
        return container
    probe = _probe(check, None if workload.address is None else workload.address.port, image)
    container["startupProbe"] = probe | {"periodSeconds": 1, "failureThreshold": check.start_period_s}
    often = {"periodSeconds": check.interval_s, "failureThreshold": check.retries}
    container["readinessProbe"] = probe | often
    if spec.liveness:
        container["livenessProbe"] = probe | often
    if workload.address is None or image.language is Language.GIVEN:  # which may have no such program
        return container
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", str(PRE_STOP_S)]}}}
    return container


def env_secret(workload: Workload) -> str:
    """Return the name of the Secret with the variables of `env_file`."""
    return f"{workload.label}-env"


def _probe(check: HealthCheck, own_port: int | None, image: Image) -> dict[str, object]:
    how: dict[str, object]
    port: object = "http" if check.port == own_port else check.port
    if check.argv or (check.secret_headers and image.has_msctl):
        how = {"exec": {"command": [_literal(word) for word in health_command(check) or ()]}}
    elif check.path is None:
        how = {"tcpSocket": {"port": port}}
    else:
        get: dict[str, object] = {"path": check.path, "port": port}
        if check.https:
            get["scheme"] = "HTTPS"
        if check.headers:
            get["httpHeaders"] = [{"name": name, "value": value} for name, value in check.headers.items()]
        how = {"httpGet": get}
    return how | {"timeoutSeconds": check.timeout_s}


def _environment(workload: Workload, broker: BrokerPlan) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [
        {"name": name, "value": _literal(value)} for name, value in workload.variables.items()
    ]
    if not workload.is_gateway:
        found += broker_environment(broker)
    found += [_from_secret(name, f"{workload.label}-secrets", name) for name in workload.secrets]
    found += [_from_secret(name, SHARED_SECRET, name) for name in workload.shared]
    found += [_if_set(name, f"{workload.label}-secrets") for name in workload.optional]
    return found


def _program_environment(workload: Workload) -> list[dict[str, object]]:
    """Return all variables that msctl would give the command, which runs without it; secrets first."""
    known = program.known_variables(workload)
    written, left = program.values(workload, known, _rendered)
    secret = f"{workload.label}-secrets"
    found = [_from_secret(AMQP_URL, BROKER_SECRET, "url")]
    needed = [name for name in (*workload.secrets, *left) if name not in written]
    found += [_from_secret(name, secret, name) for name in dict.fromkeys(needed)]
    found += [_from_secret(name, SHARED_SECRET, name) for name in workload.shared]
    literals = {name: _literal(value) for name, value in known.items()}
    for name, value in (literals | written).items():
        found.append({"name": name, "value": value})
    return found


def _rendered(pieces: Sequence[str | program.Named]) -> str | None:
    """A text in Kubernetes' syntax, which knows `$(NAME)` alone."""
    text = ""
    for piece in pieces:
        if isinstance(piece, str):
            text += _literal(piece)
        elif piece.source.startswith("${"):
            if piece.operator and not piece.operator.lstrip(":").startswith("?"):
                return None
            text += f"$({piece.name})"
        else:
            text += piece.source
    return text


def broker_environment(broker: BrokerPlan) -> list[dict[str, object]]:
    """Return AMQP_URL, and beside it the credentials from a Secret, which msctl quotes into the URL."""
    return [
        {"name": AMQP_URL, "value": _literal(broker.url(""))},
        _from_secret(USERNAME, BROKER_SECRET, "username"),
        _from_secret(PASSWORD, BROKER_SECRET, "password"),
    ]


def _from_secret(variable: str, secret: str, key: str) -> dict[str, object]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _if_set(name: str, secret: str) -> dict[str, object]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name, "optional": True}}}


def _literal(value: str) -> str:
    """Escape `$(`, so that Kubernetes expands nothing."""
    return value.replace("$(", "$$(")


def autoscaler(workload: Workload, most: int) -> dict[str, object]:
    replicas = workload.spec.replicas
    metric = {
        "type": "Resource",
        "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_TARGET}},
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": workload.label, "labels": {NAME: workload.label}},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload.label},
            "minReplicas": replicas,
            "maxReplicas": max(replicas, most),
            "metrics": [metric],
        },
    }


def disruption_budget(workload: Workload) -> dict[str, object]:
    """Allow one pod at a time to be evicted; for a single pod it would block draining its node."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": workload.label, "labels": {NAME: workload.label}},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {NAME: workload.label}}},
    }


def broker_objects(broker: BrokerPlan) -> list[dict[str, object]]:
    """Return one RabbitMQ with a volume, as the course runs it; for a cluster, use its operator."""
    health: Mapping[str, object] = {"timeoutSeconds": 15, "periodSeconds": 20}
    check = {"exec": {"command": ["rabbitmq-diagnostics", "-q", "check_port_connectivity"]}}
    environment = [
        _from_secret("RABBITMQ_DEFAULT_USER", BROKER_SECRET, "username"),
        _from_secret("RABBITMQ_DEFAULT_PASS", BROKER_SECRET, "password"),
        *([{"name": "RABBITMQ_DEFAULT_VHOST", "value": _literal(broker.vhost)}] if broker.vhost else []),
    ]
    container = {
        "name": BROKER,
        "image": RABBITMQ_IMAGE,
        "env": environment,
        "ports": [
            {"name": "amqp", "containerPort": broker.port},
            {"name": "management", "containerPort": 15672},
            {"name": "metrics", "containerPort": RABBITMQ_METRICS_PORT},
        ],
        "startupProbe": {**check, **health, "failureThreshold": 15},
        "readinessProbe": {**check, **health},
        "livenessProbe": {"exec": {"command": ["rabbitmq-diagnostics", "-q", "ping"]}, **health},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/rabbitmq"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # the image reads RABBITMQ_PORT
        "terminationGracePeriodSeconds": 60,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": RABBITMQ_USER,
            "runAsGroup": RABBITMQ_USER,
            "fsGroup": RABBITMQ_USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": BROKER, "labels": {NAME: BROKER}},
            "spec": {
                "serviceName": BROKER,
                "replicas": 1,
                "selector": {"matchLabels": {NAME: BROKER}},
                "template": {
                    "metadata": {
                        "labels": {NAME: BROKER},
                        "annotations": _scraped(RABBITMQ_METRICS_PORT, "/metrics/per-object"),
                    },
                    "spec": pod,
                },
                "volumeClaimTemplates": [claim],
            },
        },
        service(BROKER, {"amqp": broker.port}),
    ]
