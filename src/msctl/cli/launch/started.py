"""What is shown after a start."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msctl.cli.output.service_lines import started_lines, trust_lines
from msctl.control.paths import StackPaths
from msctl.control.record import read_record
from msctl.model.project import Project
from msctl.model.snapshots import Snapshot


def started(project: Project, paths: StackPaths, snapshot: Snapshot, *, coloured: bool) -> Iterator[str]:
    """Show where everything is reached, and how to trust a development certificate."""
    record = read_record(paths)
    yield from started_lines(snapshot, None if record is None else record.dashboard_url, coloured=coloured)
    if project.gateway is not None and project.gateway.tls.dev:
        from msctl.tls.authority import Authority, data_folder

        yield from trust_lines(Authority(data_folder(os.environ)).file, snapshot)
