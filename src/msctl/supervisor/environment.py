"""What a service finds in its environment: its own address, the broker, and whom it depends on; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msctl.specs import Project, ServiceSpec
from msctl.supervisor.ports import Address


def environment(
    spec: ServiceSpec,
    project: Project,
    *,
    address: Address | None,
    amqp_url: str,
    locate: Callable[[str], Address | None],
) -> Mapping[str, str]:
    """$HOST and $PORT (where it has an address), $AMQP_URL, $<NAME>_URL of each dependency, and its `env`.

    `locate` says where a service listens, if it has an address of its own. One that has none is
    reached through the gateway, if it has a route there. What `env` sets wins.
    """
    found: dict[str, str] = {"AMQP_URL": amqp_url}
    if address is not None:
        found |= {"HOST": address.host, "PORT": str(address.port)}
    for dependency in spec.depends_on:
        other = project.service(dependency.service)
        if other is not None and (url := _url(other, project, locate)):
            found[variable(other.name)] = url
    return found | dict(spec.env)


def variable(service: str) -> str:
    """The variable that holds a service's URL: USERS_URL; ORDER_ITEMS_URL for order-items."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in service).upper() + "_URL"


def _url(spec: ServiceSpec, project: Project, locate: Callable[[str], Address | None]) -> str | None:
    if spec.url is not None:
        return spec.url
    if (address := locate(spec.name)) is not None:
        return address.url
    gateway = locate("gateway")
    if project.gateway is None or gateway is None or not spec.routes:
        return None
    route = spec.routes[0]
    return gateway.url + (route.path.rstrip("/") if route.strip_prefix else "")
