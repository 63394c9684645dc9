"""Addresses, sockets, and who holds a port."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from msctl import ports
from msctl.errors import MsctlError
from msctl.model.address import Address


@pytest.mark.parametrize(
    ("address", "text", "url"),
    [
        (Address("127.0.0.1", 80), "127.0.0.1:80", "http://127.0.0.1:80"),
        (Address("0.0.0.0", 80), "0.0.0.0:80", "http://127.0.0.1:80"),
        (Address("::", 80), "[::]:80", "http://[::1]:80"),
        (Address("localhost", 80), "localhost:80", "http://localhost:80"),
    ],
)
def test_how_an_address_is_written(address: Address, text: str, url: str) -> None:
    assert (str(address), address.url) == (text, url)


def test_a_port_of_zero_is_chosen_once_for_all_addresses_of_a_name() -> None:
    bound = ports.bind(Address("localhost", 0), "a")
    assert len({sock.getsockname()[1] for sock in bound}) == 1
    for sock in bound:
        sock.close()


def test_a_holder_that_does_not_listen_is_not_invented() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert ports.describe_holder(port) == "another program (bound, but not listening)"


def test_a_chosen_port_is_free_the_same_for_a_key_and_not_one_to_avoid() -> None:
    first = ports.choose("127.0.0.1", "shop/web-2")
    assert ports.choose("127.0.0.1", "shop/web-2") == first
    assert ports.choose("127.0.0.1", "shop/web-2", frozenset({first})) != first
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", first))
        sock.listen()
        assert ports.choose("127.0.0.1", "shop/web-2") != first


def test_no_free_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_DYNAMIC", range(20_000, 20_001))
    with pytest.raises(MsctlError, match="no port from 20000 to 20000 is free"):
        ports.choose("127.0.0.1", "x", frozenset({20_000}))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
def test_a_port_that_needs_privileges_is_said() -> None:
    with pytest.raises(MsctlError) as caught:
        ports.bind(Address("127.0.0.1", 1), "web")
    assert "privileges" in (caught.value.hint or "")


@pytest.mark.both_loops
async def test_of_two_that_bound_one_port_the_second_to_listen_is_told() -> None:
    loop = asyncio.get_running_loop()
    first = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, start_serving=False)
    port = first.sockets[0].getsockname()[1]
    second = await loop.create_server(asyncio.Protocol, "127.0.0.1", port, start_serving=False)
    await ports.serve(first)
    try:
        with pytest.raises(OSError, match="Address already in use"):
            await ports.serve(second)
        assert not second.is_serving()
    finally:
        first.close()
