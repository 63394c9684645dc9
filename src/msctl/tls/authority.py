"""The local certificate authority for `--dev-tls`, kept in the user's data folder.

Name constraints (RFC 5280 §4.2.1.10) limit it to this machine and private networks: a stolen key cannot sign
for public names. msctl never changes the system's trust store.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from msctl.errors import MsctlError

log = logging.getLogger("msctl.tls")


def data_folder(env: Mapping[str, str]) -> Path:
    """The folder for persistent data (XDG Base Directory Specification). Raises MsctlError."""
    if chosen := env.get("MSCTL_DATA_DIR"):
        return Path(chosen).absolute()
    if (data := env.get("XDG_DATA_HOME")) and Path(data).is_absolute():
        return Path(data) / "msctl"
    if home := env.get("HOME"):
        return Path(home) / ".local" / "share" / "msctl"
    raise MsctlError(
        "no folder for the local certificate authority: HOME is not set",
        hint="set MSCTL_DATA_DIR to a folder of your own",
    )


class Authority:
    """The authority in a data folder; created with the first certificate."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "tls"

    @property
    def file(self) -> Path:
        """The authority's own certificate, for clients to trust."""
        return self.folder / "ca.pem"

    def certificate(self, host: str, now: datetime) -> Path:
        """Return a PEM file with a key and a certificate for this machine and `host`.

        Reuses the file, or replaces it if it expires soon or has other names. Raises ConfigError for a host
        that the authority may not sign for, MsctlError if the folder cannot be used.
        """
        from msctl.tls import issuing

        names = issuing.names_for(host)
        file = self.folder / f"{'localhost' if names == issuing.ALWAYS else names[-1]}.pem"
        try:
            with self._locked():
                secret = self.folder / "ca-key.pem"
                signer = issuing.kept_signer(_read(self.file), _read(secret), now)
                if signer is None:
                    signer = issuing.make_signer(now)
                    _write(secret, signer.key_pem)
                    _write(self.file, signer.certificate_pem, mode=0o644)
                    log.info("created a local certificate authority: %s", self.file)
                if not issuing.serves(_read(file), signer, names, now):
                    _write(file, issuing.issue(signer, names, now))
                    log.info("created a certificate for %s: %s", ", ".join(names), file)
        except OSError as error:
            raise MsctlError(
                f"cannot use {self.folder} for the local certificate authority: "
                f"{(error.strerror or str(error)).lower()}",
                hint="set MSCTL_DATA_DIR to a folder that you can write to",
            ) from error
        return file

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold an exclusive lock on the private folder: two stacks may start at once."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.folder.stat()
        if status.st_uid != os.getuid():
            raise PermissionError("it belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            self.folder.chmod(0o700)
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _write(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Replace the file atomically; a crash leaves the old one or none."""
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as stream:
        stream.write(content)
    draft.replace(path)
