"""A URL is read once, shown without its password, and refused with words that say what is wrong."""

from __future__ import annotations

import pytest

from msctl.errors import ConfigError
from msctl.model.broker_url import BrokerUrl, parse_url, redact
from msctl.secret import Secret


def test_everything_but_the_host_has_a_default() -> None:
    url = parse_url("amqp://localhost")
    assert (url.host, url.port, url.user, url.vhost, url.tls) == ("localhost", 5672, "guest", "/", False)


def test_tls_has_its_own_port() -> None:
    url = parse_url("amqps://broker.example/")
    assert (url.port, url.tls) == (5671, True)


def test_escapes_in_user_and_vhost_are_undone() -> None:
    url = parse_url("amqp://a%40b:p%2Fw@host:1/%2Fshop")
    assert (url.user, url.vhost) == ("a@b", "/shop")


def test_an_ipv6_address_is_shown_in_brackets() -> None:
    assert parse_url("amqp://[::1]:5673/").address == "[::1]:5673"


def test_the_password_is_never_shown() -> None:
    url = parse_url("amqp://me:hunter2@host:1/v?certfile=/secret.pem")
    assert url.shown == "amqp://me@host:1/v"
    assert "hunter2" not in repr(url)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://localhost/", "http://"),
        ("localhost:5672", "amqp://"),
        ("", "no scheme"),
        ("amqp://u:12/hunter2@host/", "'@' behind"),
        ("amqp://u:hunter2@ho st/", "invalid host"),
        ("amqp://u:hunter2@host/a#b", "'#'"),
        ("amqp:///vhost", "has no host"),
        ("amqp://u:hunter2@host:99999/", "port 99999"),
        ("amqp://u:hunter2@host:0/", "port 0"),
        ("amqp://u:hunter2@[::1/", "invalid host or port"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_configuration_error(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as failed:
        parse_url(text)
    assert why in failed.value.message
    assert "hunter2" not in failed.value.message
    assert failed.value.hint


@pytest.mark.parametrize(
    "password", ["pa/ss", "p+w", "12#34", "a=b", "p@ss", "a?b", "a:b", "x/y@z#?", "é %41"]
)
def test_password_with_reserved_characters_is_read_and_encoded(password: str) -> None:
    for text in (f"amqp://me:{password}@host:1/v", BrokerUrl("host", 1, "me", Secret(password), "v").text):
        url = parse_url(text)
        read = (url.user, url.password.reveal(), url.host, url.port, url.vhost)
        expected = password if text != f"amqp://me:{password}@host:1/v" else password.replace("%41", "A")
        assert read == ("me", expected, "host", 1, "v")
        assert parse_url(url.text) == url
        assert password not in f"{url.shown}{url!r}"
        assert url.shown == "amqp://me@host:1/v"


@pytest.mark.parametrize(
    "text", ["amqp://u:hunter2/x@h/", "amqp://u:12/hunter2@h/", "amqp://u:hunter2", "u:hunter2@h"]
)
def test_what_is_no_url_is_redacted_too(text: str) -> None:
    assert "hunter2" not in redact(text)


def test_valid_url_is_kept_as_it_is_written() -> None:
    for text in (
        "amqp://localhost",
        "amqp://guest:guest@localhost:5672/",
        "amqps://a:b@[::1]/%2Fv?heartbeat=5",
    ):
        assert parse_url(text).text == text


def test_changed_url_keeps_the_rest() -> None:
    url = parse_url("amqp://a:b@host:1/v?x=1").changed(port=2, user="c/d", password=Secret("e"))
    assert url.text == "amqp://c%2Fd:e@host:2/v?x=1"
    assert parse_url("amqp://[::1]:0/", any_port=True).changed(port=5).text == "amqp://guest:guest@[::1]:5/"
