"""Which users listen on a local TCP port, and whether their AMQP server may be used unasked.

A port above 1023 is free for every user of the machine, so a server on the default port proves nothing:
it may belong to somebody who wants to read the messages. Trusted are the current user, root, and the
system account `rabbitmq`, as which packages run RabbitMQ.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from msctl.errors import BrokerError

RABBITMQ_ACCOUNT = "rabbitmq"
SYSTEM_ACCOUNTS = 1000
"""User ids below this one are system accounts, which only root can create."""
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
_LISTEN = "0A"
_ADDRESSES = frozenset(
    {
        "0100007F",  # 127.0.0.1
        "00000000",  # 0.0.0.0
        "0" * 32,  # ::
        "0" * 24 + "01000000",  # ::1
        "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    }
)
"""Loopback and wildcard addresses as the kernel's tables write them on little-endian machines."""


def check_owner(port: int, address: str) -> str:
    """The names of the users that listen on `port` on loopback; `address` is the broker's for messages.

    Raises BrokerError for a user that is not trusted, and if the owner cannot be determined.
    """
    uids = listener_uids(port)
    hint = (
        "to use it anyway, set url in [broker] of msctl.toml or AMQP_URL; "
        "for an embedded broker, set it to another port"
    )
    if not uids:
        raise BrokerError(
            f"an AMQP server answers at {address}, but its owner cannot be determined", hint=hint
        )
    for uid in sorted(uids):
        if not is_trusted(uid):
            raise BrokerError(
                f"the AMQP server at {address} is run by user {user_name(uid)!r}, not by you", hint=hint
            )
    return ", ".join(user_name(uid) for uid in sorted(uids))


def is_trusted(uid: int) -> bool:
    if uid in (os.getuid(), 0):
        return True
    return uid < SYSTEM_ACCOUNTS and user_name(uid) == RABBITMQ_ACCOUNT


def user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def listener_uids(port: int) -> frozenset[int]:
    """The users that listen on `port` on a loopback or wildcard address; empty if that is unknown."""
    tables = [path for path in _TABLES if path.exists()]
    if tables:
        return frozenset(uid for path in tables for uid in uids_in_table(path.read_text().splitlines(), port))
    # Without the kernel's tables, only the user's own processes can be asked.
    return frozenset({os.getuid()}) if port in _own_ports() else frozenset()


def uids_in_table(lines: Iterable[str], port: int) -> Iterator[int]:
    """The users of matching listeners in /proc/net/tcp or tcp6 (Linux, proc_net_tcp.txt)."""
    for line in lines:
        fields = line.split()
        if len(fields) < 8 or fields[3] != _LISTEN:
            continue
        address, _, number = fields[1].partition(":")
        if int(number, 16) == port and address in _ADDRESSES:
            yield int(fields[7])


def _own_ports() -> Iterator[int]:
    for process in psutil.process_iter():
        try:
            if process.uids().real == os.getuid():
                for item in process.net_connections(kind="tcp"):
                    if item.status == psutil.CONN_LISTEN:
                        yield int(item.laddr.port)
        except psutil.Error:
            continue
