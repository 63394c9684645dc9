"""Who may use a route: API keys and signed bearer tokens.

Pure but for PyJWT, which is imported only where a route asks for it. Secrets come from the
environment and are never logged or put into an answer.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping, Sequence

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field, first, text
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.model.project import ApiKeySpec, JwtSpec

Guard = Callable[[Sequence[Field]], str]
"""Given a request's fields, the name of who asks; raises ProblemError (401)."""


def api_keys(spec: ApiKeySpec, environ: Mapping[str, str]) -> Guard:
    """A check of the key in the field `spec.header`; raises ConfigError without any key to compare with."""
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
                f"This route wants an API key in the field {spec.header}.", f'ApiKey realm="{spec.header}"'
            )
        found = ""
        for name, key in keys:
            # Every key is compared, so that the time taken tells nothing.
            if hmac.compare_digest(key, given):
                found = name
        if not found:
            raise _unauthorized(
                "The API key is not one of those that are allowed.", f'ApiKey realm="{spec.header}"'
            )
        return found

    return check


def bearer_token(spec: JwtSpec, environ: Mapping[str, str]) -> Guard:
    """A check of a bearer token (RFC 6750) that is a signed JWT; raises ConfigError without a key."""
    key = environ.get(spec.key_env, "")
    if not key:
        raise ConfigError(
            f"the environment variable {spec.key_env}, the key for a route's tokens, is empty or not set",
            hint="set it to the shared secret (HS256) or the public key in PEM (RS256, ES256)",
        )
    import jwt  # 20 ms that only a route with tokens costs

    unknown = [name for name in spec.algorithms if name not in jwt.algorithms.get_default_algorithms()]
    if unknown or "none" in spec.algorithms:
        raise ConfigError(
            f"a route's tokens are to be signed with {', '.join(unknown) or 'none'}: that cannot be checked",
            hint="HS*, RS*, PS* and ES* (256, 384, 512) and EdDSA can",
        )
    for name in spec.algorithms:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(key)
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ConfigError(
                f"the environment variable {spec.key_env} holds no key for tokens signed with {name}: "
                f"{str(error).rstrip('.').lower()}",
                hint="it is the shared secret for HS*, and else the public key in PEM, with its line ends",
            ) from error
    options = {"require": ["exp"], "verify_aud": spec.audience is not None}

    def check(fields: Sequence[Field]) -> str:
        scheme, _, token = text(first(fields, b"authorization") or b"").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("This route wants a bearer token.", "Bearer")
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
            detail = f"The bearer token is not accepted: {str(error).rstrip('.').lower()}."
            raise _unauthorized(detail, 'Bearer error="invalid_token"') from error
        return str(claims.get("sub", ""))

    return check


def _unauthorized(detail: str, challenge: str) -> ProblemError:
    fields = ((b"WWW-Authenticate", challenge.encode()),)
    return ProblemError(Problem(401, detail, error="http_request_denied", fields=fields))
