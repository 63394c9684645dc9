"""Authentication of a route's clients: API keys and signed bearer tokens.

Pure, except for PyJWT, which is imported only if a route requires tokens. Secrets come from the
environment and never appear in logs or responses.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field, first, text
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.model.project import ApiKeySpec, JwtSpec

Authenticator = Callable[[Sequence[Field]], str]
"""Returns the client's name, given the request's fields; raises ProblemError (401)."""


def api_keys(spec: ApiKeySpec, environ: Mapping[str, str]) -> Authenticator:
    """Authenticate by the key in the field `spec.header`; raises ConfigError if no key is configured."""
    keys: list[tuple[str, bytes]] = []
    for number, part in enumerate(filter(None, (p.strip() for p in environ.get(spec.env, "").split(","))), 1):
        name, mark, key = part.partition("=")
        keys.append((name, key.encode()) if mark else (f"key {number}", part.encode()))
    if not keys:
        raise ConfigError(
            f"the environment variable {spec.env}, which holds the API keys of a route, is empty or not set",
            hint=f"set {spec.env}=name=key[,name=key…] in the environment or the .env file",
        )
    field = spec.header.lower().encode()

    def check(fields: Sequence[Field]) -> str:
        given = first(fields, field)
        if given is None:
            raise _unauthorized(
                f"This route requires an API key in the field {spec.header}.", f'ApiKey realm="{spec.header}"'
            )
        found = ""
        for name, key in keys:
            # Every key is compared, so that the time taken reveals nothing.
            if hmac.compare_digest(key, given):
                found = name
        if not found:
            raise _unauthorized("The API key is not valid.", f'ApiKey realm="{spec.header}"')
        return found

    return check


def bearer_token(spec: JwtSpec, environ: Mapping[str, str]) -> Authenticator:
    """Authenticate by a bearer token (RFC 6750) that is a signed JWT; raises ConfigError without a key."""
    key = environ.get(spec.key_env, "")
    if not key:
        raise ConfigError(
            f"the environment variable {spec.key_env}, the key for a route's tokens, is empty or not set",
            hint="set it to the shared secret (HS256) or the public key in PEM (RS256, ES256)",
        )
    import jwt  # 20 ms, paid only by routes with tokens

    unknown = [name for name in spec.algorithms if name not in jwt.algorithms.get_default_algorithms()]
    if unknown or "none" in spec.algorithms:
        raise ConfigError(
            f"tokens signed with {', '.join(unknown) or 'none'} cannot be verified",
            hint="use HS*, RS*, PS* or ES* (256, 384, 512) or EdDSA",
        )
    for name in spec.algorithms:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the environment variable {spec.key_env} holds no usable key for {name}: "
                f"{str(error).rstrip('.').lower()}",
                hint="set it to the shared secret for HS*, or to the public key in PEM, with its line breaks",
            ) from error
    options = {"require": ["exp"], "verify_aud": spec.audience is not None}

    def check(fields: Sequence[Field]) -> str:
        scheme, _, token = text(first(fields, b"authorization") or b"").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("This route requires a bearer token.", "Bearer")
        try:
            claims = jwt.decode(
                token.strip(),
                key,
                algorithms=list(spec.algorithms),
                audience=spec.audience,
                issuer=spec.issuer,
                leeway=spec.leeway,
                options=options,  # type: ignore[arg-type] # its TypedDict cannot be named before the import
            )
        except jwt.PyJWTError as error:
            detail = f"The bearer token is not valid: {str(error).rstrip('.').lower()}."
            raise _unauthorized(detail, 'Bearer error="invalid_token"') from error
        return str(claims.get("sub", ""))

    return check


def _unauthorized(detail: str, challenge: str) -> ProblemError:
    fields = ((b"WWW-Authenticate", challenge.encode()),)
    return ProblemError(Problem(401, detail, error="http_request_denied", fields=fields))
