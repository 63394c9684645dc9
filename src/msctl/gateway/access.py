"""Checks of a request that wait: for a password's hash, and for keys from an issuer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msctl.gateway.message.headers import Field
from msctl.gateway.policies.basic_auth import BasicAuth
from msctl.gateway.policies.bearer_token import token_of
from msctl.gateway.routing.route_settings import RouteSettings

MAX_HASHING = 2
"""Passwords that are hashed at once: the other threads and most of the time are for requests."""


class Access:
    """Runs the checks of all routes that wait; those that do not are in request/filters.py."""

    def __init__(self) -> None:
        self._hashing = asyncio.Semaphore(MAX_HASHING)

    async def check(self, settings: RouteSettings, fields: Sequence[Field]) -> None:
        """Raises ProblemError (400, 401, 503)."""
        if settings.keys is not None:
            await settings.keys.prepare(token_of(fields))
        if settings.users is not None:
            await self._check_password(settings.users, fields)

    async def _check_password(self, users: BasicAuth, fields: Sequence[Field]) -> None:
        login = users.login(fields)
        if users.remembered(login):
            return
        async with self._hashing:
            if not users.remembered(login) and not await asyncio.to_thread(users.verify, login):
                raise users.refusal()
