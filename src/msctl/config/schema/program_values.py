"""The types of what a program is started with: command, variables, files, signal, image."""

from __future__ import annotations

import re
from pathlib import Path

from msctl.config.schema.value_type import MismatchError, Type, describe, items_of
from msctl.config.schema.values import BOOLEAN, TRUE, VARIABLE, matching, text, word
from msctl.config.value_source import KeyRef
from msctl.hints import did_you_mean

_APP = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_IMAGE = r"[a-z0-9][A-Za-z0-9._/:@-]*"


def command(raw: object, ref: KeyRef) -> tuple[str, ...]:
    """Parse argv: a list, or a string split into words as a shell does (no shell runs it)."""
    if isinstance(raw, list):
        argv = [word(item, ref / index) for index, item in enumerate(raw)]
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


def environment(raw: object, ref: KeyRef) -> dict[str, str]:
    if not isinstance(raw, dict):
        raise MismatchError
    found = {}
    for name, value in raw.items():
        if not re.fullmatch(VARIABLE, name):
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
    return describe(raw) if isinstance(raw, bool) else word(raw, ref)


def marked_secrets(raw: object) -> frozenset[str]:
    """The variables of a table that `environment` has accepted which are marked `secret`."""
    if not isinstance(raw, dict):
        return frozenset()
    return frozenset(
        name
        for name, value in raw.items()
        if isinstance(value, dict) and str(value.get("secret", False)).lower() in TRUE
    )


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


APP = Type('an import path such as "shop.orders:create_app"', matching(_APP))
COMMAND = Type("a command as one string, or a list of its words", command, list)
ENVIRONMENT = Type("a table of variables", environment, dict, is_table=True)
IMAGE = Type('the name of an image such as "registry.example/shop:1.2"', matching(_IMAGE))
FOLDER = Type("a folder", folder, str)
ENV_FILES = Type(
    "the path of a file, or a list of paths",
    env_files,
    lambda paths: [str(path) for path in paths],
)
SIGNAL = Type('the name of a signal, such as "SIGINT"', signal_name)
FILE = Type("the path of a file", file, str)
