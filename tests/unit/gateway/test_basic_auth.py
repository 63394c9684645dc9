"""Users with hashed passwords: what is accepted, what is refused, and at which cost."""

from __future__ import annotations

import base64

import pytest

from msctl.errors import ConfigError
from msctl.gateway.message.problems import ProblemError
from msctl.gateway.policies.basic_auth import MAX_REMEMBERED, BasicAuth, Login, basic_auth
from msctl.gateway.policies.password_hash import HashError, verifier
from msctl.model.route_policies import BasicAuthSpec
from msctl.secret import Secret

HASHES = [
    "$6$2Wgwj21Mf8QRC8ay$XWmXJn64Jf8H01Cg/7Cmgc8i.hlrSrQeyUw/uhFh2HBY.cI3IJkVuM/tgW.g0TDU7F1XmcH3bxc4HPBXyY8XU.",
    "$5$jeppgYtzEvnoEzdb$CTTUYLAJS5VWEsp8sVH8rH51T2cat3KFcej3r8TPyI/",
    "$apr1$5NghArxJ$uR9Js2wNYscLkzAnEY0.M0",
    "$5$rounds=1500$abcdefgh$SwgXiROH.JIkodF3QlHXMdKkb6DvU.L4sCGhMwatWT2",
    "{SHA}0gvt3Y2jHiatasEi7s6tgIpjy8I=",
    "{SSHA}J6j2eNwNgjTRlB+3pNKwuPVuj7NzYWx0",
]


def sent(user: str, password: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", b"Basic " + base64.b64encode(user.encode() + b":" + password))]


def users(text: str) -> BasicAuth:
    return basic_auth(BasicAuthSpec(env="USERS"), "basic_auth", {"USERS": Secret(text)})


@pytest.mark.parametrize("hashed", HASHES)
def test_hashes_of_openssl_and_ldap_are_verified(hashed: str) -> None:
    check = verifier(hashed)
    assert check("pä$s wörd".encode())
    assert not check(b"pas word")
    assert not check(b"")


@pytest.mark.parametrize(
    "hashed",
    ["", "secret", "$1$abc$def", "$6$salt", "$6$rounds=999999999$salt$abc", "{SHA}AAAA", "{SHA}!", "{SSHA}"],
)
def test_what_is_no_hash_is_refused(hashed: str) -> None:
    with pytest.raises(HashError):
        verifier(hashed)


def test_a_right_password_is_remembered_and_another_is_not() -> None:
    auth = users(f"ann:{HASHES[0]}")
    right, wrong = (auth.login(sent("ann", password)) for password in ("pä$s wörd".encode(), b"no"))
    assert not auth.remembered(right)
    assert (auth.verify(right), auth.verify(wrong)) == (True, False)
    assert (auth.remembered(right), auth.remembered(wrong)) == (True, False)
    assert not auth.remembered(Login("an", b"n" + right.password))


def test_what_is_remembered_is_bounded() -> None:
    auth = BasicAuth({"ann": lambda _: True}, "x")
    logins = [Login("ann", b"%d" % number) for number in range(MAX_REMEMBERED + 10)]
    assert all(auth.verify(login) for login in logins)
    assert sum(auth.remembered(login) for login in logins) == MAX_REMEMBERED


def test_an_unknown_user_costs_a_verification_too() -> None:
    asked: list[bytes] = []
    auth = BasicAuth({"ann": lambda password: bool(asked.append(password))}, "x")  # type: ignore[func-returns-value]
    assert not auth.verify(Login("bob", b"a"))
    assert asked == [b"a"]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"Authorization", b"Bearer x")],
        [(b"Authorization", b"Basic")],
        [(b"Authorization", b"Basic !!!")],
        [(b"Authorization", b"Basic " + base64.b64encode(b"ann"))],
        [(b"Authorization", b"Basic " + base64.b64encode(b"\xff:a"))],
        sent("ann", b"a" * 257),
    ],
)
def test_a_request_without_usable_credentials_is_challenged(fields: list[tuple[bytes, bytes]]) -> None:
    auth = BasicAuth({"ann": lambda _: True}, "shop")
    with pytest.raises(ProblemError) as caught:
        auth.login(fields)
    assert caught.value.problem.status == 401
    assert (b"WWW-Authenticate", b'Basic realm="shop", charset="UTF-8"') in caught.value.problem.fields


def test_users_come_from_a_file_or_a_variable_and_errors_name_the_line() -> None:
    spec = BasicAuthSpec(file="/users")
    text = f"# who\n\nann:{HASHES[0]}\nbob:{HASHES[1]}\n"
    auth = basic_auth(spec, "basic_auth", {"/users": Secret(text)})
    assert auth.verify(Login("bob", "pä$s wörd".encode()))
    for bad, where in (("ann:x", "line 1"), ("\nann", "line 2"), (":x", "line 1"), ("# none", "no users")):
        with pytest.raises(ConfigError, match=where) as caught:
            basic_auth(spec, "basic_auth", {"/users": Secret(bad)})
        assert "basic_auth.file" in caught.value.message
    with pytest.raises(ConfigError, match="cannot read"):
        basic_auth(spec, "basic_auth", {})
    with pytest.raises(ConfigError, match="USERS is not set"):
        basic_auth(BasicAuthSpec(env="USERS"), "basic_auth", {})
    assert users(f"ann:{HASHES[0]}, bob:{HASHES[1]}").verify(Login("bob", "pä$s wörd".encode()))
