"""Writes a set of files: nobody ever reads half a file, and a failure leaves no draft behind."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msctl.errors import MsctlError

DEFAULT_MODE = 0o644


def write_files(files: Mapping[Path, bytes], modes: Mapping[Path, int] | None = None) -> None:
    """Write every file, or none if one cannot be written. Raises MsctlError.

    Each is written as a draft of a random name in its folder (O_EXCL, so that no link planted there is
    followed), and renamed when all drafts are complete.
    """
    drafts: dict[Path, Path] = {}
    path = Path()
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            drafts[path] = Path(name)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
            drafts[path].chmod((modes or {}).get(path, DEFAULT_MODE))
        for path, draft in drafts.items():
            draft.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        for draft in drafts.values():
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def unwritable(path: Path, error: OSError) -> MsctlError:
    """Return the error for a file that cannot be written."""
    reason = (error.strerror or str(error)).lower()
    return MsctlError(f"cannot write {path}: {reason}", hint="choose a folder that you can write to")
