"""The health of services: the supervisor's snapshots joined with the gateway's.

Pure. Below what shows a stack, so that the command line, the page and a script are told the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from msctl.model.snapshots import BreakerState, InstanceSnapshot, Kind, ServiceSnapshot, TargetSnapshot

NAMED = 3
"""The number of instances that a reason names; the rest are counted."""


def seen_by_gateway(
    services: Sequence[ServiceSnapshot], targets: Sequence[TargetSnapshot]
) -> tuple[ServiceSnapshot, ...]:
    """The services, with each instance's target, and with open and half-open breakers in their reason."""
    found = {(target.service, target.instance): target for target in targets}
    return tuple(_seen(service, found) for service in services) if found else tuple(services)


def _seen(service: ServiceSnapshot, targets: dict[tuple[str, str], TargetSnapshot]) -> ServiceSnapshot:
    instances = tuple(
        seen for instance in service.instances for seen in _instances(service, instance, targets)
    )
    mine = [instance.target for instance in instances if instance.target is not None]
    if not mine:
        return service
    reasons = [service.reason, *_troubled(mine)]
    return replace(service, instances=instances, reason="; ".join(filter(None, reasons)))


def _instances(
    service: ServiceSnapshot, instance: InstanceSnapshot, targets: dict[tuple[str, str], TargetSnapshot]
) -> list[InstanceSnapshot]:
    """The instance with its target; one at several addresses, each of which is a target, once for each."""
    if service.kind is Kind.REMOTE:
        prefix = f"{instance.name}@"
        found = [t for (name, key), t in targets.items() if name == service.name and key.startswith(prefix)]
        if found:
            return [replace(instance, name=t.instance, address=t.address, target=t) for t in found]
    return [replace(instance, target=targets.get((service.name, instance.name)))]


def _troubled(targets: Sequence[TargetSnapshot]) -> list[str]:
    said = []
    if opened := [target for target in targets if target.breaker is BreakerState.OPEN]:
        wait = min(target.retry_in_s or 0.0 for target in opened)
        said.append(f"breaker open for {_names(opened)}, retry in {math.ceil(wait)} s")
    if probed := [target for target in targets if target.breaker is BreakerState.HALF_OPEN]:
        said.append(f"breaker half-open for {_names(probed)}, the next request is a probe")
    return said


def _names(targets: Sequence[TargetSnapshot]) -> str:
    names = [target.instance for target in targets[:NAMED]]
    if more := len(targets) - len(names):
        names.append(f"{more} more")
    return ", ".join(names)
