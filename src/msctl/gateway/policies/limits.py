"""Limits on how much: the token buckets of rate limiting and the budget of retries.

Pure: each takes a Clock. The table of buckets is bounded; the client that was seen longest ago is
forgotten first, which gives it a full bucket again.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from msctl.clock import Clock
from msctl.model.project import RateLimitSpec

MAX_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """`remaining` requests may follow at once; `reset` seconds until the bucket is full again;
    `retry_after` seconds until the next request is let through (0 when this one was)."""

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class RateLimiter:
    """Token buckets of one route, one for each client key."""

    def __init__(self, spec: RateLimitSpec, clock: Clock, *, clients: int = MAX_CLIENTS) -> None:
        self.spec = spec
        self._clock = clock
        self._clients = clients
        self._rate = spec.requests / spec.period
        self._burst = float(spec.requests if spec.burst is None else spec.burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> Verdict:
        """Take one token from the bucket of `key`."""
        now = self._clock.monotonic()
        tokens, since = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - since) * self._rate)
        allowed = tokens >= 1.0
        if allowed:
            tokens -= 1.0
        self._buckets[key] = (tokens, now)
        if len(self._buckets) > self._clients:
            self._buckets.popitem(last=False)
        wait = 0.0 if allowed else (1.0 - tokens) / self._rate
        return Verdict(allowed, int(tokens), (self._burst - tokens) / self._rate, wait)

    def fields(self, verdict: Verdict) -> tuple[tuple[bytes, bytes], ...]:
        """RateLimit and RateLimit-Policy, as the IETF's httpapi draft writes them."""
        policy = f'"default";q={int(self._burst)};w={math.ceil(self._burst / self._rate)}'
        state = f'"default";r={verdict.remaining};t={math.ceil(verdict.reset)}'
        return ((b"RateLimit-Policy", policy.encode()), (b"RateLimit", state.encode()))


class RetryBudget:
    """Keeps retries from multiplying an outage: at most `ratio` of the requests of the last
    `window` seconds, plus `floor` a second."""

    def __init__(
        self, clock: Clock, *, ratio: float = 0.2, floor: float = 10.0, window: float = 10.0
    ) -> None:
        self._clock = clock
        self._ratio = ratio
        self._floor = floor
        self._window = window
        # (second, requests before it, retries in it): one entry a second, so the window costs a few.
        self._seconds: deque[list[int]] = deque()
        self._turn = -math.inf
        self._requests = 0
        self._gone = 0
        self._retries = 0

    def request(self, now: float) -> None:
        """A request is made at `now` (the clock's monotonic time, which the caller has at hand)."""
        if now >= self._turn:
            self._advance(now)
        self._requests += 1

    def retry(self) -> bool:
        """Whether one more retry is allowed; it is counted if so."""
        now = self._clock.monotonic()
        if now >= self._turn:
            self._advance(now)
        requests = self._requests - self._gone
        if self._retries >= self._ratio * requests + self._floor * self._window:
            return False
        self._seconds[-1][2] += 1
        self._retries += 1
        return True

    def _advance(self, now: float) -> None:
        """A new second begins; what was before the window does not count any more."""
        second, seconds = int(now), self._seconds
        seconds.append([second, self._requests, 0])
        while seconds[0][0] <= second - self._window:
            self._retries -= seconds.popleft()[2]
        self._gone = seconds[0][1]
        self._turn = second + 1.0
