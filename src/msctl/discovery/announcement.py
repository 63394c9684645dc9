"""What a stack announces of its own instances, and what of it cannot be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from msctl.discovery.record import MAX_ROUTES, Record
from msctl.model.address import WILDCARDS, is_loopback
from msctl.model.endpoint import Endpoint
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import address_of, announces, health_path, runs_here, shares_gateway_port
from msctl.model.snapshots import GATEWAY


@dataclass(frozen=True, slots=True)
class Announcement:
    """The records of a stack by their keys, and for a service that has none although it is ready, why."""

    records: Mapping[str, Record]
    problems: Mapping[str, str]


def announcement(
    project: Project,
    endpoints: Callable[[str], Sequence[Endpoint]],
    *,
    advertise: str,
    stack: str,
) -> Announcement:
    """Return what to announce; `endpoints` gives the ready instances of a service."""
    records: dict[str, Record] = {}
    problems: dict[str, str] = {}
    gateway_runs = bool(endpoints(GATEWAY))
    for spec in project.services:
        own = [endpoint for endpoint in endpoints(spec.name) if endpoint.origin is None]
        if not own or not announces(spec, project):
            continue
        if shares_gateway_port(spec, project) and gateway_runs:
            # It would be asked for what it balances itself.
            problems[spec.name] = "the gateway answers on its port"
            continue
        for endpoint in own:
            record = _record(spec, endpoint, _host(spec, project, endpoint), advertise, stack)
            if record is None:
                problems[spec.name] = f"it listens where only this machine reaches it, not at {advertise}"
            else:
                records[record.key] = record
    return Announcement(records, problems)


def _record(spec: ServiceSpec, endpoint: Endpoint, host: str, advertise: str, stack: str) -> Record | None:
    parts = urlsplit(endpoint.base_url or "")
    if parts.scheme != "http" or parts.hostname is None:
        return None
    if host in WILDCARDS or (is_loopback(host) and is_loopback(advertise)):
        host = advertise
    elif is_loopback(host):
        return None
    return Record(
        spec.name,
        endpoint.instance,
        host.strip("[]"),
        parts.port or 80,
        stack,
        spec.weight,
        tuple(route.path for route in spec.routes[:MAX_ROUTES]),
        health_path(spec),
    )


def _host(spec: ServiceSpec, project: Project, endpoint: Endpoint) -> str:
    """The host on which an instance listens."""
    if spec.url is not None:
        return urlsplit(endpoint.base_url or "").hostname or ""
    address = address_of(spec, project) if runs_here(spec) else None
    return spec.host if address is None else address.host
