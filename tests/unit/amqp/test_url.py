"""A URL is read once, shown without its password, and refused with words that say what is wrong."""

from __future__ import annotations

import pytest

from msctl.amqp.url import parse_url
from msctl.errors import ConfigError


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
        ("amqp:///vhost", "has no host"),
        ("amqp://u:hunter2@host:99999/", "out of range"),
        ("amqp://u:hunter2@host:0/", "port 0"),
        ("amqp://u:hunter2@[::1/", "is invalid"),
    ],
)
def test_a_url_that_cannot_be_used_is_a_configuration_error(text: str, why: str) -> None:
    with pytest.raises(ConfigError) as failed:
        parse_url(text)
    assert why in failed.value.message
    assert "hunter2" not in failed.value.message
    assert failed.value.hint
