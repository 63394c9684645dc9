"""The fields of requests and responses: what nginx sends to a service, and adds to its answers.

nginx inherits all proxy_set_header and add_header directives of the level above, or none. So a location with
one of its own repeats them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msctl.export.proxies.nginx.syntax import OWN, header_variable, value
from msctl.export.proxies.nginx.targets import Target
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_spec import CorsSpec, HeaderEdit

_IDENTITY = (
    *("Forwarded", "X-Real-IP", "X-Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "X-Rewrite-URL"),
    *("X-Forwarded", "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-User"),
    *("X-Forwarded-Method", "X-Forwarded-Uri", "X-Original-URL", "X-Original-Host", "X-Original-Method"),
    *("X-Original-Forwarded-For",),
)
"""Fields about the client or its request that go on only from trusted peers. nginx drops those with
underscores."""

_PREFIX = "X-Forwarded-Prefix"

Field = tuple[str, str]
"""A field's name, and its value as it is written in the file."""


def trust_maps(gateway: GatewaySpec) -> Iterator[str]:
    """The variables of what a request says about its client."""
    peers = gateway.trusted_peers
    if not peers:
        return
    yield ""
    yield f"geo $realip_remote_addr ${OWN}trusted {{"
    yield "    default '';"
    for peer in peers:
        yield f"    {peer} 1;"
    yield "}"
    peer = "$realip_remote_addr"
    yield from _trusted("X-Forwarded-For", f"${OWN}said_0, {peer}", peer, 0)
    yield from _trusted("X-Forwarded-Proto", f"${OWN}said_1", "$scheme", 1)
    yield from _trusted("X-Forwarded-Host", f"${OWN}said_2", "$http_host", 2)
    for number, name in enumerate((*_IDENTITY, _PREFIX), 3):
        yield from _trusted(name, f"${OWN}said_{number}", "''", number)


def _trusted(name: str, said: str, otherwise: str, number: int) -> Iterator[str]:
    variable = header_variable(name)
    yield ""
    yield f'map "${OWN}trusted{variable}" {_told_variable(name)} {{'
    yield f'    "~^1(?<{OWN}said_{number}>.+)$" "{said}";'
    yield f"    default {otherwise};"
    yield "}"


def _told_variable(name: str) -> str:
    """Return the variable of what services are told in a field about the client."""
    return header_variable(name).replace("$http_", f"${OWN}")


def trust_lines(gateway: GatewaySpec) -> Iterator[str]:
    """The lines that make $remote_addr the client's address, as trusted peers report it."""
    if gateway.trusted_peers:
        yield from (f"set_real_ip_from {peer};" for peer in gateway.trusted_peers)
        yield "real_ip_header X-Forwarded-For;"


def request_fields(gateway: GatewaySpec, host: str = "$http_host") -> list[Field]:
    """Return the fields of every forwarded request; an empty value removes a field."""

    def told(name: str, otherwise: str) -> Field:
        if not gateway.trusted_peers:
            return name, otherwise
        return name, _told_variable(name)

    return [
        ("Host", host),
        ("Connection", f"${OWN}connection"),
        ("Upgrade", "$http_upgrade"),
        ("X-Request-Id", f"${OWN}request_id"),
        told("X-Forwarded-For", "$remote_addr"),
        told("X-Forwarded-Proto", "$scheme"),
        told("X-Forwarded-Host", "$http_host"),
        (_PREFIX, f"{received_prefix(gateway)}${OWN}prefix"),
        *(told(name, '""') for name in _IDENTITY),
    ]


def received_prefix(gateway: GatewaySpec) -> str:
    """Return the prefix that a trusted peer has stripped, as it is written in the file."""
    return _told_variable(_PREFIX) if gateway.trusted_peers else ""


def edited(fields: Iterable[Field], edit: HeaderEdit) -> list[Field]:
    """Return the fields with a route's changes: removed, set, added."""
    found = list(fields)
    gone = [*edit.remove, *edit.set]
    lower = {name.lower() for name in gone}
    found = [field for field in found if field[0].lower() not in lower]
    found += [(name, '""') for name in edit.remove if name.lower() not in {one.lower() for one in edit.set}]
    found += [(name, value(text)) for name, text in edit.set.items()]
    for name, text in edit.add.items():
        if name.lower() not in {field[0].lower() for field in found}:
            found.append((name, header_variable(name)))
        found.append((name, value(text)))
    return found


def replaced(fields: Iterable[Field], own: Sequence[Field]) -> list[Field]:
    """Return the fields with some of them replaced."""
    names = {name.lower() for name, _ in own}
    return [*(field for field in fields if field[0].lower() not in names), *own]


def proxy_lines(fields: Iterable[Field]) -> Iterator[str]:
    return (f"proxy_set_header {name} {text};" for name, text in fields)


REQUEST_ID = f"add_header X-Request-Id ${OWN}request_id always;"
ERROR_FIELDS = (
    REQUEST_ID,
    f"add_header Access-Control-Allow-Origin ${OWN}error_origin always;",
    f"add_header Access-Control-Allow-Credentials ${OWN}error_credentials always;",
    f"add_header Vary ${OWN}error_vary always;",
)
"""Fields of what nginx answers itself: a page reads a 401 only if its origin is allowed."""
_CORS_FIELDS = (
    *("Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Allow-Methods"),
    *("Access-Control-Allow-Headers", "Access-Control-Expose-Headers", "Access-Control-Max-Age"),
)


def _told_to_errors(number: int, cors: CorsSpec) -> Iterator[str]:
    yield f"set ${OWN}error_origin ${OWN}origin_{number};"
    if cors.credentials:
        yield f"set ${OWN}error_credentials ${OWN}credentials_{number};"
    if "*" not in cors.origins:
        yield f"set ${OWN}error_vary Origin;"


def response_lines(target: Target, tie: int | None, more: Sequence[str] = ()) -> Iterator[str]:
    """The lines for the fields of a response of this route; `more` are further ones to add."""
    route = target.route
    hidden: list[str] = []
    added: list[str] = list(more)
    if not target.is_gateway:
        edit = route.response_headers
        if edit is not None:
            hidden += [*edit.remove, *edit.set]
            added += [
                f"add_header {name} {value(text)} always;"
                for table in (edit.set, edit.add)
                for name, text in table.items()
            ]
        if route.cors is not None:
            yield from _told_to_errors(target.number, route.cors)
            hidden += _CORS_FIELDS
            number = target.number
            added.append(f"add_header Access-Control-Allow-Origin ${OWN}origin_{number} always;")
            if route.cors.credentials:
                added.append(
                    f"add_header Access-Control-Allow-Credentials ${OWN}credentials_{number} always;"
                )
            if route.cors.expose:
                added.append(f"add_header Access-Control-Expose-Headers ${OWN}expose_{number} always;")
            if "*" not in route.cors.origins:
                added.append("add_header Vary Origin always;")
        if tie is not None:
            added.append(f"add_header Set-Cookie ${OWN}tie_cookie_{tie} always;")
    if hidden:
        yield from (f"proxy_hide_header {name};" for name in ("X-Request-Id", *hidden))
    if added:
        yield from (REQUEST_ID, *added)
