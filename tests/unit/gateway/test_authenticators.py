"""Who a client is, by its key or token, and how a refusal says what is missing."""

from __future__ import annotations

import time
from collections.abc import Sequence

import jwt
import pytest

from msctl.errors import ConfigError
from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.api_keys import MIN_KEY, KeyListError, api_keys, parse_key_list
from msctl.gateway.policies.auth import Authenticator, credential, find_secret
from msctl.gateway.policies.bearer_token import bearer_token
from msctl.model.route_policies import JwtSpec
from msctl.model.route_spec import ApiKeySpec
from msctl.secret import Secret

SECRET = "a-shared-secret-of-more-than-32-bytes"
KEYS = "alice=alices-key-of-16-bytes,bob=bobs-key-of-16-bytes,Zm9yIG5vYm9keSBpbiBwYXJ0aWN1bGFy"


def keys(header: str = "X-Api-Key") -> Authenticator:
    return api_keys(ApiKeySpec("KEYS", header=header), "routes[0].api_key", {"KEYS": Secret(KEYS)})


def tokens(algorithms: tuple[str, ...] = ("HS256",), **more: object) -> Authenticator:
    spec = JwtSpec("SECRET", algorithms=algorithms, **more)  # type: ignore[arg-type]  # keys of the spec
    return bearer_token(spec, "routes[0].jwt", {"SECRET": Secret(SECRET)})


def bearer(scheme: str = "Bearer", *, key: str = SECRET, **claims: object) -> list[Field]:
    token = jwt.encode({"exp": time.time() + 60, "sub": "alice", **claims}, key, algorithm="HS256")
    return [(b"Authorization", f"{scheme} {token}".encode())]


def refusal(check: Authenticator, fields: Sequence[Field]) -> Problem:
    with pytest.raises(ProblemError) as caught:
        check(fields)
    return caught.value.problem


def challenge(problem: Problem) -> str:
    ((name, value),) = problem.fields
    assert (problem.status, problem.error, name) == (401, "http_request_denied", b"WWW-Authenticate")
    return value.decode()


def test_a_key_has_the_name_of_its_entry() -> None:
    check = keys()
    given = (b"alices-key-of-16-bytes", b"bobs-key-of-16-bytes", b"Zm9yIG5vYm9keSBpbiBwYXJ0aWN1bGFy")
    assert [check([(b"x-api-key", key)]) for key in given] == ["alice", "bob", "key 3"]


def test_a_second_key_is_refused_in_every_spelling_that_a_service_could_read() -> None:
    check = keys()
    for second in (b"X-API-Key", b"X_Api_Key", b"x-api_key"):
        fields = [(b"X-Api-Key", b"alices-key-of-16-bytes"), (second, b"forged")]
        assert refusal(check, fields).status == 400
    assert challenge(refusal(check, [(b"X_Api_Key", b"alices-key-of-16-bytes")]))


def test_a_missing_or_wrong_key_is_challenged_in_its_field() -> None:
    check = keys("X-Token")
    for fields in ([], [(b"X-Api-Key", b"alices-key-of-16-bytes")], [(b"x-token", b"alices-key-of-16-byte")]):
        assert challenge(refusal(check, fields)) == 'ApiKey realm="X-Token"'
    assert "in the field X-Token" in refusal(check, []).detail
    assert "not valid" in refusal(check, [(b"X-Token", b"x")]).detail


def test_a_repeated_credential_is_refused_and_the_connection_closed() -> None:
    fields = [(b"X-A", b"1"), (b"x-a", b"1")]
    with pytest.raises(ProblemError) as caught:
        credential(fields, "X-A")
    assert (caught.value.problem.status, caught.value.problem.close) == (400, True)
    assert (credential(fields[:1], "x-A"), credential(fields, "X-B")) == (b"1", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "entry 1 is empty"),
        (f"a={'k' * MIN_KEY},", "entry 2 is empty"),
        ("alice=", "entry 1 has no key"),
        (f"alice={'k' * (MIN_KEY - 1)}", "the key of entry 1 has fewer than 16 bytes"),
        ("alice=a key with a space in it", "a character other than visible ASCII"),
    ],
)
def test_a_key_list_is_refused_by_the_number_of_its_entry(text: str, message: str) -> None:
    with pytest.raises(KeyListError, match=message):
        parse_key_list(text)
    assert parse_key_list(f"alice={'k' * MIN_KEY}") == [("alice", Secret("k" * MIN_KEY))]


def test_a_secret_that_is_not_there_is_told_from_an_empty_one() -> None:
    secrets = {"EMPTY": Secret(" "), "FULL": Secret("x")}
    for variable, state in (("MISSING", "not set"), ("EMPTY", "empty")):
        with pytest.raises(
            ConfigError, match=f"^k: the environment variable {variable} is {state}$"
        ) as caught:
            find_secret(variable, "k", secrets, "set it")
        assert caught.value.hint == "set it"
    assert find_secret("FULL", "k", secrets, "set it") == Secret("x")


def test_a_tokens_subject_is_the_name_of_its_client() -> None:
    check = tokens()
    assert check(bearer()) == "alice"
    assert check(bearer("bEARER", sub="café")) == "caf\\xe9"
    assert check([(b"authorization", bearer()[0][1].replace(b" ", b"  "))]) == "alice"
    nameless = jwt.encode({"exp": time.time() + 60}, SECRET, algorithm="HS256")
    assert check([(b"Authorization", f"Bearer {nameless}".encode())]) == ""


def test_an_audience_is_checked_where_the_route_names_one() -> None:
    assert tokens()(bearer(aud="anybody")) == "alice"
    check = tokens(audience="shop")
    assert check(bearer(aud="shop")) == "alice"
    for fields in (bearer(aud="others"), bearer()):
        assert challenge(refusal(check, fields)) == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("value", [None, b"", b"Bearer", b"Bearer ", b"Basic YTpi", b"Basic", b"token"])
def test_without_a_token_one_is_asked_for(value: bytes | None) -> None:
    problem = refusal(tokens(), [] if value is None else [(b"Authorization", value)])
    assert challenge(problem) == "Bearer"
    assert "requires a bearer token" in problem.detail


def test_a_token_of_another_scheme_is_no_bearer_token() -> None:
    assert challenge(refusal(tokens(), bearer("Basic"))) == "Bearer"


@pytest.mark.parametrize(
    "fields",
    [
        bearer(exp=1),
        bearer(key="another-secret-of-more-than-32-bytes!"),
        [(b"Authorization", b"Bearer x.y.z")],
        [(b"Authorization", b"Bearer \xff")],
    ],
)
def test_an_invalid_token_is_challenged_as_such(fields: list[Field]) -> None:
    problem = refusal(tokens(), fields)
    assert challenge(problem) == 'Bearer error="invalid_token"'
    assert "is not valid: " in problem.detail
    assert not problem.detail.endswith("..")


def test_unsigned_tokens_cannot_be_asked_for() -> None:
    with pytest.raises(ConfigError, match="none cannot be verified"):
        tokens(("none",))
    with pytest.raises(ConfigError, match="XY256 cannot be verified"):
        tokens(("HS256", "XY256"))
