"""Services, the Ingress, and network policies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msctl.export.kind import ExportError, ExportOptions
from msctl.export.workloads import Workload

NAME = "app.kubernetes.io/name"
MONITORING_NAMESPACE = "monitoring"
"""The namespace from which Prometheus may scrape."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LONGEST_NAME = 253


def service(name: str, ports: Mapping[str, int]) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {NAME: name}},
        "spec": {
            "selector": {NAME: name},
            "ports": [{"name": port, "port": number, "targetPort": port} for port, number in ports.items()],
        },
    }


def ingress(gateway: Workload, options: ExportOptions) -> dict[str, object]:
    """Return the Ingress: all external requests go to the gateway."""
    backend = {"service": {"name": gateway.label, "port": {"name": "http"}}}
    http = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    spec: dict[str, object] = {}
    if options.ingress_class is not None:
        spec["ingressClassName"] = options.ingress_class
    if options.tls_secret is not None:
        hosts = {"hosts": [options.host]} if options.host else {}
        spec["tls"] = [{**hosts, "secretName": options.tls_secret}]
    spec["rules"] = [{"host": options.host, **http} if options.host else http]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": gateway.label, "labels": {NAME: gateway.label}},
        "spec": spec,
    }


def check_names(options: ExportOptions) -> None:
    """Raise ExportError for names that Kubernetes would refuse, and for options that exclude each other."""
    given = {
        "--gateway-api": options.gateway_api,
        "--ingress-class": options.ingress_class,
        "--tls-secret": options.tls_secret,
        "--host": None if options.host is None else options.host.removeprefix("*."),
    }
    for option, value in given.items():
        if value is None:
            continue
        parts = value.split("/") if option == "--gateway-api" else [value]
        if len(parts) > 2 or not all(_NAME.fullmatch(part) and len(part) <= _LONGEST_NAME for part in parts):
            expected = "NAME or NAMESPACE/NAME" if option == "--gateway-api" else "a DNS name in lower case"
            raise ExportError(f"{option}: expected {expected}, found {value!r}")
    if options.native_routes and options.gateway_api is None:
        raise ExportError("--native-routes has no effect without --gateway-api", hint="name the Gateway")
    if options.gateway_api is not None and (options.ingress_class or options.tls_secret):
        option = "--ingress-class" if options.ingress_class else "--tls-secret"
        raise ExportError(
            f"{option} has no effect with --gateway-api", hint="the Gateway has the class and the certificate"
        )


def parent(gateway: str) -> dict[str, str]:
    """Return the Gateway of an HTTPRoute."""
    namespace, _, name = gateway.rpartition("/")
    return {"name": name, "namespace": namespace} if namespace else {"name": name}


def default_deny() -> dict[str, object]:
    """Deny every connection to pods that no other policy allows."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def policy(
    name: str, ports: Sequence[str], callers: Sequence[str] | None, metrics: str | None = None
) -> dict[str, object]:
    """Allow connections to `ports` from `callers` (None: from everyone), to `metrics` from Prometheus."""
    rules: list[dict[str, object]] = []
    if callers is None or callers:
        rules.append(_rule(ports, None if callers is None else [_pods(caller) for caller in callers]))
    if metrics is not None:
        namespace = {"matchLabels": {"kubernetes.io/metadata.name": MONITORING_NAMESPACE}}
        rules.append(_rule([metrics], [{"namespaceSelector": namespace}]))
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": {NAME: name}},
        "spec": {
            "podSelector": {"matchLabels": {NAME: name}},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def _rule(ports: Sequence[str], sources: Sequence[object] | None) -> dict[str, object]:
    rule: dict[str, object] = {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    return rule if sources is None else rule | {"from": list(sources)}


def _pods(name: str) -> dict[str, object]:
    return {"podSelector": {"matchLabels": {NAME: name}}}
