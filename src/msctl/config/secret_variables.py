"""What of a service's configuration is secret: not shown by `config` or the page, not written by exports.

Where a value came from decides: one with `${...}` (and so from `.env` or the environment), and one marked
`secret`, is secret whatever its name. A literal of msctl.toml is one if its name is that of a secret or if it
is a URL with a password: a guess, but it costs little. Wherever the target can look a variable up, the text
with its `${...}` in place is written instead of the value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from msctl.model.service_spec import Reference, ServiceSpec

_NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(API|PRIVATE|ACCESS|SIGNING)_?KEYS?)$", re.I
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]*:[^\s/?#]+@", re.I)
_PLAIN_REFERENCE = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*(?::?\?[^{}]*)?\}")
Write = Callable[[str], str]

_HEADER_TABLES = frozenset({"headers", "request_headers", "response_headers"})


def secret_variables(spec: ServiceSpec) -> frozenset[str]:
    """Return the names of the service's secret variables."""
    referenced = referenced_env(spec)
    return frozenset(
        name
        for name, value in spec.env.items()
        if name in referenced or name in spec.secret_env or is_secret(name, value)
    )


def literal_secrets(spec: ServiceSpec) -> frozenset[str]:
    """Return the secret variables whose text in the file holds a secret itself, or may."""
    referenced = referenced_env(spec)
    return frozenset(
        name
        for name in secret_variables(spec)
        if name not in referenced or _has_literal(name, referenced[name].text, name in spec.secret_env)
    )


def _has_literal(name: str, text: str, is_marked: bool) -> bool:
    """Whether what stands around the `${...}` of a text is a secret: `postgres://me:hush@${HOST}`."""
    literal = _PLAIN_REFERENCE.sub("", text)
    return has_password(literal) or (bool(literal) and (is_marked or bool(_NAME.search(name))))


def is_secret(name: str, value: str) -> bool:
    """Whether the variable is a secret by its name or its value."""
    return bool(_NAME.search(name)) or has_password(value)


def has_password(url: str) -> bool:
    """Whether the URL has a password."""
    return bool(_URL_WITH_PASSWORD.match(url))


def referenced_env(spec: ServiceSpec) -> Mapping[str, Reference]:
    """The variables of `env` with `${...}`, each with its text."""
    found = {}
    for each in spec.references:
        if each.key[0] == "env" and len(each.key) > 1:
            found[str(each.key[1])] = each
    return found


def secret_references(spec: ServiceSpec) -> tuple[Reference, ...]:
    """The strings with `${...}` that may hold a secret: variables, commands, and fields of requests.

    Others, such as ports and hosts, shape what is shown and exported.
    """
    return tuple(
        each
        for each in spec.references
        if each.key[0] in ("env", "command")
        or each.key[:2] == ("health", "exec")
        or _HEADER_TABLES & {str(part) for part in each.key}
    )


def in_place(
    shown: Mapping[str, object], references: Sequence[Reference], write: Write = str
) -> dict[str, object]:
    """A service's table in TOML's types with the texts of `references` in place of their values.

    A reference is found by its last key and its value, since reading may have put lists around tables; a
    command that was one string becomes one again. `write` makes the strings that are put in.
    """
    found = dict(shown)
    if not references:
        return found
    texts = {(_last(each), each.value): each.text for each in references}

    def walk(value: object, key: str) -> object:
        if isinstance(value, Mapping):
            return {name: walk(item, str(name).lower()) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(item, key) for item in value]
        if isinstance(value, str) and (key, value) in texts:
            return write(texts[key, value])
        return value

    found = {name: walk(item, name) for name, item in found.items()}
    for each in references:
        health = found.get("health")
        if each.key == ("command",):
            found["command"] = write(each.text)
        elif each.key == ("health", "exec") and isinstance(health, dict):
            found["health"] = {**health, "exec": write(each.text)}
    return found


def _last(reference: Reference) -> str:
    """The last name in a reference's key."""
    if reference.key[0] == "env":  # a variable may be a table with its value
        return str(reference.key[1]).lower()
    return str(next(part for part in reversed(reference.key) if isinstance(part, str))).lower()
