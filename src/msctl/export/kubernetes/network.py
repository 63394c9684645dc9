"""What reaches what: Services, the way in from outside, and the policies that close the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msctl.export.kind import ExportOptions
from msctl.export.workloads import Workload

NAME = "app.kubernetes.io/name"
MONITORING_NAMESPACE = "monitoring"
"""Prometheus is expected in a namespace of this name; nothing else may scrape."""


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
    """Everything from outside goes to the gateway, which knows the routes and their rules."""
    if gateway.address is None:
        raise ValueError("the gateway listens nowhere")
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
    """No pod of the namespace takes a connection that no policy below allows."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "default-deny"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
    }


def policy(name: str, ports: Mapping[str, int], callers: Sequence[str] | None) -> dict[str, object]:
    """Who may connect to a service: these and Prometheus; everyone where `callers` is None."""
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
