"""`msctl routes`: where the requests of each route go."""

from __future__ import annotations

from msctl.cli.output.listings import route_lines
from msctl.model.project import ComposeSpec, RedirectSpec, RouteSpec
from msctl.model.route_policies import CanarySpec, StaticSpec


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
