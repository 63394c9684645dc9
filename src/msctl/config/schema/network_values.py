"""The types of what is on the network: hosts, ports, URLs, and the parts of an HTTP message."""

from __future__ import annotations

import re

from msctl.config.schema.value_type import MismatchError, Type, describe, list_of
from msctl.config.schema.values import integer, matching, text, word
from msctl.config.value_source import KeyRef
from msctl.errors import ConfigError
from msctl.hints import did_you_mean
from msctl.model.http_methods import METHOD_NAMES

_HOST = r"[A-Za-z0-9._:%-]+"
_HOST_PATTERN = r"(?:\*\.)?[A-Za-z0-9._:-]+"
_ORIGIN = r"\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:-]+"
_SERVICE_URL = r"(?:srv\+)?https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?/?"
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_METHOD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
HIGHEST_PORT = 65535


def headers(raw: object, ref: KeyRef) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise MismatchError
    for name in raw:
        if not re.fullmatch(_METHOD, name):
            raise (ref / name).error("expected the name of a header")
    found = {name: word(value, ref / name) for name, value in raw.items()}
    for name, value in found.items():
        if _CONTROL.search(value):
            raise (ref / name).error("expected a value without line ends and control characters")
    return found


def _method(raw: object, ref: KeyRef) -> str:
    name = text(raw, ref).upper()
    if name not in METHOD_NAMES:
        raise MismatchError(hint=did_you_mean(name, METHOD_NAMES))
    return name


def url_path(raw: object, ref: KeyRef) -> str:
    value = text(raw, ref)
    if not value.startswith("/"):
        hint = f'write "/{value}"' if re.fullmatch(r"[\w.~/-]+", value) else None
        raise MismatchError(f'expected a path that starts with "/", found {describe(raw)}', hint=hint)
    if re.search(r"[\s?#\x00-\x1f]", value):
        raise MismatchError(f"expected a path without space, query or fragment, found {describe(raw)}")
    path = value if value.isascii() and "%" not in value else _normal_path(value)
    if {".", ".."} & set(path.split("/")):
        raise MismatchError(f'expected a path without "." and ".." elements, found {describe(raw)}')
    return path


def _normal_path(path: str) -> str:
    """Return a path in the spelling in which requests are matched (RFC 3986 §6.2.2).

    Characters beyond ASCII are escaped, as clients send them, escapes have capital letters, and unreserved
    characters have none. The names of variables stay as they are.
    """
    import urllib.parse

    if re.search(r"%(?![0-9A-Fa-f]{2})", path):
        raise MismatchError(
            f'expected two hex digits after each "%" of a path, found {describe(path)}',
            hint="write %25 for a percent sign",
        )
    printable = "".join(map(chr, range(33, 127)))

    def unreserved(match: re.Match[str]) -> str:
        char = chr(int(match[0][1:], 16))
        return char if re.fullmatch(r"[A-Za-z0-9._~-]", char) else match[0].upper()

    def normal(element: str) -> str:
        if element.startswith("{") and element.endswith("}"):
            return element
        return re.sub(r"%[0-9A-Fa-f]{2}", unreserved, urllib.parse.quote(element, safe=printable))

    return "/".join(map(normal, path.split("/")))


def amqp_url(raw: object, ref: KeyRef) -> str:
    """Parse the URL of a broker; a password that is not percent-encoded becomes so."""
    from msctl.model.broker_url import parse_url

    try:
        return parse_url(text(raw, ref)).text
    except ConfigError as error:
        raise MismatchError(error.message, is_redacted=True) from None


def registry_url(raw: object, ref: KeyRef) -> str:
    from msctl.model.registry_url import parse_registry_url

    try:
        return parse_registry_url(text(raw, ref)).text
    except ConfigError as error:
        raise MismatchError(error.message, is_redacted=True) from None


def service_url(raw: object, ref: KeyRef) -> str:
    import urllib.parse

    value = text(raw, ref)
    try:
        usable = re.fullmatch(_SERVICE_URL, value) and urllib.parse.urlsplit(value).port != 0
    except ValueError:
        usable = False
    if not usable:
        message = f'expected {SERVICE_URL.expected}, found "{without_password(value)}"'
        raise MismatchError(message, hint=_hint_for_url(value))
    return value


def _hint_for_url(value: str) -> str | None:
    """Say how to write a URL with a path, or one without a scheme."""
    found = re.fullmatch(r"([a-z+]+://[^/?#]*)(/[\w.~/-]+)", value)
    if found and re.fullmatch(_SERVICE_URL, found[1]):
        return f'write "{found[1]}" here, and rewrite = "{found[2]}" in its routes'
    if "://" not in value and re.fullmatch(_SERVICE_URL, f"http://{value}"):
        return f'write "http://{value}"'
    return None


def optional_path(raw: object, ref: KeyRef) -> str | None:
    return None if raw == "" else url_path(raw, ref)


def host_pattern(raw: object, ref: KeyRef) -> str:
    value: str = matching(_HOST_PATTERN)(raw, ref)
    if re.fullmatch(r"[^:]*:[0-9]*", value):
        raise MismatchError(
            f"expected a host without a port, found {describe(raw)}", hint="hosts match whatever the port"
        )
    return value


def network(raw: object, ref: KeyRef) -> str:
    import ipaddress

    value = text(raw, ref)
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise MismatchError from None
    return value


def without_password(url: str) -> str:
    """`url` with `***` for its password; what has none is unchanged."""
    return re.sub(r"(?<=://)([^\s/?#]*?):[^\s/?#]*@", r"\1:***@", url, count=1)


PORT = Type(f"a port from 0 to {HIGHEST_PORT}", integer(0, HIGHEST_PORT))
HOST = Type("a host name or an IP address", matching(_HOST))
FIXED_PORT = Type(f"a port from 1 to {HIGHEST_PORT}", integer(1, HIGHEST_PORT))
HEADERS = Type("a table of header names and values", headers, dict, is_table=True)
URL_PATH = Type('a path that starts with "/"', url_path)
SERVICE_URL = Type('a URL such as "http://127.0.0.1:8081", without a path', service_url)
AMQP_URL = Type('a URL such as "amqp://guest:guest@localhost:5672/"', amqp_url)
REGISTRY_URL = Type('a URL such as "etcd://host:2379" or "consul://host:8500"', registry_url)
SCHEME = Type('the scheme of a URL, such as "redis"', matching(r"[a-z][a-z0-9+.-]*"))
HEADER_FIELDS = Type("a whole number from 16 to 10000", integer(16, 10_000))
OPTIONAL_PATH = Type(
    'a path that starts with "/", or an empty string', optional_path, lambda value: value or ""
)
HEADER_NAME = Type("the name of a header", matching(_METHOD))
HEADER_NAMES = Type("a list of header names", list_of(HEADER_NAME), list)
NETWORKS = Type(
    "a list of addresses or networks",
    list_of(Type('an address or a network such as "10.0.0.0/8"', network)),
    list,
)
ORIGINS = Type(
    "a list of origins",
    list_of(Type('an origin such as "https://app.example", or "*"', matching(_ORIGIN))),
    list,
)
ROUTE_METHODS = Type(
    'a list of methods such as ["GET", "POST"]', list_of(Type("the name of a method of HTTP", _method)), list
)
METHODS = Type(
    'a list of methods such as ["GET", "POST"]',
    list_of(Type("the name of a method", lambda raw, ref: matching(_METHOD)(raw, ref).upper())),
    list,
)
HOST_PATTERN = Type('a host name, which may begin with "*."', host_pattern)
HOST_PATTERNS = Type("a list of host names", list_of(HOST_PATTERN), list)
GATEWAY_HOSTS = Type(
    "a list of host names",
    list_of(
        Type(
            'a host name, which may begin with "*.", or "*"',
            lambda raw, ref: "*" if raw == "*" else host_pattern(raw, ref),
        )
    ),
    list,
)
