"""Ports that stay ours from the moment they are chosen."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port(host: str = "127.0.0.1") -> Iterator[int]:
    """A free port, held by a bound socket that never listens.

    The kernel gives it to nobody who asks for any port, while a server that sets SO_REUSEADDR, as
    asyncio's do, may bind and listen on it.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((host, 0))
        yield holder.getsockname()[1]
