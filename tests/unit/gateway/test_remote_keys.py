"""Keys fetched from an issuer: which tokens they verify, when they are fetched again, and what goes wrong."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from msctl.gateway.message.problems import ProblemError
from msctl.gateway.policies.bearer_token import bearer_token, token_of
from msctl.gateway.policies.jwks import KeySetError, discovered, keys_for, parse_key_set
from msctl.gateway.upstream.remote_keys import RETRY_S, STALE_S, RemoteKeys
from msctl.model.route_policies import JwtSpec
from msctl.secret import Secret
from tests.support.clock import FakeClock, settle

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
URL = "https://id.test/keys"


def jwk(key: Any, kid: str | None = None, **more: str) -> dict[str, Any]:
    algorithm = {"RSA": "RS256", "EC": "ES256"}.get(type(key).__name__[:3].strip("P_"), "EdDSA")
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = "RS256"
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = "ES256"
    entry = json.loads(jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key()))
    entry.pop("key_ops", None)
    return {**entry, **({} if kid is None else {"kid": kid}), **more}


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signed(key: Any, algorithm: str, kid: str | None = None, **claims: object) -> list[tuple[bytes, bytes]]:
    headers = None if kid is None else {"kid": kid}
    payload = {"exp": time.time() + 60, "sub": "ann", **claims}
    return [
        (
            b"Authorization",
            b"Bearer " + jwt.encode(payload, key, algorithm=algorithm, headers=headers).encode(),
        )
    ]


class Issuer:
    """Answers fetches with `answer`, or raises it."""

    def __init__(self, answer: bytes | Exception) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def checker(
    *keys: dict[str, Any], algorithms: Sequence[str] = ("RS256", "ES256", "EdDSA")
) -> Callable[..., str]:
    found = parse_key_set(document(*keys))
    return bearer_token(JwtSpec(jwks=URL, algorithms=tuple(algorithms)), "jwt", {}, lambda: found)


def refused(check: Callable[..., str], fields: list[tuple[bytes, bytes]]) -> str:
    with pytest.raises(ProblemError) as caught:
        check(fields)
    assert caught.value.problem.status == 401
    return caught.value.problem.detail


def test_keys_of_several_algorithms_verify_their_own_tokens() -> None:
    check = checker(jwk(RSA, "r"), jwk(EC, "e"), jwk(ED, "d"))
    assert check(signed(RSA, "RS256", "r")) == "ann"
    assert check(signed(EC, "ES256", "e")) == "ann"
    assert check(signed(ED, "EdDSA", "d")) == "ann"
    assert check(signed(EC, "ES256")) == "ann"  # without an id every key of its kind is tried
    assert "not known" in refused(check, signed(RSA, "RS256", "e"))
    assert "not known" in refused(check, signed(RSA, "RS256", "other"))
    assert "signature" in refused(check, signed(rsa.generate_private_key(65537, 2048), "RS256", "r"))
    assert "alg" in refused(check, signed(RSA, "PS256", "r"))


def test_a_public_key_is_never_a_shared_secret() -> None:
    public = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    check = checker(jwk(RSA, "r"), algorithms=("RS256", "HS256"))

    def forged(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = forged(b'{"alg":"HS256","kid":"r","typ":"JWT"}') + b"." + forged(b'{"sub":"eve","exp":9999999999}')
    token = head + b"." + forged(hmac.new(public, head, hashlib.sha256).digest())
    assert "not known" in refused(check, [(b"Authorization", b"Bearer " + token)])
    unsigned = forged(b'{"alg":"none"}') + b"." + forged(b'{"sub":"eve","exp":9999999999}') + b"."
    refused(check, [(b"Authorization", b"Bearer " + unsigned)])


def test_a_static_key_serves_beside_the_fetched_ones() -> None:
    found = parse_key_set(document(jwk(RSA, "r")))
    spec = JwtSpec(key_env="KEY", jwks=URL, algorithms=("RS256", "HS256"))
    check = bearer_token(spec, "jwt", {"KEY": Secret("s" * 32)}, lambda: found)
    assert check(signed(RSA, "RS256", "r")) == "ann"
    assert check(signed("s" * 32, "HS256")) == "ann"
    refused(check, signed("t" * 32, "HS256"))


def test_keys_that_do_not_verify_are_left_out() -> None:
    usable = jwk(EC, "e")
    keys = parse_key_set(
        document(
            jwk(RSA, "enc", use="enc"),
            {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
            {"kty": "RSA", "n": "!", "e": "AQAB"},
            {"kty": "EC", "crv": "P-999"},
            jwk(RSA, "wrong", alg="ES256"),
            {},
            usable,
        )
    )
    assert [(key.kid, key.algorithms) for key in keys] == [("e", ("ES256",))]
    assert keys_for(keys, "e", "RS256") == ()
    for bad in (b"", b"[]", b"{}", b'{"keys": {}}', document(), document({"kty": "oct", "k": "AA"})):
        with pytest.raises(KeySetError):
            parse_key_set(bad)


def test_discovery_believes_only_the_issuer_that_it_asked() -> None:
    good = {"issuer": "https://id.test", "jwks_uri": URL}
    assert discovered(json.dumps(good).encode(), "https://id.test") == URL
    for change in ({"issuer": "https://evil.test"}, {"jwks_uri": "http://id.test/keys"}, {"jwks_uri": 1}):
        with pytest.raises(KeySetError):
            discovered(json.dumps({**good, **change}).encode(), "https://id.test")
    with pytest.raises(KeySetError):
        discovered(b"<html>", "https://id.test")


async def test_keys_are_fetched_once_for_many_and_again_when_they_are_old() -> None:
    clock, issuer = FakeClock(), Issuer(document(jwk(EC, "one")))
    keys = RemoteKeys(JwtSpec(jwks=URL, refresh=60), clock, fetch=issuer.fetch)
    token = token_of(signed(EC, "ES256", "one"))
    await asyncio.gather(*(keys.prepare(token) for _ in range(20)))
    assert issuer.asked == [URL]
    await keys.prepare(token)
    clock.set(61)
    await keys.prepare(token)  # served by the keys at hand
    await settle()
    await keys.close()
    assert len(issuer.asked) == 2


async def test_a_refresh_shorter_than_the_usual_pause_is_kept() -> None:
    issuer, clock = Issuer(document(jwk(EC, "one"))), FakeClock()
    keys = RemoteKeys(JwtSpec(jwks=URL, refresh=2), clock, fetch=issuer.fetch)
    await keys.prepare(token_of(signed(EC, "ES256", "one")))
    issuer.answer = document(jwk(RSA, "two"))
    clock.set(3)
    await keys.prepare(token_of(signed(RSA, "RS256", "two")))
    assert [key.kid for key in keys.current()] == ["two"]
    assert len(issuer.asked) == 2
    await keys.close()


async def test_an_unknown_key_is_asked_for_once_in_a_while() -> None:
    clock, issuer = FakeClock(), Issuer(document(jwk(EC, "one")))
    keys = RemoteKeys(JwtSpec(jwks=URL), clock, fetch=issuer.fetch)
    token = token_of(signed(EC, "ES256", "two"))
    await keys.prepare(token_of(signed(EC, "ES256", "one")))
    for number in range(30):
        await keys.prepare(token_of(signed(EC, "ES256", f"unknown{number}")))
    assert len(issuer.asked) == 1
    clock.set(RETRY_S + 1)
    issuer.answer = document(jwk(EC, "two"))
    await asyncio.gather(*(keys.prepare(token) for _ in range(20)))
    assert len(issuer.asked) == 2
    assert [key.kid for key in keys.current()] == ["two"]
    for junk in (b"", b"x.y.z", token_of(signed("s" * 32, "HS256", "other"))):
        clock.set(clock.monotonic() + RETRY_S + 1)
        await keys.prepare(junk)
    assert len(issuer.asked) == 2
    await keys.close()


async def test_an_issuer_that_does_not_answer_is_a_503_and_is_found_later() -> None:
    clock, issuer = FakeClock(), Issuer(ConnectionError("connection refused"))
    keys = RemoteKeys(JwtSpec(issuer="https://id.test", discovery=True), clock, fetch=issuer.fetch)
    token = token_of(signed(EC, "ES256", "one"))
    for _ in range(5):
        with pytest.raises(ProblemError) as caught:
            await keys.prepare(token)
    assert caught.value.problem.status == 503
    assert "connection refused" in caught.value.problem.detail
    assert issuer.asked == ["https://id.test/.well-known/openid-configuration"]
    clock.set(2)
    issuer.answer = KeySetError("it answered 500")
    with pytest.raises(ProblemError, match="500"):
        await keys.prepare(token)
    await keys.close()


async def test_old_keys_serve_for_a_while_without_the_issuer() -> None:
    clock, issuer = FakeClock(), Issuer(document(jwk(EC, "one")))
    keys = RemoteKeys(JwtSpec(jwks=URL, refresh=60), clock, fetch=issuer.fetch)
    token = token_of(signed(EC, "ES256", "one"))
    await keys.prepare(token)
    issuer.answer = ConnectionError("gone")
    clock.set(STALE_S)
    await keys.prepare(token)
    clock.set(STALE_S + 100)
    with pytest.raises(ProblemError):
        await keys.prepare(token)
    await keys.close()
