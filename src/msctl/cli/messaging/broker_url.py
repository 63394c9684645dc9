"""Which broker `send` and `consume` talk to."""

from __future__ import annotations

from msctl.cli.options.global_options import GlobalOptions
from msctl.control.paths import is_locked
from msctl.control.record import read_record


def resolve_url(url: str | None, options: GlobalOptions) -> str:
    """Return `url`, else the broker of the project's running stack, else the configured one.

    Raises ConfigError.
    """
    if url is not None:
        return url
    _, paths = options.identify()
    record = read_record(paths) if is_locked(paths) else None
    if record is not None and record.broker_url is not None:
        return record.broker_url
    return options.load().project.broker.url
