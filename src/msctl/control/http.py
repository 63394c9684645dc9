"""One HTTP exchange over a Unix socket, for a client that must start at once.

http.client imports email and ssl, which take half as long again as all else that `msctl status`
does. Speaking HTTP/1.0 to our own server needs little: its answer has no chunks, and ends with the
connection (RFC 9112 section 6.3, rule 8).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

MAX_HEAD = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back: `body` is read until its end, or left early; close it either way."""

    status: int
    body: BinaryIO
    socket: socket.socket

    def close(self) -> None:
        self.body.close()
        self.socket.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def exchange(path: str, method: str, target: str, payload: bytes, timeout: float | None) -> Answer:
    """Send one request to the socket at `path`; returns when the head of its answer is there.

    `timeout` is in seconds for each wait. Raises OSError (TimeoutError too) where there is no server
    or it goes, and ValueError for an answer that is not HTTP.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        head = f"{method} {target} HTTP/1.0\r\nHost: msctl\r\nContent-Length: {len(payload)}\r\n\r\n"
        connection.sendall(head.encode("ascii") + payload)
        reader = connection.makefile("rb")
        return Answer(_status(reader), reader, connection)
    except BaseException:
        connection.close()
        raise


def _status(reader: BinaryIO) -> int:
    """The status of the answer, its header fields passed over."""
    line = reader.readline(MAX_HEAD)
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ConnectionError("the server went before it answered") if not line else ValueError(repr(line))
    left = MAX_HEAD
    while (field := reader.readline(left)) not in (b"\r\n", b"\n"):
        left -= len(field)
        if not field or left <= 0:
            raise ValueError("the head of the answer does not end")
    return int(rest[:3])
