"""Commands for a shell: those that ask for one, and those that look as if they needed one. Pure."""

from __future__ import annotations

from dataclasses import replace

from msctl.config.value_source import KeyRef
from msctl.model.service_spec import ServiceSpec

SHELL = ("/bin/sh", "-c")
_OPERATORS = ("&&", "||", "|", ">", "<", ";")


def with_shell(spec: ServiceSpec, raw: object, ref: KeyRef) -> ServiceSpec:
    """The service with `raw`, its command as it was written, for /bin/sh if it has `shell`.

    Without it, an operator of the shell in the string is noted, for a warning. Raises ConfigError for a list
    of words with `shell`.
    """
    if not spec.shell:
        return replace(spec, shell_operator=unquoted_operator(raw)) if isinstance(raw, str) else spec
    if isinstance(raw, str):
        return replace(spec, command=(*SHELL, raw))
    if spec.command is None or spec.command[:2] != SHELL:
        raise (ref / "shell").error(
            "shell = true needs command as one string", hint="write the command as for a shell, in one string"
        )
    return spec


def unquoted_operator(text: str) -> str | None:
    """The first operator of a shell outside quotes, or None."""
    quote = ""
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and quote != "'":
            index += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif found := next((o for o in _OPERATORS if text.startswith(o, index)), None):
            return found
        index += 1
    return None
