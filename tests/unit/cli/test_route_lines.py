"""`msctl routes`: where the requests of each route go."""

from __future__ import annotations

from msctl.cli.output.listings import route_lines
from msctl.model.route_policies import CanarySpec, StaticSpec
from msctl.model.route_spec import ComposeSpec, RedirectSpec, RouteSpec
from msctl.model.snapshots import InstanceSnapshot, Kind, ServiceSnapshot, State


def test_a_route_shows_all_its_destinations() -> None:
    routes = (
        RouteSpec("/a", "web"),
        RouteSpec("/b", "web", redirect=RedirectSpec(path="/a")),
        RouteSpec("/c", "web", compose=ComposeSpec({"a": "/a"})),
        RouteSpec("/d", "web", static=StaticSpec("/srv/dist")),
        RouteSpec("/e", "web", weights={"web": 9, "next": 1}),
        RouteSpec("/f", "web", canary=CanarySpec("next", 0.1)),
    )
    shown = [" ".join(line.split()[5:]) for line in list(route_lines(routes))[1:]]
    assert shown == [
        "web",
        "redirect",
        "compose",
        "files of /srv/dist",
        "web (9), next (1)",
        "web, next (canary)",
    ]


def test_instances_are_shown_where_one_is_from_another_machine() -> None:
    here = InstanceSnapshot("web-1", State.READY)
    services = [
        ServiceSnapshot(
            "web", Kind.COMMAND, State.READY, instances=(here, InstanceSnapshot("web-2", State.FATAL))
        )
    ]
    routes = (RouteSpec("/a", "web"), RouteSpec("/b", "next"))
    assert "INSTANCES" not in next(route_lines(routes, services))
    found = InstanceSnapshot("web-1@10.0.0.2:80", State.READY, origin="etcd")
    services.append(ServiceSnapshot("next", Kind.REMOTE, State.READY, instances=(found,)))
    head, first, second = route_lines(routes, services)
    assert head.split()[-1] == "INSTANCES"
    assert first.split()[5:] == ["web", "web-1"]
    assert second.split()[5:] == ["next", "web-1@10.0.0.2:80", "(etcd)"]
