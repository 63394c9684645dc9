"""The keys of the tables that say who may use a route, which service answers, and which files it serves."""

from __future__ import annotations

import re

from msctl.config.schema.network_values import (
    HEADER_NAME,
    HEADER_NAMES,
    HOST,
    URL_PATH,
)
from msctl.config.schema.program_values import FILE, file, folder
from msctl.config.schema.quantities import DURATION, SIZE, whole_seconds
from msctl.config.schema.table import Key, OnReload, Table, on_reload, table_type
from msctl.config.schema.value_type import MismatchError, Type, describe, list_of, one_of
from msctl.config.schema.values import (
    BOOLEAN,
    SHARE,
    TEXT,
    VARIABLE_NAME,
    integer,
    matching,
)
from msctl.config.value_source import KeyRef
from msctl.model.route_policies import (
    BasicAuthSpec,
    CanarySpec,
    ForwardAuthSpec,
    JwtSpec,
    MirrorSpec,
    StaticSpec,
    StickySpec,
    UpstreamTlsSpec,
)

MAX_WEIGHT = 1_000_000
MAX_BUFFERED = 16 * 1024 * 1024

ALGORITHM = one_of(
    *(f"{family}{bits}" for family in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)), "EdDSA"
)
SERVICE = Type("the name of a service", matching(r"[a-z][a-z0-9_-]*"))
COOKIE = Type("the name of a cookie", matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"))
FOLDER_TEXT = Type("a folder", lambda raw, ref: str(folder(raw, ref)))
FILE_TEXT = Type("the path of a file", lambda raw, ref: str(file(raw, ref)))
FILE_NAME = Type("the name of a file in the folder", matching(r"[^/\\\0.][^\\\0]*"))


def _http_url(raw: object, _ref: KeyRef) -> str:
    if not isinstance(raw, str) or not re.fullmatch(r"https?://[^\s@#]+", raw):
        raise MismatchError
    import urllib.parse

    try:
        parts = urllib.parse.urlsplit(raw)
        usable = parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise MismatchError
    return raw


HTTP_URL = Type('a URL such as "https://auth.example/keys"', _http_url)


def _weights(raw: object, ref: KeyRef) -> dict[str, int]:
    if not isinstance(raw, dict) or not raw:
        raise MismatchError
    weight = Type(f"a whole number from 0 to {MAX_WEIGHT}", integer(0, MAX_WEIGHT))
    found = {str(name): int(weight.read(value, ref / name)) for name, value in raw.items()}
    if not sum(found.values()):
        raise MismatchError("the weights sum to 0, so no service would get a request")
    return found


WEIGHTS = Type("a table from service to weight", _weights, dict, is_table=True)

JWT = Table(
    "jwt",
    JwtSpec,
    on_reload(
        OnReload.LIVE,
        Key(
            "key_env",
            VARIABLE_NAME,
            "The variable with the shared secret (at least 32, 48 or 64 bytes for HS256, HS384 or HS512), or "
            "with the public key in PEM.",
        ),
        Key("jwks", HTTP_URL, "The URL of the public keys (JWKS), beside the one in `key_env` or instead."),
        Key("discovery", BOOLEAN, "Ask the `issuer` for that URL (`/.well-known/openid-configuration`)."),
        Key(
            "refresh",
            DURATION,
            "How long fetched keys are used; a token with an unknown key asks sooner, at most every 10s (or "
            "`refresh`, if that is shorter).",
        ),
        Key(
            "algorithms",
            Type("a list of algorithms", list_of(ALGORITHM), list),
            "Algorithms that are accepted; default: HS256, or RS256 and ES256 for fetched keys.",
        ),
        Key("audience", TEXT, "The audience that a token must name."),
        Key("issuer", TEXT, "The issuer that a token must name; a URL, with `discovery`."),
        Key("leeway", DURATION, "The clock difference that is tolerated."),
    ),
)


def check_jwt(spec: JwtSpec) -> str | None:
    if spec.key_env is None and not spec.fetches_keys:
        return "a token needs a key: set key_env, jwks, or issuer and discovery"
    if spec.jwks is not None and spec.discovery:
        return "set either jwks or discovery, not both"
    if spec.discovery and not re.fullmatch(r"https?://[^\s?#]+", spec.issuer or ""):
        return 'discovery needs the URL of the issuer, such as issuer = "https://login.example"'
    if spec.key_env is None and all(name.startswith("HS") for name in spec.accepted):
        return "HS* needs the secret in key_env: keys that anyone can fetch are no secret"
    return None


BASIC_AUTH = Table(
    "basic_auth",
    BasicAuthSpec,
    on_reload(
        OnReload.LIVE,
        Key("file", FILE_TEXT, "A file with a line `user:hash` for each user, as `htpasswd` writes it."),
        Key("env", VARIABLE_NAME, "The variable with such lines, separated by line breaks or commas."),
        Key("realm", TEXT, "The name that browsers show when they ask."),
    ),
)


def check_basic_auth(spec: BasicAuthSpec) -> str | None:
    if (spec.file is None) == (spec.env is None):
        return "set either file or env"
    if re.search(r'[^ -~]|["\\]', spec.realm):
        return "a realm has printable ASCII characters without quotes and backslashes"
    return None


FORWARD_AUTH = Table(
    "forward_auth",
    ForwardAuthSpec,
    on_reload(
        OnReload.LIVE,
        Key("url", HTTP_URL, "The URL that is asked."),
        Key("path", URL_PATH, "Or the path that is asked, as this gateway routes it."),
        Key("timeout", DURATION, "The time limit of its answer; then the request gets 504."),
        Key("request_headers", HEADER_NAMES, "The fields that are sent to it; if empty, all."),
        Key(
            "response_headers",
            HEADER_NAMES,
            "Fields of its answer that the service gets; what the client sent under these names is removed.",
        ),
    ),
)


def check_forward_auth(spec: ForwardAuthSpec) -> str | None:
    if (spec.url is None) == (spec.path is None):
        return "set either url or path"
    return None if spec.timeout else "timeout must be greater than 0"


CANARY = Table(
    "canary",
    CanarySpec,
    on_reload(
        OnReload.LIVE,
        Key("service", SERVICE, "The service that gets them."),
        Key("share", SHARE, "The share of the requests that it gets."),
        Key(
            "header",
            HEADER_NAME,
            'The field that decides before the share: `value`, or "never" for the others.',
        ),
        Key("cookie", COOKIE, "The cookie that decides likewise, after the field."),
        Key("value", TEXT, "The value of the field or the cookie that asks for the canary."),
    ),
)


def check_canary(spec: CanarySpec) -> str | None:
    if not spec.share and spec.header is None and spec.cookie is None:
        return "a canary needs share, header or cookie"
    return None


MIRROR = Table(
    "mirror",
    MirrorSpec,
    on_reload(
        OnReload.LIVE,
        Key("service", SERVICE, "The service that gets the copies; its answers are dropped."),
        Key("share", SHARE, "The share of the requests that are copied."),
        Key("max_body", SIZE, "The longest body that is copied; requests with a longer one are not."),
    ),
)


def check_mirror(spec: MirrorSpec) -> str | None:
    return None if 0 < spec.max_body <= MAX_BUFFERED else "max_body must be from 1 to 16 MiB"


STICKY = Table(
    "sticky",
    StickySpec,
    on_reload(
        OnReload.LIVE,
        Key("cookie", COOKIE, "The cookie that the gateway sets, with which a client keeps its instance."),
        Key("header", HEADER_NAME, "The field whose value chooses the instance."),
        Key("client", BOOLEAN, "Whether the client's address chooses the instance."),
    ),
)


def check_sticky(spec: StickySpec) -> str | None:
    kinds = [spec.cookie is not None, spec.header is not None, spec.client]
    return None if sum(kinds) == 1 else "expected one of cookie, header and client"


STATIC = Table(
    "static",
    StaticSpec,
    on_reload(
        OnReload.LIVE,
        Key("root", FOLDER_TEXT, "The folder with the files."),
        Key("index", FILE_NAME, "The file that answers for a folder."),
        Key("fallback", FILE_NAME, "The file that answers where there is none: that of a single-page app."),
        Key(
            "max_age",
            Type('a duration in whole seconds such as "1h"', whole_seconds),
            "How long a browser may use a file without asking; default: it asks each time.",
        ),
        Key("precompressed", BOOLEAN, "Whether `FILE.br` and `FILE.gz` are sent for FILE to who takes them."),
    ),
)
_STATIC_TABLE = table_type(STATIC)


def _static(raw: object, ref: KeyRef) -> StaticSpec:
    """Parse static files; the short form is the folder alone."""
    if isinstance(raw, dict):
        spec: StaticSpec = _STATIC_TABLE.parse(raw, ref)
        return spec
    return StaticSpec(FOLDER_TEXT.parse(raw, ref))


def _show_static(spec: StaticSpec) -> object:
    table = STATIC.show_set(spec)
    return table["root"] if list(table) == ["root"] else table


STATIC_FILES = Type(
    "a folder, or a table of root, index, fallback, max_age, precompressed", _static, _show_static
)

UPSTREAM_TLS = Table(
    "services.NAME.tls",
    UpstreamTlsSpec,
    (
        Key("ca", FILE, "The authorities that are trusted instead of the system's (PEM)."),
        Key("verify", BOOLEAN, "Whether its certificate is verified."),
        Key("server_name", HOST, "The name that its certificate must have, instead of the URL's host."),
        Key("cert", FILE, "The certificate that the gateway shows to it (PEM, followed by its chain)."),
        Key("key", FILE, "That certificate's private key (PEM, not encrypted)."),
    ),
)


def check_upstream_tls(spec: UpstreamTlsSpec) -> str | None:
    if (spec.cert is None) != (spec.key is None):
        return "set both cert and key, or neither"
    if spec.ca is not None and not spec.verify:
        return "ca has no meaning with verify = false"
    return None


def service_urls(one: Type) -> Type:
    """The type of one URL or several, which are kept separated by commas."""

    def parse(raw: object, ref: KeyRef) -> str:
        if isinstance(raw, str):
            raw = [part.strip() for part in raw.split(",")] if "," in raw else raw
        if not isinstance(raw, list):
            return str(one.read(raw, ref))
        if not raw:
            raise MismatchError
        found = [str(one.read(item, ref / index)).rstrip("/") for index, item in enumerate(raw)]
        if len(set(found)) != len(found):
            raise MismatchError(f"the same URL twice in {describe(','.join(found))}")
        if len({url.partition("://")[0] for url in found}) > 1:
            raise MismatchError("the URLs of one service have one scheme")
        return ",".join(found)

    def show(value: str) -> object:
        return value.split(",") if "," in value else value

    return Type(f"{one.expected}, or a list of them", parse, show)
