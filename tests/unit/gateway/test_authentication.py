"""Authentication: API keys and bearer tokens, what is refused at start and what in a request."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from msctl.discovery.registry import Registry
from msctl.errors import ConfigError
from msctl.gateway.app import Gateway
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.policies.api_keys import MIN_KEY, KeyListError, api_keys, parse_key_list
from msctl.gateway.policies.bearer_token import bearer_token
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.route_policies import JwtSpec
from msctl.model.route_spec import ApiKeySpec, RouteSpec
from msctl.secret import Secret
from tests.support.clock import FakeClock
from tests.unit.gateway.harness import KINDS, Harness, running, secrets_of

both = pytest.mark.parametrize("kind", KINDS)
KEY = "a-key-of-16-bytes"
OTHER = "another-key-of-many-bytes"


async def serve(gateway: Harness, kind: str = "hosted") -> None:
    async def plain(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application()
    app.router.add_route("*", "/x{rest:.*}", plain)
    await gateway.serve("x", app, kind)


# --- the list of API keys -------------------------------------------------------------------------

names = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,19}", fullmatch=True)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=","), min_size=MIN_KEY)
base64_keys = st.binary(min_size=MIN_KEY, max_size=64).map(lambda raw: base64.b64encode(raw).decode())


@given(st.lists(st.tuples(names, keys), min_size=1, max_size=5), st.sampled_from(["", " ", "\n "]))
def test_named_keys_are_read_as_written(pairs: list[tuple[str, str]], space: str) -> None:
    text = f"{space},{space}".join(f"{name}={key}" for name, key in pairs)
    assert [(name, key.reveal()) for name, key in parse_key_list(text)] == pairs


@given(base64_keys.filter(lambda key: not key.islower() and not key.isupper()))
def test_a_base64_key_needs_no_name(key: str) -> None:
    assert parse_key_list(key) == [("key 1", Secret(key))]


@given(st.text(max_size=80))
def test_every_accepted_key_is_long_and_part_of_the_list(text: str) -> None:
    try:
        found = parse_key_list(text)
    except KeyListError:
        return
    assert found
    for _, key in found:
        assert len(key.reveal()) >= MIN_KEY
        assert key.reveal() in text


@given(
    names | st.from_regex(r"[a-z][a-z0-9_.-]{20,60}", fullmatch=True), st.text("=", min_size=1, max_size=3)
)
def test_a_name_with_an_unset_key_is_an_error(name: str, mark: str) -> None:
    with pytest.raises(KeyListError):
        parse_key_list(f"ok={KEY},{name}{mark}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        f"{KEY},",
        "bob=",
        "bob=short",
        "short",
        f"={KEY}",
        "c2VjcmV0LWtleS1pbi1iYXNl=",
        "the-name-of-a-partner-w=",
        "a-name-that-is-too-long-for-a-name=" + KEY,
        f"bob={KEY}\x7f",
        f"bob={KEY}é",
        f"bob={KEY} {KEY}",
    ],
)
def test_a_list_outside_the_grammar_is_an_error_without_its_text(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        api_keys(
            ApiKeySpec("SHOP_KEYS"), "services.x.routes: /x: api_key.env", secrets_of({"SHOP_KEYS": text})
        )
    error = caught.value
    assert "SHOP_KEYS" in error.message
    assert "api_key.env" in error.message
    for part in filter(None, (part.strip() for part in text.replace("=", ",").split(","))):
        assert part not in f"{error.message} {error.hint}", part


@pytest.mark.parametrize("given", [b"", b"=", b"\xff" * 20, b"key 1", b"bob", b"*", KEY.encode()[:-1]])
def test_no_other_value_is_a_key(given: bytes) -> None:
    text = f"bob={KEY}, {base64.b64encode(b'0123456789abcdef').decode()}"
    check = api_keys(ApiKeySpec("KEYS"), "key", secrets_of({"KEYS": text}))
    with pytest.raises(ProblemError) as caught:
        check([(b"X-API-Key", given)])
    assert caught.value.problem.status == 401


@both
async def test_an_empty_api_key_is_401(kind: str) -> None:
    key = base64.b64encode(b"0123456789abcdef").decode()
    route = RouteSpec("/x", "x", api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": key}) as gateway:
        await serve(gateway, kind)
        assert (await gateway.get("/x", ("X-API-Key", ""))).status == 401
        assert (await gateway.get("/x", ("X-API-Key", key))).status == 200


# --- keys and tokens of requests ------------------------------------------------------------------


@both
async def test_a_valid_api_key_is_accepted(kind: str) -> None:
    route = RouteSpec("/x", "x", api_key=ApiKeySpec("SHOP_KEYS"))
    async with running(route, environ={"SHOP_KEYS": f"alice={KEY}, {OTHER}"}) as gateway:
        await serve(gateway, kind)
        assert (await gateway.get("/x")).status == 401
        wrong = await gateway.get("/x", ("X-API-Key", "wrong"))
        assert (wrong.status, wrong.get("WWW-Authenticate")) == (401, 'ApiKey realm="X-API-Key"')
        assert (await gateway.get("/x", ("X-API-Key", KEY))).status == 200
        assert (await gateway.get("/x", ("X-API-Key", OTHER))).status == 200


async def test_a_401_comes_before_the_body_is_asked_for() -> None:
    async with running(RouteSpec("/x", "x", api_key=ApiKeySpec("KEYS")), environ={"KEYS": KEY}) as gateway:
        client = await gateway.client()
        await client.send(b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        reply = await client.head()
    assert (reply.status, reply.get("Connection")) == (401, "close")


SECRET = "a secret of more than sixty-four bytes, which is what HMAC with SHA-512 asks for"


def token(claims: Mapping[str, object], key: str = SECRET, algorithm: str = "HS256") -> tuple[str, str]:
    return "Authorization", f"Bearer {jwt.encode(dict(claims), key, algorithm)}"


async def test_a_valid_token_is_accepted() -> None:
    spec = JwtSpec("JWT_KEY", audience="shop", issuer="idp")
    good = {"exp": time.time() + 60, "aud": "shop", "iss": "idp", "sub": "alice"}
    async with running(RouteSpec("/x", "x", jwt=spec), environ={"JWT_KEY": SECRET}) as gateway:
        await serve(gateway)
        assert (await gateway.get("/x", token(good))).status == 200
        refused = [
            None,
            ("Authorization", "Basic eA=="),
            ("Authorization", "Bearer nonsense"),
            token(good, SECRET[::-1]),
            token(good, SECRET, "HS512"),
            token({**good, "exp": time.time() - 60}),
            token({key: value for key, value in good.items() if key != "exp"}),
            token({**good, "aud": "other"}),
            token({**good, "iss": "other"}),
            ("Authorization", "Bearer " + jwt.encode(good, "", "none")),
        ]
        for field in refused:
            reply = await gateway.get("/x", *([field] if field else []))
            assert reply.status == 401, field
            assert (reply.get("WWW-Authenticate") or "").startswith("Bearer")


@pytest.mark.parametrize(
    ("algorithm", "key"),
    [("RS256", rsa.generate_private_key(65537, 2048)), ("ES256", ec.generate_private_key(ec.SECP256R1()))],
)
async def test_a_token_signed_with_a_private_key_is_checked_with_the_public_one(
    algorithm: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    route = RouteSpec("/x", "x", jwt=JwtSpec("JWT_KEY", algorithms=(algorithm,)))
    good = {"exp": time.time() + 60, "sub": "alice"}
    signed = jwt.encode(good, key, algorithm)
    async with running(route, environ={"JWT_KEY": public}) as gateway:
        await serve(gateway)
        assert (await gateway.get("/x", ("Authorization", f"Bearer {signed}"))).status == 200
        assert (await gateway.get("/x", ("Authorization", f"Bearer {signed[:-8]}AAAAAAAA"))).status == 401
        # The public key is no secret: it must not pass for one.
        header, payload = signed.split(".")[:2]
        forged = jwt.encode(good, SECRET, "HS256")
        assert (await gateway.get("/x", ("Authorization", f"Bearer {forged}"))).status == 401
        assert (await gateway.get("/x", ("Authorization", f"Bearer {header}.{payload}."))).status == 401


def test_a_key_that_does_not_fit_its_algorithm_is_a_configuration_error() -> None:
    route = RouteSpec("/x", "x", jwt=JwtSpec("JWT_KEY", algorithms=("RS256",)))
    with pytest.raises(ConfigError, match=r"JWT_KEY .*RS256"):
        Gateway(
            GatewaySpec(), [route], Registry(), clock=FakeClock(), secrets=secrets_of({"JWT_KEY": SECRET})
        )


@pytest.mark.parametrize(
    "route", [RouteSpec("/x", "x", api_key=ApiKeySpec("NO")), RouteSpec("/x", "x", jwt=JwtSpec("NO"))]
)
def test_a_missing_key_is_a_configuration_error(route: RouteSpec) -> None:
    with pytest.raises(ConfigError, match="NO"):
        Gateway(GatewaySpec(), [route], Registry(), clock=FakeClock(), secrets={})


@pytest.mark.parametrize("algorithm", ["none", "HS1"])
def test_a_signature_that_cannot_be_checked_is_a_configuration_error(algorithm: str) -> None:
    route = RouteSpec("/x", "x", jwt=JwtSpec("KEY", algorithms=(algorithm,)))
    with pytest.raises(ConfigError, match=algorithm):
        Gateway(GatewaySpec(), [route], Registry(), clock=FakeClock(), secrets=secrets_of({"KEY": SECRET}))


@both
@pytest.mark.parametrize(
    ("name", "good"), [("Authorization", "bearer"), ("X-API-Key", KEY), ("authorization", "bearer")]
)
async def test_a_repeated_credential_is_400(kind: str, name: str, good: str) -> None:
    if good == "bearer":
        good = token({"exp": time.time() + 60})[1]
    route = RouteSpec(
        "/x", "x", api_key=ApiKeySpec("KEYS"), jwt=JwtSpec("JWT_KEY") if "uthor" in name else None
    )
    async with running(route, environ={"KEYS": KEY, "JWT_KEY": SECRET}) as gateway:
        await serve(gateway, kind)
        fields = [(name, good), (name, "forged")]
        if name != "X-API-Key":
            fields.append(("X-API-Key", KEY))
        assert (await gateway.get("/x", *fields)).status == 400
        assert (await gateway.get("/x", *fields[1:], fields[0])).status == 400
        assert (await gateway.get("/x", fields[0], *fields[2:])).status == 200


async def test_a_repeated_authorization_is_400_without_authentication_too() -> None:
    async with running(RouteSpec("/x", "x")) as gateway:
        await serve(gateway)
        fields = [("Authorization", "Bearer one"), ("Authorization", "Bearer two")]
        assert (await gateway.get("/x", *fields)).status == 400
        assert (await gateway.get("/x", fields[0])).status == 200


def unsigned(header: bytes) -> bytes:
    return b"Bearer " + base64.urlsafe_b64encode(header).rstrip(b"=") + b".e30.AA"


@pytest.mark.parametrize(
    "value",
    [
        b"Bearer \xff\xfe.\xff.\xff",
        b"Bearer " + "ключ".encode(),
        b"Bearer a.b.c",
        b"Bearer ..",
        unsigned(b"[" * 3000),
        unsigned(b'{"alg": {}}'),
        unsigned(b'{"alg": "HS256", "crit": ["\\ud800"]}'),
    ],
)
async def test_a_malformed_token_is_401_without_a_traceback(
    value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(RouteSpec("/x", "x", jwt=JwtSpec("JWT_KEY")), environ={"JWT_KEY": SECRET}) as gateway:
        await serve(gateway)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: " + value + b"\r\n\r\n")
        assert (await client.reply()).status == 401
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("payload", [b'{"exp": Infinity}', b'{"exp": 9e99, "x": ' + b"[" * 5000 + b"}"])
def test_a_signed_token_that_breaks_the_decoder_is_401(payload: bytes) -> None:
    check = bearer_token(JwtSpec("JWT_KEY"), "key", secrets_of({"JWT_KEY": SECRET}))
    signed = jwt.api_jws.encode(payload, SECRET, "HS256").encode()
    with pytest.raises(ProblemError) as caught:
        check([(b"Authorization", b"Bearer " + signed)])
    assert caught.value.problem.status == 401


@given(st.binary(max_size=200))
def test_no_token_makes_the_check_fail_otherwise(raw: bytes) -> None:
    check = bearer_token(JwtSpec("JWT_KEY"), "key", secrets_of({"JWT_KEY": SECRET}))
    signed = jwt.encode({"exp": time.time() + 60}, SECRET, "HS256").encode()
    for value in (raw, b"Bearer " + raw, b"Bearer " + signed[: len(raw)] + raw):
        with pytest.raises(ProblemError) as caught:
            check([(b"Authorization", value)])
        assert caught.value.problem.status == 401
        json.loads(caught.value.problem.body("hop", "id"))


async def test_a_key_that_is_not_utf_8_is_401(caplog: pytest.LogCaptureFixture) -> None:
    async with running(RouteSpec("/x", "x", api_key=ApiKeySpec("KEYS")), environ={"KEYS": KEY}) as gateway:
        await serve(gateway)
        client = await gateway.client()
        await client.send(b"GET /x HTTP/1.1\r\nHost: localhost\r\nX-API-Key: \xff\xfe\r\n\r\n")
        assert (await client.reply()).status == 401
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize(("algorithm", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_a_short_hmac_secret_is_a_configuration_error(algorithm: str, least: int) -> None:
    spec = JwtSpec("JWT_KEY", algorithms=(algorithm,))
    bearer_token(spec, "jwt.key_env", secrets_of({"JWT_KEY": "é" * (least // 2)}))
    for short in ("x", "s" * (least - 1)):
        with pytest.raises(ConfigError) as caught:
            bearer_token(spec, "jwt.key_env", secrets_of({"JWT_KEY": short}))
        assert "JWT_KEY" in caught.value.message
        assert "jwt.key_env" in caught.value.message
        assert short not in caught.value.message.replace("jwt.key_env", "").split() or short == "x"


@pytest.mark.parametrize("value", ["", "  ", "\udcff" * 40])
def test_an_unusable_token_secret_is_a_configuration_error(value: str) -> None:
    with pytest.raises(ConfigError, match="JWT_KEY"):
        bearer_token(JwtSpec("JWT_KEY"), "jwt.key_env", secrets_of({"JWT_KEY": value}))


async def test_a_key_can_be_replaced_at_runtime() -> None:
    route = RouteSpec("/x", "x", api_key=ApiKeySpec("KEYS"))
    async with running(route, environ={"KEYS": KEY}) as gateway:
        await serve(gateway)

        async def statuses() -> list[int]:
            return [(await gateway.get("/x", ("X-API-Key", key))).status for key in (KEY, OTHER)]

        with pytest.raises(ConfigError, match="KEYS"):
            gateway.gateway.reconfigure(GatewaySpec(), [route], secrets={})
        gateway.gateway.reconfigure(GatewaySpec(), [route])
        assert await statuses() == [200, 401]
        gateway.gateway.reconfigure(GatewaySpec(), [route], secrets=secrets_of({"KEYS": OTHER}))
        assert await statuses() == [401, 200]
