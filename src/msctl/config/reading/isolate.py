"""`--isolated`: a second copy of a project, with a name and free ports of its own. Pure."""

from __future__ import annotations

from dataclasses import replace

from msctl.model.broker_spec import BrokerSpec
from msctl.model.broker_url import parse_url
from msctl.model.project import Project
from msctl.model.service_spec import ServiceSpec
from msctl.model.services import shares_gateway_port
from msctl.model.snapshots import BrokerMode, Durability

_OWN = frozenset({BrokerMode.AUTO, BrokerMode.EMBEDDED, BrokerMode.LOCAL})


def isolated(project: Project, tag: str) -> Project:
    """`project` called NAME-`tag`, every port chosen when it is bound.

    What shares the gateway's port is reached through the gateway alone. A broker that the stack
    runs itself gets a port of its own too; `auto` always embeds one. It keeps nothing
    on disk unless `durable` is set. A broker elsewhere stays.
    """
    return replace(
        project,
        name=f"{project.name}-{tag}",
        services=tuple(_moved(spec, project) for spec in project.services),
        gateway=None if project.gateway is None else replace(project.gateway, port=0),
        broker=_own_broker(project.broker),
        dashboard=replace(project.dashboard, port=0, otlp_port=0),
    )


def _moved(spec: ServiceSpec, project: Project) -> ServiceSpec:
    if spec.port is None:
        return spec
    return replace(spec, port=None if shares_gateway_port(spec, project) else 0)


def _own_broker(broker: BrokerSpec) -> BrokerSpec:
    if broker.mode not in _OWN:
        return broker
    mode = BrokerMode.EMBEDDED if broker.mode is BrokerMode.AUTO else broker.mode
    url = parse_url(broker.url).changed(port=0).text
    durable = broker.durable if broker.durable_given else Durability.NONE
    return replace(broker, mode=mode, url=url, durable=durable, management_port=0)
