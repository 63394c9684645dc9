"""The URL of a registry."""

from __future__ import annotations

import pytest

from msctl.errors import ConfigError
from msctl.model.address import Address
from msctl.model.registry_url import RegistryKind, parse_registry_url


def test_a_url_has_the_registrys_own_port_by_default_and_a_cluster_several_addresses() -> None:
    url = parse_registry_url("etcds://a.test,[fd00::1]:79/")
    assert (url.kind, url.tls) == (RegistryKind.ETCD, True)
    assert url.addresses == (Address("a.test", 2379, tls=True), Address("fd00::1", 79, tls=True))
    assert url.shown == "etcds://a.test:2379,[fd00::1]:79"
    assert parse_registry_url("consul://localhost").addresses == (Address("localhost", 8500),)


@pytest.mark.parametrize("password", ["p/w+x#y=@z", "p%2Fw+x%23y%3D%40z"])
def test_a_password_is_kept_apart_and_encoded(password: str) -> None:
    url = parse_registry_url(f"etcd://root:{password}@127.0.0.1:2379")
    assert (url.user, url.password.reveal()) == ("root", "p/w+x#y=@z")
    assert url.shown == "etcd://127.0.0.1:2379"
    assert parse_registry_url(url.text) == url


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("zookeeper://a", "scheme zookeeper"),
        ("localhost:2379", "no scheme"),
        ("etcd://", "host or port"),
        ("etcd://a:0", "host or port"),
        ("etcd://a:99999", "host or port"),
        ("etcd://a/path", "host or port"),
        ("etcd://root:hunter2@a b", "host or port"),
        ("etcd://:hunter2@a", "without a user"),
        ("consul://root:hunter2@a", "token"),
    ],
)
def test_an_unusable_url_is_refused_without_its_password(text: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_registry_url(text)
    said = f"{caught.value.message} {caught.value.hint}"
    assert reason in said
    assert "hunter2" not in said
