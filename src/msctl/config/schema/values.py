"""The types of plain values in msctl.toml: how each is parsed and written back.

A value comes from TOML, or as a string from a variable or a flag; every type accepts both. Patterns are
compiled on first use, here and in the modules beside it: every start imports them.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msctl.config.project_name import is_project_name
from msctl.config.schema.value_type import MismatchError, Type, describe, list_of
from msctl.config.value_source import KeyRef
from msctl.model.services import MAX_REPLICAS
from msctl.model.snapshots import Durability
from msctl.secret import Secret

TRUE = {"true", "yes", "on", "1"}
FALSE = {"false", "no", "off", "0"}
VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"


def text(raw: object, _ref: KeyRef) -> str:
    if not isinstance(raw, str) or not raw.strip() or "\0" in raw:
        raise MismatchError
    return raw


def word(raw: object, ref: KeyRef) -> str:
    """Parse a string, which may be empty; a number is taken as it is written."""
    if isinstance(raw, (int, float)) and not isinstance(raw, bool):
        return str(raw)
    if not isinstance(raw, str):
        raise ref.error(f"expected a string, found {describe(raw)}")
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
    if isinstance(raw, str) and raw.lower() in TRUE | FALSE:
        return raw.lower() in TRUE
    raise MismatchError


def durability(raw: object, _ref: KeyRef) -> Durability:
    if raw is False or (isinstance(raw, str) and raw.lower() in FALSE):
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


def pattern(raw: object, ref: KeyRef) -> str:
    value = text(raw, ref)
    try:
        re.compile(value)
    except re.error as error:
        raise MismatchError(f"not a regular expression: {error}, in {describe(raw)}") from None
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


TEXT = Type("a non-empty string", text)
NAME = Type("up to 63 letters, digits, dots, dashes and underscores", project_name)
SECRET = Type(TEXT.expected, lambda raw, place: Secret(text(raw, place)), Secret.reveal)
DURABLE = Type('"process", "disk" or false', durability, show_durability)
BOOLEAN = Type("true or false", boolean)
REPLICAS = Type(f"a whole number from 1 to {MAX_REPLICAS}", integer(1, MAX_REPLICAS))
PATTERN = Type("a regular expression", pattern)
WEIGHT = Type("a whole number from 1 to 65535", integer(1, 65535))
MOST_RESTARTS = Type("a whole number from 0 to 10000", integer(0, 10_000))
POSITIVE = Type("a whole number from 1", integer(1, 10**9))
SHARE = Type("a number from 0 to 1", number(0, 1))
RATE = Type("a number from 0", number(0, 1e9))
VARIABLE_NAME = Type("the name of a variable", matching(VARIABLE))
EXIT_CODES = Type(
    "a list of exit codes from 0 to 255", list_of(Type("an exit code from 0 to 255", integer(0, 255))), list
)
