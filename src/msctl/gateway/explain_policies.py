"""What a route does besides forwarding, in sentences for `msctl route`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msctl.gateway.message.headers import Field
from msctl.gateway.policies.split import NEVER, asked
from msctl.model.route_policies import JwtSpec, StickySpec
from msctl.model.route_spec import RouteSpec


def access_steps(route: RouteSpec) -> Iterator[str]:
    """Say what a request needs to pass, in the order of the checks."""
    if route.api_key is not None:
        yield f"It requires an API key in {route.api_key.header}."
    if route.jwt is not None:
        yield f"It requires a bearer token, {_keys(route.jwt)}."
    if route.basic_auth is not None:
        yield f'It requires a user name and a password of "{route.basic_auth.realm}".'
    if route.rate_limit is not None:
        limit = route.rate_limit
        yield f"It allows {limit.requests} requests in {limit.period:g} s for each {limit.key.value}."
    if route.forward_auth is not None:
        asks = route.forward_auth.url or route.forward_auth.path
        yield f"{asks} is asked whether the request may pass."


def split_step(route: RouteSpec, fields: Sequence[Field]) -> tuple[str, str | None]:
    """Return the service that such a request is most likely to get, and why; None without a choice."""
    weights = {name: weight for name, weight in route.weights.items() if weight} or {route.service: 1}
    stable = max(weights, key=lambda name: weights[name])
    total = sum(weights.values())
    shares = ", ".join(f"{name} {weight / total:.3g}" for name, weight in weights.items())
    spread = f"The requests are spread by weight: {shares}." if len(weights) > 1 or route.weights else None
    canary = route.canary
    if canary is None:
        return stable, spread
    wanted = asked(canary, fields)
    if wanted:
        return canary.service, f"The request asks for the canary {canary.service}."
    if wanted is False:
        why = f'The request does not want the canary {canary.service}: it says "{NEVER}".'
    elif canary.share:
        why = f"The canary {canary.service} gets a share of {canary.share:.3g}."
    else:
        why = f"The request does not ask for the canary {canary.service}."
    return (canary.service if wanted is None and canary.share > 0.5 else stable), " ".join(
        filter(None, (why, spread))
    )


def traffic_steps(route: RouteSpec, sticky: StickySpec | None) -> Iterator[str]:
    """Say what chooses the instance, and what gets a copy."""
    if sticky is not None:
        if sticky.cookie is not None:
            yield f"The cookie {sticky.cookie} keeps a client at its instance."
        else:
            key = "client address" if sticky.header is None else f"field {sticky.header}"
            yield f"The {key} chooses the instance."
    if route.mirror is not None:
        yield f"{route.mirror.service} gets a copy of a share of {route.mirror.share:.3g}."


def _keys(spec: JwtSpec) -> str:
    if spec.jwks is not None:
        return f"signed with a key of {spec.jwks}"
    if spec.discovery:
        return f"signed with a key of {spec.issuer}"
    return f"signed with the key in ${spec.key_env}"
