"""Bearer tokens (RFC 6750) that are signed JWTs (RFC 7519). Pure; PyJWT is imported only if needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field
from msctl.gateway.policies.auth import Authenticator, credential, find_secret, unauthorized
from msctl.model.project import JwtSpec
from msctl.secret import Secret

MIN_HMAC_KEY = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The least bytes of an HMAC key: as many as the hash has (RFC 7518 §3.2)."""


def bearer_token(spec: JwtSpec, key: str, secrets: Mapping[str, Secret]) -> Authenticator:
    """Authenticate by the bearer token of Authorization. Raises ConfigError, naming the file's `key`."""
    hint = (
        f"set {spec.key_env} to the shared secret for HS*, or to the public key in PEM, with its line breaks"
    )
    secret = find_secret(spec.key_env, key, secrets, hint)
    import jwt  # 20 ms, paid only by routes with tokens

    unknown = [name for name in spec.algorithms if name not in jwt.algorithms.get_default_algorithms()]
    if unknown or "none" in spec.algorithms:
        raise ConfigError(
            f"{key}: tokens signed with {', '.join(unknown) or 'none'} cannot be verified",
            hint="use HS*, RS*, PS* or ES* (256, 384, 512) or EdDSA",
        )
    try:
        length = len(secret.reveal().encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{key}: the environment variable {spec.key_env} is not UTF-8", hint=hint) from None
    for name in spec.algorithms:
        least = MIN_HMAC_KEY.get(name, 0)
        if length < least:
            raise ConfigError(
                f"{key}: the secret in the environment variable {spec.key_env} has {length} bytes; {name} "
                f"requires at least {least}",
                hint=f"set {spec.key_env} to the output of: openssl rand -base64 {least}",
            )
        try:
            jwt.get_algorithm_by_name(name).prepare_key(secret.reveal())
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{key}: the environment variable {spec.key_env} holds no usable key for {name}: "
                f"{str(error).rstrip('.').lower()}",
                hint=hint,
            ) from None
    options = {"require": ["exp"], "verify_aud": spec.audience is not None}

    def check(fields: Sequence[Field]) -> str:
        scheme, _, token = (credential(fields, "Authorization") or b"").partition(b" ")
        if scheme.lower() != b"bearer" or not token:
            raise unauthorized("This route requires a bearer token.", "Bearer")
        try:
            claims = jwt.decode(  # bytes, as received: a str that is not UTF-8 cannot be encoded again
                token.strip(),
                secret.reveal(),
                algorithms=list(spec.algorithms),
                audience=spec.audience,
                issuer=spec.issuer,
                leeway=spec.leeway,
                options=options,  # type: ignore[arg-type] # its TypedDict cannot be named before the import
            )
        except jwt.PyJWTError as error:
            reason = str(error).rstrip(".").lower().encode("ascii", "backslashreplace").decode()
            detail = f"The bearer token is not valid: {reason}."
            raise unauthorized(detail, 'Bearer error="invalid_token"') from error
        return str(claims.get("sub", "")).encode("ascii", "backslashreplace").decode()

    return check
