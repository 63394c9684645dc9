"""Who may see the page and act through it."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from msctl.dashboard.access import AccessPolicy, RequestInfo
from msctl.secret import Secret

LOCAL = AccessPolicy(Secret("start-up"), Secret("the-token"))
OPEN = AccessPolicy(
    Secret("start-up"),
    Secret("the-token"),
    Secret("s3cret:x"),
    names=frozenset({"build.example", "0.0.0.0"}),
    anywhere=True,
)
SESSION = LOCAL.session.reveal()
GET = RequestInfo("GET", "/", ["localhost:8090"], session=SESSION)
POST = RequestInfo(
    "POST",
    "/api/services/users/stop",
    ["localhost:8090"],
    origin="http://localhost:8090",
    fetch_site="same-origin",
    session=SESSION,
    action_token="the-token",
    content_type="application/json",
)


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"anybody:{password}".encode()).decode()


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8090",
        "LOCALHOST.",
        "127.0.0.1:8090",
        "127.9.9.9",
        "[::1]:8090",
        "a.localhost:1",
    ],
)
def test_every_name_of_loopback_is_accepted(host: str) -> None:
    assert LOCAL.check(replace(GET, hosts=[host])) is None


@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["localhost", "localhost"],
        ["evil.example:8090"],
        ["localhost.evil.example"],
        ["10.0.0.1:8090"],
        ["169.254.169.254"],
        ["localhost:8090@evil.example"],
        ["localhost:x"],
        [""],
        ["[::1"],
    ],
)
def test_a_foreign_host_is_refused(hosts: list[str]) -> None:
    denial = LOCAL.check(replace(GET, hosts=hosts))
    assert denial is not None
    assert denial.status == 403


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:9000", "http://127.0.0.1:8090", "", "file://"],
)
def test_a_foreign_origin_is_refused(origin: str) -> None:
    for asked in (POST, GET, replace(POST, path="/metrics", method="GET")):
        assert LOCAL.check(replace(asked, origin=origin)) is not None


def test_our_own_page_may_act() -> None:
    assert LOCAL.check(POST) is None


def test_our_own_page_may_act_behind_a_proxy_that_speaks_tls() -> None:
    assert LOCAL.check(replace(POST, origin="https://localhost:8090")) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_cross_site_fetch_is_refused(site: str) -> None:
    assert LOCAL.check(replace(GET, path="/api/session", fetch_site=site)) is not None
    assert LOCAL.check(replace(GET, fetch_site=site, fetch_mode="no-cors")) is not None
    assert LOCAL.check(replace(POST, origin=None, fetch_site=site)) is not None


def test_a_link_from_another_site_may_be_followed() -> None:
    assert LOCAL.check(replace(GET, fetch_site="cross-site", fetch_mode="navigate")) is None
    followed = replace(GET, path="/api/session", fetch_site="cross-site", fetch_mode="navigate")
    assert LOCAL.check(followed) is not None


@pytest.mark.parametrize("token", [None, "", "the-toke", "the-token ", "ü"])
def test_acting_needs_the_token(token: str | None) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"):
        denial = LOCAL.check(replace(POST, method=method, action_token=token))
        assert denial is not None
        assert denial.status == 403


def test_an_action_must_be_json() -> None:
    denial = LOCAL.check(replace(POST, content_type="text/plain"))
    assert denial is not None
    assert denial.status == 415
    assert LOCAL.check(replace(POST, content_type="application/json; charset=utf-8")) is None


def test_beyond_loopback_a_password_is_required() -> None:
    asked = replace(GET, hosts=["10.0.0.7:8090"], session=None)
    denial = OPEN.check(asked)
    assert denial is not None
    assert denial.status == 401
    assert str(denial.challenge).startswith("Basic ")
    assert OPEN.check(replace(asked, authorization=basic("s3cret:x"))) is None
    for wrong in (basic("s3cret"), basic(""), "Bearer s3cret:x", "Basic !!!", "Basic", "Basic " + "w" * 3):
        assert OPEN.check(replace(asked, authorization=wrong)) is not None


def test_beyond_loopback_its_own_name_and_addresses_are_accepted() -> None:
    known = replace(GET, session=None, authorization=basic("s3cret:x"))
    for host in ("build.example:8090", "192.168.1.4", "[2001:db8::1]:8090", "localhost"):
        assert OPEN.check(replace(known, hosts=[host])) is None
    assert OPEN.check(replace(known, hosts=["other.example"])) is not None


def test_a_password_does_not_replace_the_token() -> None:
    asked = replace(POST, authorization=basic("s3cret:x"), action_token=None)
    assert OPEN.check(asked) is not None


def test_secrets_are_not_in_the_repr() -> None:
    assert "s3cret" not in repr(OPEN)
    assert "the-token" not in repr(OPEN)
    assert "start-up" not in repr(OPEN)


@pytest.mark.parametrize("session", [None, "", "start-up", "the-token", SESSION[:-1], SESSION + "0", "ü"])
def test_every_path_but_metrics_needs_the_cookie(session: str | None) -> None:
    for path in ("/", "/static/page.js", "/api/session", "/api/stream", "/api/traces", "/nothing"):
        denial = LOCAL.check(replace(GET, path=path, session=session))
        assert denial is not None
        assert denial.status == 401
        assert "msctl open" in denial.reason
    assert LOCAL.check(replace(POST, session=session)) is not None


def test_metrics_are_open_on_loopback_without_a_key() -> None:
    asked = replace(GET, path="/metrics", session=None)
    assert LOCAL.check(asked) is None
    assert OPEN.check(asked) is not None


def test_a_key_closes_metrics() -> None:
    closed = replace(LOCAL, metrics_key=Secret("m3trics"))
    asked = replace(GET, path="/metrics", session=None)
    denial = closed.check(asked)
    assert denial is not None
    assert (denial.status, denial.challenge) == (401, "Bearer")
    for wrong in ("Bearer", "Bearer m3tric", "Basic m3trics", "m3trics"):
        assert closed.check(replace(asked, authorization=wrong)) is not None
    assert closed.check(replace(asked, authorization="Bearer m3trics")) is None
    assert closed.check(replace(asked, session=SESSION)) is None
    # The key is for the metrics alone.
    assert closed.check(replace(asked, path="/", authorization="Bearer m3trics")) is not None
    assert replace(closed, token=None).check(asked) is not None


def test_without_the_token_the_page_is_open_and_no_cookie_is_valid() -> None:
    off = replace(LOCAL, token=None)
    assert off.check(replace(GET, session=None)) is None
    assert not off.accepts_token("")
    guarded = replace(off, password=Secret("pw"))
    assert guarded.check(replace(GET, session=guarded.session.reveal())) is not None


def test_the_cookie_does_not_reveal_the_token() -> None:
    assert "start-up" not in SESSION
    assert LOCAL.accepts_token("start-up")
    assert not LOCAL.accepts_token(SESSION)
