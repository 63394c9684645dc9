"""The keys of a route, and of the tables within it."""

from __future__ import annotations

import re
from typing import Any

from msctl.config.origin import Place
from msctl.config.schema.table import Key, OnReload, Section, on_reload, table_of
from msctl.config.schema.values import (
    BOOLEAN,
    DURATION,
    HEADER_NAME,
    HEADER_NAMES,
    HEADERS,
    HOST,
    HOST_PATTERNS,
    METHODS,
    ORIGINS,
    PORT,
    POSITIVE,
    SIZE,
    TEXT,
    URL_PATH,
    VARIABLE_NAME,
    MismatchError,
    Type,
    choice,
    describe,
    integer,
    items_of,
    list_of,
    one_of,
    whole_seconds,
)
from msctl.model.project import (
    ApiKeySpec,
    Balance,
    ComposeSpec,
    CorsSpec,
    HeaderEdit,
    JwtSpec,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
    UpstreamPolicy,
)

RETRIES = Type("a whole number from 0 to 10", integer(0, 10))
POOL_SIZE = Type("a whole number from 1 to 65535", integer(1, 65535))
SECONDS = Type('a duration in whole seconds such as "10m"', whole_seconds)
STATUS = one_of(301, 302, 303, 307, 308)
SCHEME = one_of("http", "https")
ALGORITHM = one_of(
    *(f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)), "EdDSA"
)

POLICY = Section(
    "policy",
    UpstreamPolicy,
    on_reload(
        OnReload.LIVE,
        Key("connect_timeout", DURATION, "In place of the gateway's own."),
        Key("response_timeout", DURATION, "In place of the gateway's own."),
        Key("idle_timeout", DURATION, "In place of the gateway's own."),
        Key("max_body", SIZE, "In place of the gateway's own."),
        Key("retries", RETRIES, "In place of the gateway's own."),
        Key("pool_size", POOL_SIZE, "In place of the gateway's own."),
        Key("balance", choice(Balance), "In place of the gateway's own."),
    ),
)

HEADER_EDIT = Section(
    "request_headers",
    HeaderEdit,
    on_reload(
        OnReload.LIVE,
        Key("remove", HEADER_NAMES, "Fields to take away, first."),
        Key("set", HEADERS, "Fields to replace, then."),
        Key("add", HEADERS, "Fields to append, last."),
    ),
)

REDIRECT = Section(
    "redirect",
    RedirectSpec,
    on_reload(
        OnReload.LIVE,
        Key("status", STATUS, "The status of the answer."),
        Key("scheme", SCHEME, "In place of the request's."),
        Key("host", HOST, "In place of the request's."),
        Key("port", PORT, "In place of the request's."),
        Key("path", URL_PATH, "In place of the whole path."),
        Key("prefix", URL_PATH, "In place of what the route matched."),
    ),
)

CORS = Section(
    "cors",
    CorsSpec,
    on_reload(
        OnReload.LIVE,
        Key("origins", ORIGINS, "Origins that may call the route, or `*`."),
        Key("methods", METHODS, "Methods that they may use."),
        Key("headers", HEADER_NAMES, "Fields that they may send; none named, all that they ask for."),
        Key("expose", HEADER_NAMES, "Fields of the answer that they may read."),
        Key("credentials", BOOLEAN, "Whether they may send cookies."),
        Key("max_age", SECONDS, "How long a browser may keep the answer to a preflight."),
    ),
)

API_KEY = Section(
    "api_key",
    ApiKeySpec,
    on_reload(
        OnReload.LIVE,
        Key("env", VARIABLE_NAME, "The variable that holds the keys, as `name=key` parted by commas."),
        Key("header", HEADER_NAME, "The field that a key comes in."),
    ),
)

JWT = Section(
    "jwt",
    JwtSpec,
    on_reload(
        OnReload.LIVE,
        Key("key_env", VARIABLE_NAME, "The variable that holds the secret, or the public key in PEM."),
        Key(
            "algorithms",
            Type("a list of algorithms", list_of(ALGORITHM), list),
            "Algorithms that are accepted.",
        ),
        Key("audience", TEXT, "The audience that a token must be for."),
        Key("issuer", TEXT, "The issuer that a token must be of."),
        Key("leeway", DURATION, "The difference of clocks that is forgiven."),
    ),
)

RATE_LIMIT = Section(
    "rate_limit",
    RateLimitSpec,
    on_reload(
        OnReload.LIVE,
        Key("requests", POSITIVE, "How many requests, in each `period`."),
        Key("period", DURATION, "The time that they are counted over."),
        Key("burst", POSITIVE, "How many at once; as many as `requests` without it."),
        Key("key", choice(RateLimitKey), "Whose requests are counted together."),
        Key("header", HEADER_NAME, 'The field that tells clients apart, with `key = "header"`.'),
    ),
)

COMPOSE = Section(
    "compose",
    ComposeSpec,
    on_reload(
        OnReload.LIVE,
        Key("branches", HEADERS._replace(expected="a table of paths"), "Each member's path, as routed here."),
        Key("timeout", DURATION, "For each branch."),
    ),
)


def _compose(raw: object, place: Place) -> ComposeSpec:
    """The short form is the branches alone."""
    if not isinstance(raw, dict) or not raw:
        raise MismatchError
    if not isinstance(raw.get("branches"), dict):
        raw = {"branches": raw}
        branches = place
    else:
        branches = place / "branches"
    spec: ComposeSpec = COMPOSE.build(raw, place)
    for name, path in spec.branches.items():
        if not re.fullmatch(r"/[^\s#]*", path):
            raise (branches / name).error(f'expected a path that starts with "/", found {describe(path)}')
    return spec


def _check_redirect(spec: RedirectSpec) -> str | None:
    if spec.path is not None and spec.prefix is not None:
        return "a redirect has either path or prefix, not both"
    if (spec.scheme, spec.host, spec.port, spec.path, spec.prefix) == (None,) * 5:
        return "a redirect needs where it goes: scheme, host, port, path or prefix"
    return None


def _check_rate_limit(spec: RateLimitSpec) -> str | None:
    if spec.period == 0:
        return "the period cannot be 0"
    if (spec.key is RateLimitKey.HEADER) != (spec.header is not None):
        return 'key = "header" and header = "NAME" go together'
    return None


def _check_cors(spec: CorsSpec) -> str | None:
    if not spec.origins:
        return "origins cannot be empty"
    return 'credentials need origins by name, not "*"' if spec.credentials and "*" in spec.origins else None


ROUTE = Section(
    "services.NAME.routes",
    RouteSpec,
    on_reload(
        OnReload.LIVE,
        Key("path", URL_PATH, "The path, and all below it: `/users` takes `/users/1`, not `/userspace`."),
        Key("exact", BOOLEAN, "The path alone, and nothing below it."),
        Key("methods", METHODS, "Only these methods."),
        Key("headers", HEADERS, "Only requests that have these fields with these values."),
        Key("hosts", HOST_PATTERNS, "Only requests for these hosts; `*.example.com` takes all below it."),
        Key("strip_prefix", BOOLEAN, "Take the matched path away before the service sees the request."),
        Key("rewrite", URL_PATH, "Put this in place of the matched path."),
        Key("redirect", table_of(REDIRECT, _check_redirect), "Answer with a redirect."),
        Key(
            "compose",
            Type("a table from member to path", _compose, COMPOSE.show_set, is_table=True),
            "Answer with one document made of several services' answers.",
        ),
        Key("request_headers", table_of(HEADER_EDIT), "Changes to the request's fields."),
        Key("response_headers", table_of(HEADER_EDIT), "Changes to the answer's fields."),
        Key("cors", table_of(CORS, _check_cors), "Lets pages of other origins call the route."),
        Key("api_key", table_of(API_KEY), "Wants a key."),
        Key("jwt", table_of(JWT), "Wants a signed bearer token."),
        Key("rate_limit", table_of(RATE_LIMIT, _check_rate_limit), "Limits each client."),
    ),
    inner=("policy", POLICY),
)

INNER_TABLES = (REDIRECT, COMPOSE, HEADER_EDIT, CORS, API_KEY, JWT, RATE_LIMIT)


def _routes(raw: object, place: Place) -> tuple[RouteSpec, ...]:
    return tuple(_route(item, place / index) for index, item in enumerate(items_of(raw)))


def _route(raw: object, place: Place) -> RouteSpec:
    service = str(place.path[1])
    if isinstance(raw, str):
        return RouteSpec(path=URL_PATH.read(raw, place), service=service)
    route: RouteSpec = ROUTE.build(raw, place, service=service)
    ways = [name for name in ("strip_prefix", "rewrite", "redirect", "compose") if getattr(route, name)]
    if len(ways) > 1:
        raise (place / ways[1]).error(f"a route has either {ways[0]} or {ways[1]}, not both")
    return route


def _show(routes: tuple[RouteSpec, ...]) -> Any:
    tables = [ROUTE.show_set(route) for route in routes]
    return [table["path"] if list(table) == ["path"] else table for table in tables]


ROUTES = Type('a list of paths such as ["/orders"], or of tables with a "path"', _routes, _show)
