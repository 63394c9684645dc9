"""The backend for a registry's URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msctl.clock import AsyncClock
from msctl.discovery.backend import Backend
from msctl.discovery.consul import Consul
from msctl.discovery.etcd import Etcd
from msctl.discovery.registry_http import RegistryHttp
from msctl.model.project import Project
from msctl.model.registry_url import RegistryKind, RegistryUrl

if TYPE_CHECKING:
    import ssl

LONGEST_ANSWER_S = 3.0


def connect(project: Project, url: RegistryUrl, tls: ssl.SSLContext | None, clock: AsyncClock) -> Backend:
    """Return the backend; nothing is sent yet."""
    spec = project.discovery
    namespace = spec.namespace or project.name
    http = RegistryHttp(url, tls, min(LONGEST_ANSWER_S, spec.ttl / 3))
    if url.kind is RegistryKind.ETCD:
        return Etcd(http, url, namespace, spec.ttl, clock)
    return Consul(http, url, namespace, spec.ttl, token=spec.token, clock=clock)
