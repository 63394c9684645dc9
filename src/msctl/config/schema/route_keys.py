"""The keys of a route, and of the tables within it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msctl.config.schema.network_values import (
    FIXED_PORT,
    HEADER_NAME,
    HEADER_NAMES,
    HEADERS,
    HOST,
    HOST_PATTERNS,
    METHODS,
    ORIGINS,
    ROUTE_METHODS,
    URL_PATH,
)
from msctl.config.schema.quantities import DURATION, POSITIVE_DURATION, SIZE, whole_seconds
from msctl.config.schema.route_policy_keys import (
    BASIC_AUTH,
    CANARY,
    FORWARD_AUTH,
    JWT,
    MIRROR,
    STATIC,
    STATIC_FILES,
    STICKY,
    WEIGHTS,
    check_basic_auth,
    check_canary,
    check_forward_auth,
    check_jwt,
    check_mirror,
    check_sticky,
)
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import (
    MismatchError,
    Type,
    choice,
    describe,
    items_of,
    list_of,
    one_of,
    read_each,
)
from msctl.config.schema.values import (
    BOOLEAN,
    POSITIVE,
    VARIABLE_NAME,
    integer,
)
from msctl.config.value_source import KeyRef
from msctl.model.route_spec import (
    OF_THE_CONNECTION,
    ApiKeySpec,
    ComposeSpec,
    CorsSpec,
    HeaderEdit,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.upstream_policy import Balance, FailureKind, UpstreamPolicy

RETRIES = Type("a whole number from 0 to 10", integer(0, 10))
POOL_SIZE = Type("a whole number from 1 to 65535", integer(1, 65535))
SECONDS = Type('a duration in whole seconds such as "10m"', whole_seconds)
STATUS = one_of(301, 302, 303, 307, 308)
SCHEME = one_of("http", "https")

FAILURE_KINDS = Type(
    "a list of failures, such as " + ", ".join(f'"{kind}"' for kind in FailureKind),
    list_of(choice(FailureKind)),
    lambda kinds: [str(kind) for kind in kinds],
)

POLICY = Table(
    "policy",
    UpstreamPolicy,
    on_reload(
        OnReload.LIVE,
        Key("connect_timeout", POSITIVE_DURATION, "Replaces the gateway's."),
        Key("response_timeout", DURATION, "Replaces the gateway's."),
        Key("idle_timeout", DURATION, "Replaces the gateway's."),
        Key("stream_idle_timeout", DURATION, "Replaces the gateway's."),
        Key("max_body", SIZE, "Replaces the gateway's."),
        Key("retries", RETRIES, "Replaces the gateway's."),
        Key("pool_size", POOL_SIZE, "Replaces the gateway's."),
        Key("balance", choice(Balance), "Replaces the gateway's."),
        Key("breaker_on", FAILURE_KINDS, "Replaces the gateway's."),
        Key(
            "sticky",
            table_type(STICKY, check_sticky),
            "Send the requests of a client to the same instance, as long as it is ready.",
        ),
    ),
)

ROUTE_POLICY = POLICY._replace(
    # The connections of an instance are shared by the routes that lead to it.
    keys=tuple(key for key in POLICY.keys if key.name != "pool_size")
)

HEADER_EDIT = Table(
    "request_headers",
    HeaderEdit,
    on_reload(
        OnReload.LIVE,
        Key("remove", HEADER_NAMES, "Fields to remove, first."),
        Key("set", HEADERS, "Fields to set, second."),
        Key("add", HEADERS, "Fields to add, last."),
    ),
)

REDIRECT = Table(
    "redirect",
    RedirectSpec,
    on_reload(
        OnReload.LIVE,
        Key("status", STATUS, "The status of the response."),
        Key("scheme", SCHEME, "Replaces the request's."),
        Key("host", HOST, "Replaces the request's."),
        Key("port", FIXED_PORT, "Replaces the request's."),
        Key("path", URL_PATH, "Replaces the whole path."),
        Key("prefix", URL_PATH, "Replaces the part that the route matched."),
    ),
)

CORS = Table(
    "cors",
    CorsSpec,
    on_reload(
        OnReload.LIVE,
        Key("origins", ORIGINS, "Origins that may call the route, or `*`."),
        Key("methods", METHODS, "Methods that they may use."),
        Key("headers", HEADER_NAMES, "Fields that they may send; if empty, all that they ask for."),
        Key("expose", HEADER_NAMES, "Response fields that they may read."),
        Key("credentials", BOOLEAN, "Whether they may send cookies."),
        Key("max_age", SECONDS, "How long a browser may cache the response to a preflight."),
    ),
)

API_KEY = Table(
    "api_key",
    ApiKeySpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "env",
            VARIABLE_NAME,
            "The variable with the keys: `name=key` pairs, or keys alone, separated by commas. A name has at "
            "most 20 letters, digits, `_`, `.` or `-`; a key has at least 16 bytes and may end with `=`.",
        ),
        Key("header", HEADER_NAME, "The field that carries the key."),
    ),
)

RATE_LIMIT = Table(
    "rate_limit",
    RateLimitSpec,
    on_reload(
        OnReload.LIVE,
        Key("requests", POSITIVE, "Requests allowed in each `period`."),
        Key("period", DURATION, "The length of the period."),
        Key("burst", POSITIVE, "Requests allowed at once; default: `requests`."),
        Key("key", choice(RateLimitKey), "Which requests are counted together."),
        Key("header", HEADER_NAME, 'The field that identifies a client, with `key = "header"`.'),
    ),
)

COMPOSE = Table(
    "compose",
    ComposeSpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "branches",
            HEADERS._replace(expected="a table of paths"),
            "The path of each member, routed by this gateway.",
        ),
        Key("timeout", POSITIVE_DURATION, "The time limit of each branch."),
    ),
)


def _compose(raw: object, ref: KeyRef) -> ComposeSpec:
    """Parse a composed route; the short form is the branches alone."""
    if not isinstance(raw, dict) or not raw:
        raise MismatchError
    if not isinstance(raw.get("branches"), dict):
        raw = {"branches": raw}
        branches = ref
    else:
        branches = ref / "branches"
    spec: ComposeSpec = COMPOSE.build(raw, ref)
    if not spec.branches:
        raise branches.error("a composed document needs a branch")
    for name, path in spec.branches.items():
        if not re.fullmatch(r"/[^\s#]*", path):
            raise (branches / name).error(f'expected a path that starts with "/", found {describe(path)}')
    return spec


def _check_edit(edit: HeaderEdit, own: Mapping[str, str]) -> str | None:
    """Return why an edit is refused; `own` are fields (lower case) that the gateway sets, and why."""
    for name in (*edit.remove, *edit.set, *edit.add):
        if name.lower() in OF_THE_CONNECTION:
            return f"{name} belongs to each connection and cannot be edited"
        if name.lower() in own:
            return f"{name} cannot be edited: {own[name.lower()]}"
    return None


def _check_request_edit(edit: HeaderEdit) -> str | None:
    own = "the gateway continues it for each attempt"
    return _check_edit(
        edit,
        {
            "host": "host_header of the service chooses it",
            "expect": "the service answers it as the client sent it",
            "x-request-id": "the gateway makes it or takes the client's",
            "traceparent": own,
        },
    )


def _check_response_edit(edit: HeaderEdit) -> str | None:
    return _check_edit(edit, {"x-request-id": "the gateway names the request in it"})


def _check_redirect(spec: RedirectSpec) -> str | None:
    if spec.path is not None and spec.prefix is not None:
        return "a redirect has either path or prefix, not both"
    if (spec.scheme, spec.host, spec.port, spec.path, spec.prefix) == (None,) * 5:
        return "a redirect needs a target: scheme, host, port, path or prefix"
    return None


def _check_rate_limit(spec: RateLimitSpec) -> str | None:
    if spec.period == 0:
        return "period must be greater than 0"
    if (spec.key is RateLimitKey.HEADER) != (spec.header is not None):
        return 'key = "header" needs header = "NAME", and the other way round'
    return None


def _check_cors(spec: CorsSpec) -> str | None:
    if not spec.origins:
        return "origins must not be empty"
    return 'credentials need exact origins, not "*"' if spec.credentials and "*" in spec.origins else None


ROUTE = Table(
    "services.NAME.routes",
    RouteSpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "path",
            URL_PATH,
            "The path and everything below it: `/users` matches `/users/1`, not `/userspace`.",
        ),
        Key("exact", BOOLEAN, "Match only the path itself."),
        Key("methods", ROUTE_METHODS, "Match only these methods."),
        Key("headers", HEADERS, "Match only requests with these fields and values."),
        Key("hosts", HOST_PATTERNS, "Match only these hosts; `*.example.com` matches every subdomain."),
        Key("strip_prefix", BOOLEAN, "Remove the matched path before the request is forwarded."),
        Key("rewrite", URL_PATH, "Replaces the matched path."),
        Key("redirect", table_type(REDIRECT, _check_redirect), "Respond with a redirect."),
        Key(
            "compose",
            Type("a table from member to path", _compose, COMPOSE.show_set, is_table=True),
            "Respond with one document composed of several services' responses.",
        ),
        Key(
            "request_headers",
            table_type(HEADER_EDIT, _check_request_edit),
            "Edits of the request's fields, but for Host and those of the connection.",
        ),
        Key(
            "response_headers",
            table_type(HEADER_EDIT, _check_response_edit),
            "Edits of the response's fields, but for those of the connection.",
        ),
        Key("cors", table_type(CORS, _check_cors), "Allow pages of other origins to call the route."),
        Key("api_key", table_type(API_KEY), "Require an API key."),
        Key("jwt", table_type(JWT, check_jwt), "Require a signed bearer token."),
        Key("basic_auth", table_type(BASIC_AUTH, check_basic_auth), "Require a user name and a password."),
        Key(
            "forward_auth",
            table_type(FORWARD_AUTH, check_forward_auth),
            "Ask another service whether a request may pass.",
        ),
        Key("rate_limit", table_type(RATE_LIMIT, _check_rate_limit), "Limit the rate of each client."),
        Key("weights", WEIGHTS, "Spread the requests over several services, by these parts."),
        Key("canary", table_type(CANARY, check_canary), "Send some of the requests to another service."),
        Key("mirror", table_type(MIRROR, check_mirror), "Send copies of requests to another service."),
        Key("static", STATIC_FILES, "Respond with the files of a folder."),
    ),
    inner=("policy", ROUTE_POLICY),
)

INNER_TABLES = (
    REDIRECT,
    COMPOSE,
    HEADER_EDIT,
    CORS,
    API_KEY,
    JWT,
    BASIC_AUTH,
    FORWARD_AUTH,
    RATE_LIMIT,
    CANARY,
    MIRROR,
    STATIC,
    STICKY,
)


_ALTERNATIVES = (
    ("strip_prefix", "rewrite", "redirect", "compose"),
    ("redirect", "compose", "static", "weights", "canary"),
    ("redirect", "compose", "static", "mirror"),
    ("rewrite", "static"),
)
"""Keys of which a route has one at most."""


def _routes(raw: object, ref: KeyRef) -> tuple[RouteSpec, ...]:
    return read_each(items_of(raw), ref, _route)


def _route(raw: object, ref: KeyRef) -> RouteSpec:
    service = str(ref.path[1])
    if isinstance(raw, str):
        return RouteSpec(path=URL_PATH.read(raw, ref), service=service)
    if isinstance(raw, dict) and "pool_size" in raw:
        raise (ref / "pool_size").error(
            "the routes of a service share its connections", hint="set pool_size in the service"
        )
    route: RouteSpec = ROUTE.build(raw, ref, service=service)
    for names in _ALTERNATIVES:
        ways = [name for name in names if getattr(route, name)]
        if len(ways) > 1:
            raise (ref / ways[1]).error(f"a route has either {ways[0]} or {ways[1]}, not both")
    _check_variables(route, ref / "compose")
    by_credential = route.rate_limit is not None and route.rate_limit.key is RateLimitKey.CREDENTIAL
    if by_credential and not (route.api_key or route.jwt or route.basic_auth):
        raise (ref / "rate_limit").error('key = "credential" needs api_key, jwt or basic_auth')
    return route


def _check_variables(route: RouteSpec, ref: KeyRef) -> None:
    """Raise ConfigError for a variable of a branch that the route's path has not."""
    if route.compose is None:
        return
    known = set(re.findall(r"/(\{[^{}/]*\})(?=/|$)", route.path))
    for name, path in route.compose.branches.items():
        for variable in re.findall(r"\{[^{}]*\}", path):
            if variable not in known:
                raise ref.error(f"branch {name}: the path of the route has no variable {variable}")


def _show(routes: tuple[RouteSpec, ...]) -> Any:
    tables = [ROUTE.show_set(route) for route in routes]
    return [table["path"] if list(table) == ["path"] else table for table in tables]


ROUTES = Type('a list of paths such as ["/orders"], or of tables with a "path"', _routes, _show)
