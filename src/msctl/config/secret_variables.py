"""Which variables of a service's `env` are secrets: not shown by `config`, not written by exports.

A variable is a secret if its value came from `${...}` (and so from `.env` or the environment), if its name
is that of a secret, or if its value is a URL with a password. A value that looks harmless may be secret and
the reverse costs little, so where a value came from decides before what it looks like.
"""

from __future__ import annotations

import re

from msctl.model.project import ServiceSpec

_NAME = re.compile(
    r"(PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(API|PRIVATE|ACCESS|SIGNING)_?KEYS?)$", re.I
)
_URL_WITH_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#@]*:[^\s/?#@]+@", re.I)


def secret_variables(spec: ServiceSpec) -> frozenset[str]:
    """Return the names of the service's secret variables."""
    return frozenset(
        name for name, value in spec.env.items() if name in spec.interpolated_env or is_secret(name, value)
    )


def is_secret(name: str, value: str) -> bool:
    """Whether the variable is a secret by its name or its value."""
    return bool(_NAME.search(name)) or has_password(value)


def has_password(url: str) -> bool:
    """Whether the URL has a password."""
    return bool(_URL_WITH_PASSWORD.match(url))
