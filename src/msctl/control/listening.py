"""The listening end of the control socket, made before the stack is.

A stack takes a moment to load. Its socket listens from the moment it holds its lock: the kernel keeps the
connections of verbs until the control server accepts them.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from msctl.forks import close_socket_in_forks

BACKLOG = 128


def listen(path: Path) -> socket.socket:
    """Listen on `path` (mode 0600). The caller holds the stack's lock: an existing one is stale."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    close_socket_in_forks(listening)
    old = os.umask(0o177)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(old)
    return listening
