"""Which hosts a listener answers for, and which pages may call it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msctl.http.host_policy import HostPolicy, policy_of
from msctl.model.address import host_name

LOCAL = [
    "localhost",
    "localhost:8080",
    "LOCALHOST:8080",
    "localhost.",
    "users.localhost:8080",
    "a.b.Localhost.:80",
    "127.0.0.1:8080",
    "127.1.2.3",
    "[::1]:8080",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]:8080",
]
FOREIGN = [
    "evil.test",
    "evil.test:8080",
    "localhost.evil.test",
    "evillocalhost",
    ".localhost.evil",
    "127.0.0.1.evil.test",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "0.0.0.0:8080",
    "10.0.0.1",
    "[fe80::1]",
    "[::ffff:10.0.0.1]",
    "%6cocalhost",
]


def loopback(hosts: Sequence[str] | None = None, *named: str) -> HostPolicy:
    policy = policy_of("127.0.0.1", hosts, named)
    assert policy is not None
    return policy


@pytest.mark.parametrize("host", LOCAL)
def test_local_hosts_are_allowed(host: str) -> None:
    assert loopback().check_host(host_name(host)) is None


@pytest.mark.parametrize("host", FOREIGN)
def test_other_hosts_are_421(host: str) -> None:
    denial = loopback(["shop.test"]).check_host(host_name(host))
    assert denial is not None
    assert denial.status == 421
    assert "hosts under [gateway]" in denial.detail


@given(st.text(max_size=30))
def test_a_host_is_local_or_refused(text: str) -> None:
    host = host_name(text)
    if loopback().check_host(host) is None:
        assert not host or host.endswith("localhost") or host.startswith(("127.", "[", ":")) or host == "::1"


def test_configured_and_routed_hosts_are_allowed() -> None:
    policy = loopback(["Shop.test", "fd00::1", "*.preview.test"], "api.test", "*.tenants.test")
    for host in ("shop.test:8080", "[fd00::1]", "a.preview.test", "api.test.", "x.y.tenants.test"):
        assert policy.check_host(host_name(host)) is None, host
    for host in ("preview.test", ".preview.test", "tenants.test", "a.shop.test"):
        assert policy.check_host(host_name(host)) is not None, host


@pytest.mark.parametrize(
    ("listen", "hosts", "answers"),
    [
        ("127.0.0.1", None, False),
        ("localhost", None, False),
        ("::1", [], False),
        ("127.0.0.1", ["*"], True),
        ("0.0.0.0", None, True),
        ("192.168.1.2", None, True),
        ("0.0.0.0", ["shop.test"], False),
        ("::", [], False),
    ],
)
def test_a_listener_beyond_loopback_answers_for_any_host_unless_configured(
    listen: str, hosts: list[str] | None, answers: bool
) -> None:
    policy = policy_of(listen, hosts, [])
    assert (policy is None or policy.check_host("evil.test") is None) is answers


PAGE = "https://evil.test"


@pytest.mark.parametrize(
    ("method", "upgrade", "origins", "site", "allowed"),
    [
        ("POST", False, [], None, True),
        ("POST", False, [], "same-origin", True),
        ("POST", False, [], "none", True),
        ("POST", False, [], "cross-site", False),
        ("POST", False, [PAGE], None, False),
        ("POST", False, [PAGE], "cross-site", False),
        ("POST", False, ["null"], "cross-site", False),
        ("POST", False, ["http://localhost:8080", PAGE], None, False),
        ("POST", False, ["http://localhost:8080"], "same-origin", True),
        ("POST", False, ["http://localhost:5173"], "same-site", True),
        ("POST", False, ["http://127.0.0.1:5173"], "cross-site", True),
        ("POST", False, ["https://app.localhost"], "cross-site", True),
        ("POST", False, ["https://shop.test"], "cross-site", True),
        ("POST", False, ["http://localhost.evil.test"], "cross-site", False),
        ("POST", False, ["chrome-extension://localhost"], "none", False),
        ("DELETE", False, [PAGE], "cross-site", False),
        ("PURGE", False, [PAGE], "cross-site", False),
        ("GET", False, [PAGE], "cross-site", True),
        ("OPTIONS", False, [PAGE], "cross-site", True),
        ("GET", True, [PAGE], "cross-site", False),
        ("GET", True, ["http://localhost:8080"], "same-origin", True),
        ("GET", True, [], None, True),
    ],
)
def test_unsafe_requests_of_foreign_pages_are_403(
    method: str, upgrade: bool, origins: list[str], site: str | None, allowed: bool
) -> None:
    denial = loopback(["shop.test"]).check_page(method, upgrade=upgrade, origins=origins, fetch_site=site)
    assert (denial is None) is allowed
    assert denial is None or (denial.status, "hosts under [gateway]" in denial.detail) == (403, True)


def test_pages_are_not_checked_beyond_loopback() -> None:
    policy = policy_of("0.0.0.0", ["shop.test"], [])
    assert policy is not None
    assert policy.check_page("POST", upgrade=False, origins=[PAGE], fetch_site="cross-site") is None
