"""Services, the Ingress or HTTPRoute, and network policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msctl.export.kind import ExportOptions
from msctl.export.workloads import Workload

NAME = "app.kubernetes.io/name"
MONITORING_NAMESPACE = "monitoring"
"""The namespace from which Prometheus may scrape."""


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


def entry(gateway: Workload, options: ExportOptions) -> dict[str, object]:
    """Return the Ingress or HTTPRoute: all external requests go to the gateway."""
    if gateway.address is None:
        raise ValueError("the gateway has no address")
    if options.gateway_api is not None:
        return {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": gateway.label, "labels": {NAME: gateway.label}},
            "spec": {
                "parentRefs": [{"name": options.gateway_api}],
                **({"hostnames": [options.host]} if options.host else {}),
                "rules": [
                    {
                        "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                        "backendRefs": [{"name": gateway.label, "port": gateway.address.port}],
                    }
                ],
            },
        }
    backend = {"service": {"name": gateway.label, "port": {"name": "http"}}}
    http = {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": gateway.label, "labels": {NAME: gateway.label}},
        "spec": {"rules": [{"host": options.host, **http} if options.host else http]},
    }


def default_deny() -> dict[str, object]:
    """Deny every connection to pods that no other policy allows."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def policy(name: str, ports: Mapping[str, int], callers: Sequence[str] | None) -> dict[str, object]:
    """Allow connections from `callers` (None: from everyone) and from Prometheus."""
    open_ports = [{"protocol": "TCP", "port": port} for port in ports]
    rule: dict[str, object] = {"ports": open_ports}
    if callers is not None:
        rule["from"] = [
            *({"podSelector": {"matchLabels": {NAME: caller}}} for caller in callers),
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": MONITORING_NAMESPACE}}},
        ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "labels": {NAME: name}},
        "spec": {
            "podSelector": {"matchLabels": {NAME: name}},
            "policyTypes": ["Ingress"],
            "ingress": [rule],
        },
    }
