"""API keys: the list of keys in an environment variable, and the check of a request's key. Pure.

The grammar of a list:

    list  = entry *( "," entry )            white space around an entry is ignored
    entry = name "=" key / key
    name  = ALPHA *19( ALPHA / DIGIT / "_" / "." / "-" )
    key   = 16*( visible ASCII but "," )    16 bytes at least

The first `=` of an entry splits it if a name precedes it. Otherwise the entry is a key without a name,
and `=` may only stand at its end: base64 padding. The two cannot be confused: a name has at most 20
characters, and 16 bytes in base64 have at least 22 before the padding. Of the latter, only canonical
base64 in mixed case is a key: a name that is too long with an empty key (`the-name-of-a-partner=`) must not
become a key that anyone can guess.

Errors name the variable and the entry's number, never a part of an entry: it could be a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field
from msctl.gateway.policies.auth import Authenticator, credential, find_secret, unauthorized
from msctl.model.route_spec import ApiKeySpec
from msctl.secret import Secret

MIN_KEY = 16
"""The least bytes of a key."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,19}")
_KEY = re.compile(r"[!-+\--~]*")
_HINT = "set {}=NAME=KEY,NAME=KEY, with keys such as those of: openssl rand -base64 32"


class KeyListError(ValueError):
    """A key list does not match the grammar; the text names the entry by its number."""


def parse_key_list(text: str) -> list[tuple[str, Secret]]:
    """Return the names and keys of a list; raises KeyListError. Keys without a name get "key N"."""
    return [_entry(number, part.strip()) for number, part in enumerate(text.split(","), 1)]


def _entry(number: int, entry: str) -> tuple[str, Secret]:
    name, mark, key = entry.partition("=")
    if not mark or not _NAME.fullmatch(name):
        name, key = f"key {number}", entry
        if mark and not _is_padded_base64(key):
            raise KeyListError(f"entry {number} is neither NAME=KEY nor a key")
    if not key:
        raise KeyListError(f"entry {number} has no key" if mark else f"entry {number} is empty")
    if not _KEY.fullmatch(key):
        raise KeyListError(f"the key of entry {number} has a character other than visible ASCII")
    if len(key) < MIN_KEY:
        raise KeyListError(f"the key of entry {number} has fewer than {MIN_KEY} bytes")
    return name, Secret(key)


def _is_padded_base64(text: str) -> bool:
    """Return whether `text` is canonical base64 of enough bytes, padded, in mixed case."""
    standard = text.translate(str.maketrans("-_", "+/"))
    try:
        data = base64.b64decode(standard, validate=True)
    except (binascii.Error, ValueError):
        return False
    mixed = standard != standard.lower() and standard != standard.upper()
    return len(data) >= MIN_KEY and base64.b64encode(data).decode() == standard and mixed


def api_keys(spec: ApiKeySpec, key: str, secrets: Mapping[str, Secret]) -> Authenticator:
    """Authenticate by the key in the field `spec.header`. Raises ConfigError, naming the file's `key`."""
    hint = _HINT.format(spec.env)
    try:
        keys = parse_key_list(find_secret(spec.env, key, secrets, hint).reveal())
    except KeyListError as error:
        raise ConfigError(f"{key}: in the environment variable {spec.env}, {error}", hint=hint) from None
    challenge = f'ApiKey realm="{spec.header}"'

    def check(fields: Sequence[Field]) -> str:
        given = credential(fields, spec.header)
        if given is None:
            raise unauthorized(f"This route requires an API key in the field {spec.header}.", challenge)
        found = ""
        for name, secret in keys:
            # Every key is compared, so that the time taken reveals nothing.
            if secret.matches(given):
                found = name
        if not found:
            raise unauthorized("The API key is not valid.", challenge)
        return found

    return check
