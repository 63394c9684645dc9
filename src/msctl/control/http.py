"""One HTTP/1.0 exchange over a Unix socket, for a client that must start fast.

http.client imports email and ssl, which would slow `msctl status` down by half. A response to an
HTTP/1.0 request is not chunked and ends with the connection (RFC 9112 §6.3, rule 8).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from types import TracebackType
from typing import BinaryIO

from msctl.control.peer import peer_uid
from msctl.errors import MsctlError
from msctl.files import describe_user, is_trusted_user

MAX_HEAD = 64 * 1024


class UntrustedPeerError(MsctlError):
    """Another user's process listens on the control socket."""


@dataclass(frozen=True)
class Response:
    """A response; `body` may be read in part. Close it in any case."""

    status: int
    body: BinaryIO
    socket: socket.socket

    def close(self) -> None:
        self.body.close()
        self.socket.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def exchange(path: str, method: str, target: str, payload: bytes, timeout: float | None) -> Response:
    """Send one request to the socket at `path` and read the head of the response.

    `timeout` is in seconds per operation. Raises OSError (including TimeoutError) if no server answers,
    ValueError if the response is not HTTP, UntrustedPeerError if another user's process listens.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
        # Another user's process would otherwise read the request and write the answer.
        if (uid := peer_uid(connection)) is not None and not is_trusted_user(uid):
            raise UntrustedPeerError(f"refusing to use {path}: {describe_user(uid)} listens on it")
        head = f"{method} {target} HTTP/1.0\r\nHost: msctl\r\nContent-Length: {len(payload)}\r\n\r\n"
        connection.sendall(head.encode("ascii") + payload)
        reader = connection.makefile("rb")
        return Response(_status(reader), reader, connection)
    except BaseException:
        connection.close()
        raise


def _status(reader: BinaryIO) -> int:
    """Read the status and skip the header fields."""
    line = reader.readline(MAX_HEAD)
    version, _, rest = line.partition(b" ")
    if not version.startswith(b"HTTP/1."):
        raise ConnectionError("the server closed the connection") if not line else ValueError(repr(line))
    left = MAX_HEAD
    while (field := reader.readline(left)) not in (b"\r\n", b"\n"):
        left -= len(field)
        if not field or left <= 0:
            raise ValueError("the head of the response does not end")
    return int(rest[:3])
