"""Bearer tokens (RFC 6750) that are signed JWTs (RFC 7519). Pure; PyJWT is imported only if needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field
from msctl.gateway.policies.auth import Authenticator, credential, find_secret, unauthorized
from msctl.gateway.policies.jwks import PublicKey, keys_for, token_header
from msctl.model.route_policies import JwtSpec
from msctl.secret import Secret

MIN_HMAC_KEY = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The least bytes of an HMAC key: as many as the hash has (RFC 7518 §3.2)."""

KeySet = Callable[[], Sequence[PublicKey]]
"""Returns the keys that were fetched last."""


def bearer_token(
    spec: JwtSpec, key: str, secrets: Mapping[str, Secret], key_set: KeySet | None = None
) -> Authenticator:
    """Authenticate by the bearer token of Authorization. Raises ConfigError, naming the file's `key`.

    The key is the one in the environment, or one of `key_set`: for a token signed with an algorithm of the
    latter's kind, the keys of the set are tried first.
    """
    import jwt  # 20 ms, paid only by routes with tokens

    unknown = [name for name in spec.accepted if name not in jwt.algorithms.get_default_algorithms()]
    if unknown or "none" in spec.accepted:
        raise ConfigError(
            f"{key}: tokens signed with {', '.join(unknown) or 'none'} cannot be verified",
            hint="use HS*, RS*, PS* or ES* (256, 384, 512) or EdDSA",
        )
    secret = None if spec.key_env is None else _static_key(spec, spec.key_env, key, secrets)
    static = set() if secret is None else _usable(spec, secret)
    options = {"require": ["exp"], "verify_aud": spec.audience is not None}

    def candidates(token: bytes) -> Iterator[tuple[Any, str]]:
        """Yield the keys that could have signed a token, each with the one algorithm it is tried with."""
        kid, algorithm = token_header(token)
        if algorithm not in spec.accepted:
            raise jwt.InvalidAlgorithmError("the specified alg value is not allowed")
        for public in () if key_set is None else keys_for(key_set(), kid, algorithm):
            yield public.key, algorithm
        if secret is not None and algorithm in static:
            yield secret.reveal(), algorithm

    def decode(token: bytes) -> dict[str, Any]:
        failure: Exception = jwt.InvalidKeyError("it is signed with a key that is not known")
        for candidate, algorithm in candidates(token):
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,  # bytes, as received: a str that is not UTF-8 cannot be encoded again
                    candidate,
                    algorithms=[algorithm],
                    audience=spec.audience,
                    issuer=spec.issuer,
                    leeway=spec.leeway,
                    options=options,  # type: ignore[arg-type] # its TypedDict cannot be named here
                )
            except jwt.InvalidSignatureError as error:
                failure = error
            else:
                return claims
        raise failure

    def check(fields: Sequence[Field]) -> str:
        token = token_of(fields)
        try:
            claims = decode(token)
        except (jwt.PyJWTError, ValueError) as error:
            reason = str(error).rstrip(".").lower().encode("ascii", "backslashreplace").decode()
            detail = f"The bearer token is not valid: {reason}."
            raise unauthorized(detail, 'Bearer error="invalid_token"') from error
        return str(claims.get("sub", "")).encode("ascii", "backslashreplace").decode()

    return check


def token_of(fields: Sequence[Field]) -> bytes:
    """Return the bearer token of a request; raises ProblemError (400, 401)."""
    scheme, _, token = (credential(fields, "Authorization") or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not token:
        raise unauthorized("This route requires a bearer token.", "Bearer")
    return token.strip()


def _static_key(spec: JwtSpec, variable: str, key: str, secrets: Mapping[str, Secret]) -> Secret:
    """Return the key in the environment, once every algorithm can use it; with `jwks` one is enough."""
    import jwt

    hint = f"set {variable} to the shared secret for HS*, or to the public key in PEM, with its line breaks"
    secret = find_secret(variable, key, secrets, hint)
    try:
        length = len(secret.reveal().encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{key}: the environment variable {variable} is not UTF-8", hint=hint) from None
    if spec.fetches_keys and _usable(spec, secret):
        return secret
    for name in spec.accepted:
        if name not in jwt.algorithms.get_default_algorithms():
            continue
        least = MIN_HMAC_KEY.get(name, 0)
        if length < least:
            raise ConfigError(
                f"{key}: the secret in the environment variable {variable} has {length} bytes; {name} "
                f"requires at least {least}",
                hint=f"set {variable} to the output of: openssl rand -base64 {least}",
            )
        try:
            jwt.get_algorithm_by_name(name).prepare_key(secret.reveal())
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise ConfigError(
                f"{key}: the environment variable {variable} holds no usable key for {name}: "
                f"{str(error).rstrip('.').lower()}",
                hint=hint,
            ) from None
    return secret


def _usable(spec: JwtSpec, secret: Secret) -> set[str]:
    """Return the accepted algorithms that the key in the environment is of the right kind for."""
    import jwt

    found: set[str] = set()
    for name in spec.accepted:
        try:
            jwt.get_algorithm_by_name(name).prepare_key(secret.reveal())
        except (jwt.PyJWTError, ValueError, TypeError, NotImplementedError):
            continue
        if len(secret.reveal().encode()) >= MIN_HMAC_KEY.get(name, 0):
            found.add(name)
    return found
