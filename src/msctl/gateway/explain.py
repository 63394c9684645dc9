"""Explains which route, service and instance a request would take; behind `msctl route`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msctl.gateway.composition import COMPOSED_METHODS
from msctl.gateway.explain_policies import access_steps, split_step, traffic_steps
from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.message.target import Target
from msctl.gateway.policies.cors import preflight, preflight_for
from msctl.gateway.request.body import too_large
from msctl.gateway.request.plan import Planner
from msctl.gateway.request.validation import validate
from msctl.gateway.routing.compose import branch_targets
from msctl.gateway.routing.routes import Match, Rule, upstream_path
from msctl.gateway.upstream.instances import UpstreamInstances
from msctl.http.head_reader import HeadReader
from msctl.http.limits import limits_of
from msctl.http.parser import RequestParser
from msctl.http.static_files import StaticFiles
from msctl.model.address import host_name
from msctl.model.exchange import RequestError, RequestHead
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import RouteSpec
from msctl.model.routing import RouteExplanation

DEFAULT_HOST = "localhost"


def explain(
    planner: Planner,
    targets: UpstreamInstances,
    spec: GatewaySpec,
    method: str,
    raw_target: str,
    headers: Mapping[str, str],
) -> RouteExplanation:
    """Plan a request as the gateway would, without sending it."""
    steps: list[str] = []
    method = method.upper()

    def outcome(
        status: int | None,
        route: RouteSpec | None = None,
        instance: str | None = None,
        path: str | None = None,
        service: str | None = None,
    ) -> RouteExplanation:
        service = service or (route.service if route is not None and route.service else None)
        return RouteExplanation(method, raw_target, route, service, instance, path, status, tuple(steps))

    try:
        head = _received(spec, method, raw_target, headers)
        fields = [*head.fields]
        if head.target == spec.ready_path:
            steps.append("The gateway answers whether it is ready.")
            return outcome(200)
        validated = planner.validated(head)
        target = validated.target
        host = host_name(validated.host)
        planner.check_host(validated)
        if head.target == spec.openapi:
            steps.append("The gateway answers with the OpenAPI document of all services, to GET and HEAD.")
            return outcome(200 if method in ("GET", "HEAD") else 405)
        steps.extend(_skipped(planner, method, host, target, fields))
        match = planner.route(method, validated, fields)
        planner.check_page(method, validated, match, fields)
        own = planner.gateway_response(method, validated, fields)
    except RequestError as error:
        steps.append(error.detail)
        return outcome(error.status)
    except ProblemError as error:
        steps.append(error.problem.detail)
        return outcome(error.problem.status)
    if own is not None:
        why = "The request is about the server as a whole" if target.asterisk else "Max-Forwards is 0"
        steps.append(f"{why}, so the gateway answers it. Allowed methods: {own[0][1].decode()}.")
        return outcome(200)
    route = match.rule.spec
    steps.append(f"{_described(match.rule)} matches{_variables(match)}.")
    if route.cors is not None and preflight_for(method, fields) is not None:
        allowed = any(name == b"Access-Control-Allow-Origin" for name, _ in preflight(route.cors, fields))
        steps.append(f"The gateway answers the preflight; the origin is {'' if allowed else 'not '}allowed.")
        return outcome(204, route)
    steps.extend(access_steps(route))
    asked = route.forward_auth
    if asked is not None and asked.path is not None and (lost := _lost(planner, asked.path, fields)):
        steps.append(lost)
        return outcome(502, route)
    if route.redirect is not None:
        steps.append(f"The gateway responds with a redirect ({route.redirect.status}).")
        return outcome(route.redirect.status, route)
    if route.compose is not None:
        if method not in ("GET", "HEAD"):
            steps.append(COMPOSED_METHODS)
            return outcome(405, route)
        steps.append(f"The gateway composes one document from {', '.join(route.compose.branches.values())}.")
        branches = branch_targets(route.compose, match.variables).values()
        steps.extend(lost for branch in branches if (lost := _lost(planner, branch, fields)))
        return outcome(None, route)
    path = upstream_path(match.rule, target.path)
    if path != target.path:
        steps.append(f"The path is forwarded as {path}.")
    if route.static is not None:
        status, why = StaticFiles(route.static).explain(
            method, path, path if route.exact else target.path, fields
        )
        steps.append(why)
        return outcome(status, route, path=path)
    settings = planner.settings_of(match)
    limit, length = settings.limits.max_body, validated.facts.length
    if limit and length is not None and length > limit:
        steps.append(too_large(limit))
        return outcome(413, route, path=path)
    service, spread = split_step(route, fields)
    if spread is not None:
        steps.append(spread)
    traffic = settings.traffic
    steps.extend(traffic_steps(route, None if traffic is None else traffic.sticky))
    affinity = None if traffic is None else traffic.affinity(fields, "127.0.0.1", "http")
    try:
        instance = targets.choose(service, settings.balance, affinity=affinity)
    except ProblemError as error:
        steps.append(error.problem.detail)
        return outcome(error.problem.status, route, path=path, service=service)
    where, origin = instance.upstream.address, instance.endpoint.origin
    steps.append(_choice(targets, service, instance.name, f"{where}, found in {origin}" if origin else where))
    forwarded = path if target.query is None else f"{path}?{target.query}"
    return outcome(None, route, instance.name, forwarded, service)


def _received(spec: GatewaySpec, method: str, target: str, headers: Mapping[str, str]) -> RequestHead:
    """Return the head of such a request, as the listener reads it; raises RequestError."""
    fields = dict(headers)
    if not any(name.lower() == "host" for name in fields):
        fields["Host"] = DEFAULT_HOST
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise RequestError(400, "The target or a header field has a line end.")
    parser = RequestParser(HeadReader(limits_of(spec)))
    parser.feed("\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape"))
    head = parser.next_head()
    if head is None:
        raise RequestError(400, "The request line is empty.")
    return head


def _lost(planner: Planner, target: str, fields: Sequence[Field]) -> str | None:
    """Say why the gateway's own GET of `target` leads to no service; None if it leads to one."""
    try:
        planner.route("GET", validate("GET", target, (1, 1), fields, "msctl-explain"), fields)
    except ProblemError as error:
        return error.problem.detail
    return None


def _skipped(planner: Planner, method: str, host: str, target: Target, fields: list[Field]) -> list[str]:
    """Describe the routes with higher precedence whose method or headers do not match."""
    steps: list[str] = []
    chosen = planner.table.find(method, host, target.elements, fields)
    for rule in planner.table.candidates(host, target.elements):
        if rule is chosen:
            break
        if rule.methods and method not in rule.methods:
            condition = f"allows only {', '.join(sorted(rule.methods))}"
        else:
            wanted = " and ".join(f"{name.decode()}: {value}" for name, value in rule.headers)
            condition = f"requires {wanted}"
        steps.append(f"{_described(rule)} matches the path but {condition}.")
    return steps


def _described(rule: Rule) -> str:
    kind = "exact route" if rule.spec.exact else "route"
    return f"The {kind} {rule.spec.path}"


def _variables(match: Match) -> str:
    if not match.variables:
        return ""
    return f" ({', '.join(f'{name} = {value}' for name, value in match.variables.items())})"


def _choice(targets: UpstreamInstances, service: str, name: str, address: str) -> str:
    count = len(targets.instances(service))
    if count == 1:
        return f"{name} ({address}) is the only ready instance of {service}."
    return f"{name} ({address}) would be chosen now, out of {count} ready instances of {service}."
