"""Which addresses clash, and which stay on this machine."""

from __future__ import annotations

import pytest

from msctl.model.address import Address, is_loopback, local_host


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.2", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("x", False),
        ("127.example", False),
        ("10.0.0.1", False),
    ],
)
def test_loopback_is_localhost_and_its_addresses(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        (Address("127.0.0.1", 1), Address("127.0.0.1", 1), True),
        (Address("127.0.0.1", 1), Address("127.0.0.1", 2), False),
        (Address("127.0.0.1", 0), Address("127.0.0.1", 0), False),
        (Address("127.0.0.1", 1), Address("127.0.0.2", 1), False),
        (Address("127.0.0.1", 1), Address("::1", 1), False),
        (Address("localhost", 1), Address("127.0.0.1", 1), True),
        (Address("localhost", 1), Address("[::1]", 1), True),
        (Address("localhost", 1), Address("10.0.0.1", 1), False),
        (Address("0.0.0.0", 1), Address("10.0.0.1", 1), True),
        (Address("127.0.0.1", 1, tls=True), Address("127.0.0.1", 1), True),
    ],
)
def test_addresses_overlap_if_both_cannot_be_bound(one: Address, other: Address, overlap: bool) -> None:
    assert one.overlaps(other) is overlap
    assert other.overlaps(one) is overlap


@pytest.mark.parametrize(
    ("host", "local"), [("0.0.0.0", "127.0.0.1"), ("", "127.0.0.1"), ("::", "::1"), ("shop", "shop")]
)
def test_a_wildcard_is_reached_over_loopback(host: str, local: str) -> None:
    assert local_host(host) == local
