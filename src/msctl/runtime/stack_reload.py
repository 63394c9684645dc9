"""Applies an edited project to a running stack.

Everything that can be refused is read and checked before anything is changed. What then fails keeps its old
configuration: `StackParts.project` is the new project without what failed. One reload at a time.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from msctl.config.diff import diff, with_edited, without
from msctl.model.project import Project
from msctl.model.snapshots import GATEWAY
from msctl.model.views import ReloadResult
from msctl.runtime.reload_request import ProjectSource, refuse, rules_of
from msctl.runtime.stack_parts import StackParts
from msctl.tls.context import files


class StackReload:
    """Reads the project again from `source`."""

    def __init__(self, parts: StackParts, source: ProjectSource) -> None:
        self._parts = parts
        self._source = source
        self._lock = asyncio.Lock()

    async def run(self) -> ReloadResult:
        """Reload. Raises ConfigError for a project that is invalid, or cannot be applied."""
        parts = self._parts
        async with self._lock:
            await parts.faults.clear_all("reload")
            old, new = parts.project, await asyncio.to_thread(self._source.load)
            refuse(old, new)
            certificate = await asyncio.to_thread(parts.tls.read, new)
            definitions = await parts.embedded.read(new)
            edited = await asyncio.to_thread(parts.supervisor.edited)
            changes = with_edited(diff(old, new), old, new, edited)
            ruled = rules_of(old) != rules_of(new)
            if not changes:
                # Certificate files may have been replaced under the same names.
                return ReloadResult(
                    gateway=parts.tls.use(certificate), definitions=await parts.embedded.use(definitions)
                )
            if new.gateway is not None:
                parts.gateways.build(new)  # raises for invalid rules before anything is changed
            plan = parts.supervisor.prepare(new, changes)
            renewed = parts.tls.use(certificate)
            defined = await parts.embedded.use(definitions)
            await parts.observation.receive(new)
            gateway, parts.project = parts.gateways.current, new
            await self._readdress(new)
            failed = await plan.apply()
            parts.project = without(old, new, failed)
            if failed:
                await self._readdress(parts.project)
            if GATEWAY in failed:
                parts.gateways.current = gateway
            if parts.gateways.current is not None and (ruled or failed):
                parts.gateways.current.reconfigure(*rules_of(parts.project))
            parts.observation.reconfigure(parts.project)
            await plan.finish()
            return ReloadResult(
                added=tuple(name for name in changes.added if name not in failed),
                removed=changes.removed,
                restarted=tuple(name for name in changes.restarted if name not in failed),
                scaled=tuple(name for name in changes.scaled if name not in failed),
                updated=changes.updated,
                gateway=ruled or renewed,
                definitions=defined,
                failed=dict(failed),
            )

    async def _readdress(self, project: Project) -> None:
        """Look for the project's services on other machines, and listen on its service addresses."""
        if self._parts.discovery is not None:
            self._parts.discovery.reconfigure(project)
        await self._parts.addresses.open(project)

    async def watched_files(self) -> set[Path]:
        """The files whose edits a reload would apply."""
        project = self._parts.project
        sources = await asyncio.to_thread(self._parts.supervisor.files)
        users = {path for spec in project.services for route in spec.routes for path in route.key_files}
        definitions = project.broker.definitions
        defined = set() if definitions is None else {definitions}
        return {*self._source.files, *files(project), *users, *defined, *sources}
