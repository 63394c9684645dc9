"""The local certificate authority for `--dev-tls`, kept in the user's data folder.

Name constraints (RFC 5280 §4.2.1.10) limit it to this machine and private networks: a stolen key cannot sign
for public names. msctl never changes the system's trust store.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from msctl.errors import MsctlError
from msctl.files import (
    FileTooLargeError,
    create_private_folder,
    read_trusted,
    trusted_folder,
    write_atomically,
)

log = logging.getLogger("msctl.tls")
_MAX_SIZE = 1024 * 1024


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
                    write_atomically(secret, signer.key_pem)
                    write_atomically(self.file, signer.certificate_pem, mode=0o644)
                    log.info("created a local certificate authority: %s", self.file)
                if not issuing.serves(_read(file), signer, names, now):
                    write_atomically(file, issuing.issue(signer, names, now))
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
        create_private_folder(self.folder)
        with trusted_folder(self.folder) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield


def _read(path: Path) -> bytes:
    try:
        return read_trusted(path, _MAX_SIZE)
    except (FileNotFoundError, FileTooLargeError):
        return b""
