"""Sets of public keys (JWKS, RFC 7517) and the choice of a token's key. Pure.

The token says which key and which algorithm, and an attacker writes the token. So a key serves only the
algorithms of its own kind (RSA for RS* and PS*, a curve for its ES*, Ed25519 and Ed448 for EdDSA), only the
one that it names if it names one, and no key of a set is ever a shared secret: the classic confusion, a
public key used as an HMAC secret, has no way in. Keys for encryption, and those that cannot be read, are
left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

MAX_DOCUMENT = 1024 * 1024
MAX_KEYS = 100

_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class KeySetError(ValueError):
    """A document is not a usable set of keys; the text says why."""


class PublicKey(NamedTuple):
    """A key of a set: its id, the algorithms that it serves, and the key for PyJWT."""

    kid: str | None
    algorithms: tuple[str, ...]
    key: Any


def parse_key_set(document: bytes) -> tuple[PublicKey, ...]:
    """Return the keys of a set that can verify signatures; raises KeySetError if there is none."""
    try:
        parsed = json.loads(document)
    except ValueError:
        raise KeySetError("it is not JSON") from None
    keys = parsed.get("keys") if isinstance(parsed, dict) else None
    if not isinstance(keys, list):
        raise KeySetError('it has no list "keys"')
    found = [key for entry in keys[:MAX_KEYS] if isinstance(entry, dict) and (key := _public_key(entry))]
    if not found:
        raise KeySetError("it has no key that verifies signatures")
    return tuple(found)


def _public_key(entry: dict[str, Any]) -> PublicKey | None:
    import jwt

    uses, operations = entry.get("use", "sig"), entry.get("key_ops", ["verify"])
    if uses != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    serves = _algorithms(entry)
    named = entry.get("alg")
    if named is not None:
        serves = tuple(name for name in serves if name == named)
    if not serves:
        return None
    try:
        key = jwt.get_algorithm_by_name(serves[0]).from_jwk(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
        return None
    if "d" in entry:
        return None  # a private key, which nobody should publish
    kid = entry.get("kid")
    return PublicKey(kid if isinstance(kid, str) else None, serves, key)


def _algorithms(entry: dict[str, Any]) -> tuple[str, ...]:
    kind, curve = entry.get("kty"), entry.get("crv")
    if kind == "RSA":
        return ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    if kind == "EC" and curve in _CURVES:
        return (_CURVES[curve],)
    if kind == "OKP" and curve in ("Ed25519", "Ed448"):
        return ("EdDSA",)
    return ()


def keys_for(keys: Sequence[PublicKey], kid: str | None, algorithm: str) -> tuple[PublicKey, ...]:
    """Return the keys that could have signed such a token: the one with its id, or all without an id."""
    return tuple(key for key in keys if algorithm in key.algorithms and (kid is None or key.kid == kid))


def token_header(token: bytes) -> tuple[str | None, str]:
    """Return the key id and the algorithm that a token names, unverified; raises ValueError."""
    import jwt

    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from None
    kid, algorithm = header.get("kid"), header.get("alg")
    return (kid if isinstance(kid, str) else None), (algorithm if isinstance(algorithm, str) else "")


def discovered(document: bytes, issuer: str) -> str:
    """Return the `jwks_uri` of an OpenID configuration; raises KeySetError.

    The document must name the same issuer (OpenID Connect Discovery §4.3), and an https issuer https keys.
    """
    try:
        parsed = json.loads(document)
    except ValueError:
        raise KeySetError("the OpenID configuration is not JSON") from None
    if not isinstance(parsed, dict) or parsed.get("issuer") != issuer:
        raise KeySetError("the OpenID configuration names another issuer")
    uri = parsed.get("jwks_uri")
    allowed = ("https://",) if issuer.startswith("https://") else ("https://", "http://")
    if not isinstance(uri, str) or not uri.startswith(allowed):
        raise KeySetError("the OpenID configuration has no usable jwks_uri")
    return uri
