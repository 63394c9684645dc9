"""The process at the other end of the control socket: its user, and whether it can accept connections."""

from __future__ import annotations

import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Protocol

_LINUX = struct.Struct("iII")
"""struct ucred: pid, uid, gid (unix(7))."""
_SOL_LOCAL, _LOCAL_PEERCRED = 0, 1
_XUCRED = struct.Struct("=IIh2x16I")
"""struct xucred of macOS and the BSDs: version, uid, number of groups, groups."""


class SocketOptions(Protocol):
    """A socket, or what an event loop's transport shows of one."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes: ...


def peer_uid(connection: SocketOptions) -> int | None:
    """The peer's user id; None on a system that does not tell. Raises OSError.

    For a client it is the user of the process that called listen(), for a server of the one that connected.
    """
    platform = str(sys.platform)  # mypy would call the other platform's code unreachable
    if platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _LINUX.size)
        return int(_LINUX.unpack(credentials)[1])
    if platform == "darwin":
        credentials = connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED.size)
        return int(_XUCRED.unpack(credentials)[1])
    return None


def open_descriptors(pid: int) -> tuple[int, int] | None:
    """The number of open files of a process and its limit; None where the system does not tell."""
    with suppress(OSError, ValueError, StopIteration):
        limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
        soft = next(line for line in limits if line.startswith("Max open files")).split()[3]
        return min(sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()), int(soft)), int(soft)
    return None
