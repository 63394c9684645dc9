"""Checks of a request that wait: for a password's hash, and for keys from an issuer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msctl.gateway.message.headers import Field
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.basic_auth import BasicAuth
from msctl.gateway.policies.bearer_token import token_of
from msctl.gateway.routing.route_settings import RouteSettings

MAX_HASHING = 2
"""Passwords that are hashed at once: the other threads and most of the time are for requests."""


MAX_WAITING = 64
"""Passwords that wait for it: whoever tries many must not keep the others waiting for long."""


class Access:
    """Runs the checks of all routes that wait; those that do not are in request/filters.py."""

    def __init__(self) -> None:
        self._hashing = asyncio.Semaphore(MAX_HASHING)
        self._waiting = 0

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
        if self._waiting >= MAX_WAITING:
            detail = "Too many passwords are being checked."
            raise ProblemError(Problem(503, detail, error="http_request_denied", retry_after=1.0))
        self._waiting += 1
        try:
            async with self._hashing:
                if not users.remembered(login) and not await asyncio.to_thread(users.verify, login):
                    raise users.refusal()
        finally:
            self._waiting -= 1
