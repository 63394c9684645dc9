"""Says which route, service and instance a request would take, and why; the answer to `msctl route`."""

from __future__ import annotations

from collections.abc import Mapping

from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.message.target import Target, host_name
from msctl.gateway.request.plan import Planner
from msctl.gateway.request.validation import admit
from msctl.gateway.routing.routes import Match, Rule, upstream_path
from msctl.gateway.upstream.instances import Targets
from msctl.model.project import RouteSpec
from msctl.model.routing import RouteExplanation

DEFAULT_HOST = "localhost"


def explain(
    planner: Planner, targets: Targets, method: str, raw_target: str, headers: Mapping[str, str]
) -> RouteExplanation:
    """Decides as a real request would be decided on, and sends nothing."""
    fields: list[Field] = [
        (name.encode("latin-1", "replace"), value.encode()) for name, value in headers.items()
    ]
    if not any(name.lower() == b"host" for name, _ in fields):
        fields.append((b"Host", DEFAULT_HOST.encode()))
    steps: list[str] = []
    method = method.upper()

    def outcome(
        status: int | None,
        route: RouteSpec | None = None,
        instance: str | None = None,
        path: str | None = None,
    ) -> RouteExplanation:
        service = route.service if route is not None and route.service else None
        return RouteExplanation(method, raw_target, route, service, instance, path, status, tuple(steps))

    try:
        admitted = admit(method, raw_target, (1, 1), fields, "msctl-explain")
        target = admitted.target
        host = host_name(admitted.host)
        steps.extend(_passed_over(planner, method, host, target, fields))
        match = planner.route(method, admitted, fields)
        own = planner.own(method, admitted, fields)
    except ProblemError as error:
        steps.append(error.problem.detail)
        return outcome(error.problem.status)
    if own is not None:
        who = "It asks about the server as a whole" if target.asterisk else "Max-Forwards is 0"
        steps.append(f"{who}, so the gateway answers by itself: {own[0][1].decode()} are taken.")
        return outcome(200)
    route = match.rule.spec
    steps.append(f"{_described(match.rule)} takes it{_where(match)}.")
    if route.redirect is not None:
        steps.append(f"The gateway answers with a redirect ({route.redirect.status}).")
        return outcome(route.redirect.status, route)
    if route.compose is not None:
        steps.append(f"The gateway composes the answer of {', '.join(route.compose.branches.values())}.")
        return outcome(None, route)
    path = upstream_path(match.rule, target.path)
    if path != target.path:
        steps.append(f"The path is forwarded as {path}.")
    try:
        instance = targets.choose(route.service, planner.balance(match))
    except ProblemError as error:
        steps.append(error.problem.detail)
        return outcome(error.problem.status, route, path=path)
    steps.append(_choice(targets, route.service, instance.name, instance.upstream.address))
    return outcome(None, route, instance.name, path if target.query is None else f"{path}?{target.query}")


def _passed_over(planner: Planner, method: str, host: str, target: Target, fields: list[Field]) -> list[str]:
    """The routes that would have come first but want something that the request does not have."""
    said: list[str] = []
    for rule in planner.table.candidates(host, target.elements):
        if rule.takes(method, fields):
            break
        wants = []
        if rule.methods and method not in rule.methods:
            wants.append(f"takes {', '.join(sorted(rule.methods))} only")
        else:
            wants.append("wants " + " and ".join(f"{name.decode()}: {value}" for name, value in rule.headers))
        said.append(f"{_described(rule)} matches the path but {wants[0]}.")
    return said


def _described(rule: Rule) -> str:
    kind = "exact route" if rule.spec.exact else "route"
    return f"The {kind} {rule.spec.path}"


def _where(match: Match) -> str:
    if not match.variables:
        return ""
    return f" ({', '.join(f'{name} = {value}' for name, value in match.variables.items())})"


def _choice(targets: Targets, service: str, name: str, address: str) -> str:
    count = len(targets.instances(service))
    if count == 1:
        return f"{name} ({address}) is the only ready instance of {service}."
    return f"{name} ({address}) would be chosen now, of {count} ready instances of {service}."
