"""The dashboard's start-up token, in a file of the stack's private folder.

It stays the same over restarts, so that an open page reconnects.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

from msctl.control.paths import StackPaths
from msctl.files import FileTooLargeError, read_trusted, write_atomically
from msctl.secret import Secret

_LENGTH = 43
"""Characters of 256 bits in base64url."""


def dashboard_token(paths: StackPaths) -> Secret:
    """Read the token of the stack's folder, or create it. Raises UntrustedPathError.

    A token that cannot be kept, on a full disk for instance, is new in each run.
    """
    file = paths.folder / "dashboard-token"
    text = ""
    with suppress(OSError), paths.opened() as folder:
        with suppress(OSError, FileTooLargeError, UnicodeDecodeError):
            text = read_trusted(file, 1024, folder=folder).decode("ascii")
        if len(text) != _LENGTH:
            text = secrets.token_urlsafe(32)
            write_atomically(file, text.encode(), folder=folder)
    return Secret(text or secrets.token_urlsafe(32))
