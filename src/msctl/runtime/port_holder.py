"""Names the running stack that holds a port which this one needs."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msctl.control.paths import running_stacks
from msctl.control.record import StackRecord, read_record
from msctl.errors import MsctlError, PortTakenError

_PORT = re.compile(r":(\d+)(?=/|$)")


@contextmanager
def naming_stacks(env: Mapping[str, str]) -> Iterator[None]:
    """Let a PortTakenError name the project of this user's stack that holds the port, if one does."""
    try:
        yield
    except PortTakenError as error:
        records = [record for record in _others(env) if error.port in _ports(record)]
        if not records:
            raise
        raise _used_by(records[0], error, list(_others(env))) from error


def _used_by(holder: StackRecord, error: PortTakenError, running: list[StackRecord]) -> PortTakenError:
    where = "built-in" if holder.root is None else holder.root
    alone = [record.project for record in running].count(holder.project) == 1
    which = f"--project {holder.project}" if alone or holder.root is None else f"--file {holder.root}"
    return PortTakenError(
        f"port {error.port} is already used by project {holder.project!r} ({where}); "
        f"{error.service!r} needs it",
        hint=f"stop it with: msctl {which} down; or run this one on free ports: msctl up --isolated",
        port=error.port,
        service=error.service,
    )


def _others(env: Mapping[str, str]) -> Iterator[StackRecord]:
    try:
        found = running_stacks(env)
    except MsctlError:
        return
    for paths in found:
        record = read_record(paths)
        if record is not None and record.pid != os.getpid():
            yield record


def _ports(record: StackRecord) -> set[int]:
    urls = (*record.addresses, record.broker_url or "", record.dashboard_url or "")
    return {int(match[1]) for url in urls if (match := _PORT.search(url.rpartition("@")[2]))}
