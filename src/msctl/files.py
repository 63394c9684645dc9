"""Reading files that a user names: never more than a limit."""

from __future__ import annotations

from pathlib import Path


class FileTooLargeError(Exception):
    """A file has more bytes than its reader accepts."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(f"{path} is larger than {limit} bytes")
        self.limit = limit


def read_bounded(path: Path, limit: int) -> bytes:
    """The content of a file of at most `limit` bytes. Raises OSError and FileTooLargeError.

    Reads no more than that, whatever the file's size says: a pipe or a device has none.
    """
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise FileTooLargeError(path, limit)
    return content
