"""The maps that part the requests of a route: canaries, copies, and the variants of its location."""

from __future__ import annotations

from collections.abc import Iterator

from msctl.export.kind import Notice
from msctl.export.proxies.nginx.groups import Groups, cookie_regex
from msctl.export.proxies.nginx.syntax import OWN, at_most, header_variable, literal_regex, share
from msctl.export.proxies.nginx.targets import Target
from msctl.gateway.policies.split import NEVER

_HUNDREDTHS = 10_000


def canary_maps(target: Target, groups: Groups) -> Iterator[str]:
    """Map a request to its group: what it asks for, its field first, else by chance."""
    if target.canary is None or target.group is None:
        return
    spec, forced, by_chance = target.canary
    number, stable = target.number, target.group.name
    otherwise = stable
    if spec.share:
        otherwise = f"${OWN}chance_{number}"
        yield ""
        yield f'split_clients "{groups.split_key(target.sticky)}" {otherwise} {{'
        yield f"    {share(spec.share)} {by_chance.name};"
        yield f"    * {stable};"
        yield "}"
    wanted = literal_regex(spec.value)
    if spec.cookie is not None:
        regex = cookie_regex(spec.cookie)
        yield ""
        yield f"map $http_cookie ${OWN}by_cookie_{number} {{"
        yield f'    "~{regex}{wanted}\\"?[ ]*(?:;|$)" {forced.name};'
        yield f'    "~{regex}{NEVER}\\"?[ ]*(?:;|$)" {stable};'
        yield f"    default {otherwise};"
        yield "}"
        otherwise = f"${OWN}by_cookie_{number}"
    source = header_variable(spec.header) if spec.header is not None else "1"
    yield ""
    yield f"map {source} {group_variable(target)} {{"
    if spec.header is not None:
        yield f'    "~^{wanted}$" {forced.name};'
        yield f'    "~^{NEVER}$" {stable};'
    yield f"    default {otherwise};"
    yield "}"


def group_variable(target: Target) -> str:
    return f"${OWN}group_{target.number}"


def variant_map(target: Target) -> Iterator[str]:
    """Map a request to the end of the name of its location."""
    if not target.variants:
        return
    number, mirror = target.number, target.route.mirror
    otherwise = "plain"
    if mirror is not None and target.mirror is not None:
        copied = "1"
        if mirror.share < 1:
            copied = f"${OWN}copied_{number}"
            yield ""
            yield f'split_clients "copy $request_id" {copied} {{'
            yield from ((f"    {share(mirror.share)} 1;",) if mirror.share else ())
            yield "    * 0;"
            yield "}"
        otherwise = f"${OWN}copy_{number}"
        yield ""
        yield f'map "$http_upgrade:$http_transfer_encoding:$content_length:{copied}" {otherwise} {{'
        yield f'    "~^::{at_most(mirror.max_body)}:1$" copied;'
        yield "    default plain;"
        yield "}"
    has_cors = target.route.cors is not None
    source = f'"${OWN}preflight:${OWN}origin_{number}"' if has_cors else "1"
    yield ""
    yield f"map {source} ${OWN}variant_{number} {{"
    if has_cors:
        yield '    "~^1:." preflight;'
        yield '    "~^1:" foreign;'
    yield f"    default {otherwise};"
    yield "}"


def traffic_differences(target: Target) -> Iterator[Notice]:
    key = f"services.{target.route.service}.routes"
    if target.canary is not None:
        if _is_rounded(target.canary.spec.share):
            yield Notice(f"{key}.canary.share", "nginx knows hundredths of a percent: it is rounded")
        if target.sticky is not None and target.canary.by_chance.target.more:
            yield Notice(f"{key}.sticky", "nginx ties no client to one of several instances of a canary")
    mirror = target.route.mirror
    if mirror is not None and target.mirror is not None:
        yield Notice(
            f"{key}.mirror", "nginx answers the next request of a connection after the copy's answer"
        )
        if _is_rounded(mirror.share):
            yield Notice(f"{key}.mirror.share", "nginx knows hundredths of a percent: it is rounded")


def _is_rounded(part: float) -> bool:
    return abs(part * _HUNDREDTHS - round(part * _HUNDREDTHS)) > 1e-6 or 0 < part < 1 / _HUNDREDTHS
