"""The types of msctl.toml's values: how each is parsed and written back.

A value comes from TOML, or as a string from a variable or a flag; every type accepts both.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path

from msctl.config.project_name import is_project_name
from msctl.config.schema.value_type import MismatchError, Type, describe, items_of, list_of
from msctl.config.value_source import KeyRef
from msctl.errors import ConfigError
from msctl.hints import did_you_mean
from msctl.model.services import MAX_REPLICAS
from msctl.model.snapshots import Durability
from msctl.secret import Secret

# Patterns are compiled on first use: every start imports this module.
_DURATION = r"(?:(?P<value>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h)?)"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_SIZE = r"(?P<value>\d+(?:\.\d+)?)\s*(?P<unit>[A-Za-z]*)"
_BYTES = {
    "": 1,
    "b": 1,
    **{
        unit: 1024**power
        for power, units in enumerate(("k kib", "m mib", "g gib"), 1)
        for unit in units.split()
    },
    **{unit: 1000**power for power, unit in enumerate(("kb", "mb", "gb"), 1)},
}
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_APP = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_HOST = r"[A-Za-z0-9._:%-]+"
_HOST_PATTERN = r"(?:\*\.)?[A-Za-z0-9._:-]+"
_ORIGIN = r"\*|[a-z][a-z0-9+.-]*://[A-Za-z0-9.\[\]:-]+"
_SERVICE_URL = r"(?:srv\+)?https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]+)?/?"
_IMAGE = r"[a-z0-9][A-Za-z0-9._/:@-]*"
_METHOD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"

HIGHEST_PORT = 65535


def text(raw: object, _ref: KeyRef) -> str:
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise MismatchError
    return raw


def project_name(raw: object, ref: KeyRef) -> str:
    value = text(raw, ref)
    if not is_project_name(value):
        raise MismatchError
    return value


def matching(regex: str) -> Callable[[object, KeyRef], str]:
    def parse(raw: object, ref: KeyRef) -> str:
        value = text(raw, ref)
        if not re.fullmatch(regex, value):
            raise MismatchError
        return value

    return parse


def boolean(raw: object, _ref: KeyRef) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in _TRUE | _FALSE:
        return raw.lower() in _TRUE
    raise MismatchError


def durability(raw: object, _ref: KeyRef) -> Durability:
    if raw is False or (isinstance(raw, str) and raw.lower() in _FALSE):
        return Durability.NONE
    if raw not in (Durability.PROCESS.value, Durability.DISK.value):
        raise MismatchError
    return Durability(raw)


def show_durability(value: Durability) -> object:
    return False if value is Durability.NONE else value.value


def integer(low: int, high: int) -> Callable[[object, KeyRef], int]:
    def parse(raw: object, _ref: KeyRef) -> int:
        if isinstance(raw, str) and re.fullmatch(r"[+-]?[0-9]{1,18}", raw):
            raw = int(raw)
        if not isinstance(raw, int) or isinstance(raw, bool) or not low <= raw <= high:
            raise MismatchError
        return raw

    return parse


def duration(raw: object, _ref: KeyRef) -> float:
    return seconds_of(raw)


def seconds_of(raw: object) -> float:
    """Parse seconds: a number, or `"500ms"`, `"10s"`, `"2m"`, `"1h"`, `"1m30s"`."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        if not math.isfinite(raw) or raw < 0:
            raise MismatchError
        return float(raw)
    if not isinstance(raw, str):
        raise MismatchError
    seconds, pos, value = 0.0, 0, raw.strip()
    while pos < len(value) or not value:
        match = re.compile(_DURATION).match(value, pos)
        if match is None or (match["unit"] is None and match.group() != value):
            raise MismatchError
        seconds += float(match["value"]) * _SECONDS[match["unit"]]
        pos = match.end()
    if not math.isfinite(seconds):
        raise MismatchError
    return seconds


def show_duration(seconds: float) -> str:
    """The shortest exact spelling: 10.0 → `10s`, 0.5 → `500ms`, 120.0 → `2m`."""
    if seconds >= 60 and seconds % 60 == 0:
        return f"{int(seconds) // 60}m"
    if seconds == int(seconds):
        return f"{int(seconds)}s"
    millis = round(seconds * 1000)
    return f"{millis}ms" if millis / 1000 == seconds else f"{seconds:.12f}".rstrip("0") + "s"


def size(raw: object, _ref: KeyRef) -> int:
    """Parse bytes: a number, or `"64KiB"`, `"16MiB"`, `"1GB"`; `K`, `M`, `G` alone are powers of 1024."""
    if isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0:
        return raw
    if not isinstance(raw, str):
        raise MismatchError
    match = re.fullmatch(_SIZE, raw.strip())
    if match is None or match["unit"].lower() not in _BYTES:
        raise MismatchError
    value = float(match["value"]) * _BYTES[match["unit"].lower()]
    if not math.isfinite(value) or value != int(value):
        raise MismatchError
    return int(value)


def size_between(low: int, high: int) -> Callable[[object, KeyRef], int]:
    def parse(raw: object, ref: KeyRef) -> int:
        value = size(raw, ref)
        if not low <= value <= high:
            raise MismatchError
        return value

    return parse


def show_size(value: int) -> object:
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value and value % factor == 0:
            return f"{value // factor}{unit}"
    return value


def command(raw: object, ref: KeyRef) -> tuple[str, ...]:
    """Parse argv: a list, or a string split into words as a shell does (no shell runs it)."""
    if isinstance(raw, list):
        argv = [_word(item, ref / index) for index, item in enumerate(raw)]
    elif isinstance(raw, str):
        import shlex

        try:
            argv = shlex.split(raw)
        except ValueError as error:
            reason = str(error).lower()
            raise MismatchError(f"cannot be split into words: {reason} in {describe(raw)}") from None
    else:
        raise MismatchError
    if not argv or not argv[0] or any("\0" in word for word in argv):
        raise MismatchError
    return tuple(argv)


def _word(raw: object, ref: KeyRef) -> str:
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return str(raw)
    if not isinstance(raw, str):
        raise ref.error(f"expected a string, found {describe(raw)}")
    return raw


def environment(raw: object, ref: KeyRef) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise MismatchError
    found = {}
    for name, value in raw.items():
        if not re.fullmatch(_VARIABLE, name):
            raise (ref / name).error("expected the name of a variable: letters, digits and underscores")
        found[name] = _variable(value, ref / name)
        if "\0" in found[name]:
            raise (ref / name).error("a variable cannot hold a NUL character")
    return found


def _variable(raw: object, ref: KeyRef) -> str:
    """Parse a variable's value, or a table of its `value` and whether that is `secret`."""
    if not isinstance(raw, dict):
        return _value(raw, ref)
    for key in raw:
        if key not in ("value", "secret"):
            raise (ref / key).error("unknown key", hint=did_you_mean(key, ["value", "secret"]))
    if "value" not in raw:
        raise ref.error(
            'expected the key "value"', hint='write { value = "${NAME}", secret = true } for a variable\'s'
        )
    BOOLEAN.read(raw.get("secret", False), ref / "secret")
    return _value(raw["value"], ref / "value")


def _value(raw: object, ref: KeyRef) -> str:
    return describe(raw) if isinstance(raw, bool) else _word(raw, ref)


def marked_secrets(raw: object) -> frozenset[str]:
    """The variables of a table that `environment` has accepted which are marked `secret`."""
    if not isinstance(raw, dict):
        return frozenset()
    return frozenset(
        name
        for name, value in raw.items()
        if isinstance(value, dict) and str(value.get("secret", False)).lower() in {"true", *_TRUE}
    )


def headers(raw: object, ref: KeyRef) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise MismatchError
    for name in raw:
        if not re.fullmatch(_METHOD, name):
            raise (ref / name).error("expected the name of a header")
    return {name: _word(value, ref / name) for name, value in raw.items()}


def pattern(raw: object, ref: KeyRef) -> str:
    value = text(raw, ref)
    try:
        re.compile(value)
    except re.error as error:
        raise MismatchError(f"not a regular expression: {error}, in {describe(raw)}") from None
    return value


def url_path(raw: object, ref: KeyRef) -> str:
    value = text(raw, ref)
    if not value.startswith("/"):
        hint = f'write "/{value}"' if re.fullmatch(r"[\w.~/-]+", value) else None
        raise MismatchError(f'expected a path that starts with "/", found {describe(raw)}', hint=hint)
    if re.search(r"[\s?#\x00-\x1f]", value):
        raise MismatchError(f"expected a path without space, query or fragment, found {describe(raw)}")
    if {".", ".."} & set(value.split("/")):
        raise MismatchError(f'expected a path without "." and ".." elements, found {describe(raw)}')
    return value


def folder(raw: object, ref: KeyRef) -> Path:
    """Parse an existing folder, relative to the project's."""
    path = Path(text(raw, ref)).expanduser()
    if ref.sources.root is not None:
        path = ref.sources.root / path
    if not path.is_dir():
        raise MismatchError(f"no such folder: {path}")
    return path


def file(raw: object, ref: KeyRef) -> Path:
    """Parse a file's path, relative to the project's folder; its reader checks that it exists."""
    path = Path(text(raw, ref)).expanduser()
    return path.absolute() if ref.sources.root is None else ref.sources.root / path


def signal_name(raw: object, ref: KeyRef) -> str:
    """Parse a signal's name, with or without SIG, or its number."""
    import signal

    value = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else text(raw, ref)
    name = f"SIG{value.upper().removeprefix('SIG')}"
    try:
        number = signal.Signals(int(value)) if value.isdecimal() else signal.Signals[name]
    except (KeyError, ValueError):
        raise MismatchError from None
    if number in (signal.SIGSTOP, signal.SIGCONT):
        raise MismatchError(f"{number.name} does not ask a process to stop")
    return number.name


def env_files(raw: object, ref: KeyRef) -> tuple[Path, ...]:
    """Parse one path, or several."""
    if isinstance(raw, str):
        return (file(raw, ref),)
    return tuple(file(item, ref / index) for index, item in enumerate(items_of(raw)))


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
        raise MismatchError(f'expected {SERVICE_URL.expected}, found "{without_password(value)}"')
    return value


def number(low: float, high: float) -> Callable[[object, KeyRef], float]:
    def parse(raw: object, _ref: KeyRef) -> float:
        if isinstance(raw, str):
            try:
                raw = float(raw)
            except ValueError:
                raise MismatchError from None
        if isinstance(raw, bool) or not isinstance(raw, (int, float)) or not low <= raw <= high:
            raise MismatchError
        return float(raw)

    return parse


def whole_seconds(raw: object, ref: KeyRef) -> int:
    seconds = duration(raw, ref)
    if seconds != int(seconds):
        raise MismatchError
    return int(seconds)


def optional_path(raw: object, ref: KeyRef) -> str | None:
    return None if raw == "" else url_path(raw, ref)


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


TEXT = Type("a non-empty string", text)
NAME = Type("up to 63 letters, digits, dots, dashes and underscores", project_name)
SECRET = Type(TEXT.expected, lambda raw, place: Secret(text(raw, place)), Secret.reveal)
DURABLE = Type('"process", "disk" or false', durability, show_durability)
BOOLEAN = Type("true or false", boolean)
PORT = Type(f"a port from 0 to {HIGHEST_PORT}", integer(0, HIGHEST_PORT))
REPLICAS = Type(f"a whole number from 1 to {MAX_REPLICAS}", integer(1, MAX_REPLICAS))
DURATION = Type('a duration such as "10s", "500ms" or a number of seconds', duration, show_duration)
SIZE = Type('a size such as "16MiB" or a number of bytes', size, show_size)
MESSAGE_SIZE = Type('a size from 1 byte to "512MiB"', size_between(1, 512 * 1024 * 1024), show_size)
MEMORY_SIZE = Type('a size from "1MiB"', size_between(1024 * 1024, 1 << 50), show_size)
HOST = Type("a host name or an IP address", matching(_HOST))
APP = Type('an import path such as "shop.orders:create_app"', matching(_APP))
COMMAND = Type("a command as one string, or a list of its words", command, list)
ENVIRONMENT = Type("a table of variables", environment, dict, is_table=True)
HEADERS = Type("a table of header names and values", headers, dict, is_table=True)
PATTERN = Type("a regular expression", pattern)
URL_PATH = Type('a path that starts with "/"', url_path)
SERVICE_URL = Type('a URL such as "http://127.0.0.1:8081", without a path', service_url)
AMQP_URL = Type('a URL such as "amqp://guest:guest@localhost:5672/"', amqp_url)
REGISTRY_URL = Type('a URL such as "etcd://host:2379" or "consul://host:8500"', registry_url)
WEIGHT = Type("a whole number from 1 to 65535", integer(1, 65535))
IMAGE = Type('the name of an image such as "registry.example/shop:1.2"', matching(_IMAGE))
FOLDER = Type("a folder", folder, str)
ENV_FILES = Type(
    "the path of a file, or a list of paths",
    env_files,
    lambda paths: [str(path) for path in paths],
)
MOST_RESTARTS = Type("a whole number from 0 to 10000", integer(0, 10_000))
SIGNAL = Type('the name of a signal, such as "SIGINT"', signal_name)
SCHEME = Type('the scheme of a URL, such as "redis"', matching(r"[a-z][a-z0-9+.-]*"))
FILE = Type("the path of a file", file, str)
HEADER_BYTES = Type('a size from "1KiB" to "1MiB"', size_between(1024, 1024**2), show_size)
HEADER_FIELDS = Type("a whole number from 16 to 10000", integer(16, 10_000))
POSITIVE = Type("a whole number from 1", integer(1, 10**9))
SHARE = Type("a number from 0 to 1", number(0, 1))
RATE = Type("a number from 0", number(0, 1e9))
OPTIONAL_PATH = Type(
    'a path that starts with "/", or an empty string', optional_path, lambda value: value or ""
)
VARIABLE_NAME = Type("the name of a variable", matching(_VARIABLE))
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
METHODS = Type(
    'a list of methods such as ["GET", "POST"]',
    list_of(Type("the name of a method", lambda raw, ref: matching(_METHOD)(raw, ref).upper())),
    list,
)
HOST_PATTERN = Type('a host name, which may begin with "*."', matching(_HOST_PATTERN))
HOST_PATTERNS = Type("a list of host names", list_of(HOST_PATTERN), list)
GATEWAY_HOSTS = Type(
    "a list of host names",
    list_of(Type('a host name, which may begin with "*.", or "*"', matching(rf"\*|{_HOST_PATTERN}"))),
    list,
)
EXIT_CODES = Type(
    "a list of exit codes from 0 to 255", list_of(Type("an exit code from 0 to 255", integer(0, 255))), list
)
