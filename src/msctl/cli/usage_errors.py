"""Usage errors of typer's parser, in the style of all other errors."""

from __future__ import annotations

import re
from typing import Any

import typer

from msctl.errors import UsageError
from msctl.hints import nearest

# typer's releases use click, or a copy of it inside typer: this is ClickException in both.
ParserError: type[Exception] = typer.BadParameter.__mro__[2]


def from_parser(error: Any) -> UsageError:
    """Translate an error of the parser: an unknown option, a missing argument, a bad value."""
    context = getattr(error, "ctx", None)
    command = "msctl" if context is None else context.command_path
    see = f"see: {command} --help"
    kind = type(error).__name__
    if kind == "NoSuchOption":
        near = nearest(error.option_name, error.possibilities or _options(context))
        meant = f"did you mean {near}? " if near else ""
        return UsageError(f"unknown option {error.option_name}", hint=f"{meant}{see}")
    if kind == "MissingParameter" and error.param is not None:
        return UsageError(f"missing {error.param.param_type_name} {_name(error.param, context)}", hint=see)
    if kind == "BadOptionUsage":
        return UsageError(f"{error.option_name} needs a value", hint=see)
    if kind == "BadParameter" and error.param is not None:
        return UsageError(f"{_name(error.param, context)}: {_clause(error.message)}", hint=see)
    return UsageError(_clause(error.format_message()), hint=see)


def _name(parameter: Any, context: Any) -> str:
    """Return an option's long name, or an argument's name as the usage line shows it."""
    if parameter.param_type_name == "option":
        name: str = max(parameter.opts, key=len)
        return name
    shown: str = parameter.make_metavar(context)
    return shown.strip("[].")


def _options(context: Any) -> list[str]:
    if context is None:
        return []
    return [name for parameter in context.command.get_params(context) for name in parameter.opts]


_PLAINER = (
    (re.compile(r"(.*) is not a valid int(eger)?( range)?"), r"\1 is not an integer"),
    (re.compile(r"(.*) is not in the range x>=(\d+)"), r"must be \2 or more, not \1"),
    (re.compile(r"(.*) is not in the range (\d+)<=x<=(\d+)"), r"must be from \2 to \3, not \1"),
    (re.compile(r"[Gg]ot unexpected extra arguments? \((.*)\)"), r"unexpected argument \1"),
    (re.compile(r"[Gg]ot unexpected extra argument\(s\) \((.*)\)"), r"unexpected argument \1"),
)


def _clause(text: str) -> str:
    """Turn the parser's sentence into a clause: plain words, a small first letter, no full stop."""
    text = text.strip().removesuffix(".")
    for pattern, plainer in _PLAINER:
        if match := pattern.fullmatch(text):
            return match.expand(plainer)
    return text[:1].lower() + text[1:]
