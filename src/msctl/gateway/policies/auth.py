"""What the ways to authenticate a route's clients share. Pure.

Secrets come from the environment and never appear in logs, errors or responses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field, values
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.secret import Secret

Authenticator = Callable[[Sequence[Field]], str]
"""Returns the client's name, given the request's fields; raises ProblemError (400, 401)."""


def find_secret(variable: str, key: str, secrets: Mapping[str, Secret], hint: str) -> Secret:
    """Return the secret in an environment variable, named by the configuration's `key`.

    Raises ConfigError if it is not set or empty.
    """
    secret = secrets.get(variable)
    if secret is None or not secret.reveal().strip():
        state = "not set" if secret is None else "empty"
        raise ConfigError(f"{key}: the environment variable {variable} is {state}", hint=hint)
    return secret


def credential(fields: Sequence[Field], name: str) -> bytes | None:
    """Return the value of the field `name`, None without it; raises ProblemError (400) if it is repeated.

    All fields are forwarded: with two, the service could read another one than was checked here. A field
    with underscores for hyphens counts too: WSGI and CGI applications read both as one variable.
    """
    wanted = name.lower().encode()
    found = values(fields, wanted)
    if len(found) + _underscored(fields, wanted) > 1:
        detail = f"The request has more than one {name} field."
        raise ProblemError(Problem(400, detail, error="http_request_error", close=True))
    return found[0] if found else None


def _underscored(fields: Sequence[Field], name: bytes) -> int:
    """Return how many fields read as `name` only with hyphens for their underscores."""
    if b"-" not in name:
        return 0
    return sum(
        b"_" in key and key.lower() != name and key.lower().replace(b"_", b"-") == name for key, _ in fields
    )


def unauthorized(detail: str, challenge: str) -> ProblemError:
    fields = ((b"WWW-Authenticate", challenge.encode()),)
    return ProblemError(Problem(401, detail, error="http_request_denied", fields=fields))
