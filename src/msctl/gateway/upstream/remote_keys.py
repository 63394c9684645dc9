"""Public keys fetched from an issuer, and fetched again: when they are old, and for an unknown key.

Bounds: one fetch at a time, of MAX_DOCUMENT bytes within TIMEOUT_S. An unknown key causes one fetch in
RETRY_S (or `refresh`) at most, however many tokens name one, so that nobody can make the gateway hammer the
issuer. While the issuer does not answer, the keys that were fetched last serve for STALE_S more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msctl.clock import AsyncClock
from msctl.gateway.message.problems import Problem, ProblemError
from msctl.gateway.policies.jwks import (
    MAX_DOCUMENT,
    KeySetError,
    PublicKey,
    discovered,
    parse_key_set,
    token_header,
)
from msctl.model.route_policies import JwtSpec

RETRY_S = 10.0
FIRST_RETRY_S = 1.0
"""The pause between fetches while there are no keys at all, and the shortest of all."""
STALE_S = 3600.0
TIMEOUT_S = 5.0
DISCOVERY = "/.well-known/openid-configuration"

Fetch = Callable[[str], Awaitable[bytes]]
"""Returns the body of a URL; raises OSError or KeySetError."""


async def fetch(url: str) -> bytes:
    """Get a document; raises OSError if it cannot be reached, KeySetError for another answer than 200."""
    from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

    try:
        async with (
            ClientSession(timeout=ClientTimeout(total=TIMEOUT_S), cookie_jar=DummyCookieJar()) as session,
            session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as response,
        ):
            if response.status != 200:
                raise KeySetError(f"{url} answered {response.status}")
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > MAX_DOCUMENT:
                    raise KeySetError(f"{url} sent more than {MAX_DOCUMENT} bytes")
            return bytes(body)
    except TimeoutError:
        raise TimeoutError(f"{url} did not answer within {TIMEOUT_S:g} s") from None
    except ClientError as error:
        raise ConnectionError(str(error)) from error


class RemoteKeys:
    """The keys of one issuer."""

    def __init__(
        self,
        spec: JwtSpec,
        clock: AsyncClock,
        *,
        fetch: Fetch = fetch,
        log: logging.Logger | None = None,
    ) -> None:
        self._spec = spec
        self._now = clock.monotonic
        self._fetch = fetch
        self._log = log or logging.getLogger("msctl.gateway")
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_at = 0.0
        self._tried_at: float | None = None
        self._failure = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def source(self) -> str:
        return self._spec.jwks or f"{self._spec.issuer}{DISCOVERY}"

    def current(self) -> tuple[PublicKey, ...]:
        """Return the keys fetched last."""
        return self._keys

    async def prepare(self, token: bytes) -> None:
        """Fetch keys if this token calls for it; raises ProblemError (503) if there are none to be had."""
        now = self._now()
        age = now - self._fetched_at
        if not self._keys or age > self._spec.refresh + STALE_S:
            await self._refreshed(FIRST_RETRY_S)
            if not self._keys or self._now() - self._fetched_at > self._spec.refresh + STALE_S:
                raise self._problem()
        elif self._is_unknown(token):
            await self._refreshed(self._pause)
        elif age > self._spec.refresh:
            self._start(self._pause)  # those at hand serve this request

    @property
    def _pause(self) -> float:
        """The pause between fetches while there are keys: RETRY_S, or less if `refresh` is shorter."""
        return max(FIRST_RETRY_S, min(RETRY_S, self._spec.refresh))

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _is_unknown(self, token: bytes) -> bool:
        try:
            kid, algorithm = token_header(token)
        except ValueError:
            return False
        if kid is None or algorithm.startswith("HS") or algorithm not in self._spec.accepted:
            return False
        return all(key.kid != kid for key in self._keys)

    async def _refreshed(self, pause: float) -> None:
        self._start(pause)
        if self._task is not None:
            await asyncio.shield(self._task)  # a client that leaves must not end it for the others

    def _start(self, pause: float) -> None:
        """Begin a fetch, unless one runs or the last one began less than `pause` seconds ago."""
        if self._task is not None or (self._tried_at is not None and self._now() - self._tried_at < pause):
            return
        self._tried_at = self._now()
        self._task = asyncio.get_running_loop().create_task(self._update())
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._task is task:
            self._task = None

    async def _update(self) -> None:
        try:
            self._keys = parse_key_set(await self._fetch(await self._locate()))
            self._fetched_at = self._now()
            self._failure = ""
        except (OSError, KeySetError) as error:
            self._failure = str(error)
            self._log.warning("%s: cannot fetch the keys of tokens: %s", self.source, error)

    async def _locate(self) -> str:
        spec = self._spec
        if spec.jwks is not None or spec.issuer is None:
            return spec.jwks or ""
        return discovered(await self._fetch(spec.issuer.rstrip("/") + DISCOVERY), spec.issuer)

    def _problem(self) -> ProblemError:
        detail = f"The keys for bearer tokens cannot be fetched from {self.source}: {self._failure}."
        return ProblemError(Problem(503, detail, error="destination_unavailable", retry_after=RETRY_S))
