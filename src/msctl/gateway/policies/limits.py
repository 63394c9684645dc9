"""Rate limits (token buckets) and the retry budget. Pure.

The table of buckets is bounded: the least recently seen client is dropped first, which gives it a full
bucket again.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from msctl.clock import Clock
from msctl.model.route_spec import RateLimitSpec

MAX_CLIENTS = 10_000


@dataclass(frozen=True, slots=True)
class Allowance:
    """The decision on one request.

    `remaining` requests may follow at once. The bucket is full again in `reset` seconds; the next
    request is allowed in `retry_after` seconds (0 if this one was).
    """

    allowed: bool
    remaining: int
    reset: float
    retry_after: float


class RateLimiter:
    """The token buckets of one route, one for each client key."""

    def __init__(self, spec: RateLimitSpec, clock: Clock, *, clients: int = MAX_CLIENTS) -> None:
        self.spec = spec
        self._clock = clock
        self._clients = clients
        self._rate = spec.requests / spec.period
        self._burst = float(spec.requests if spec.burst is None else spec.burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> Allowance:
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
        return Allowance(allowed, int(tokens), (self._burst - tokens) / self._rate, wait)

    def fields(self, allowance: Allowance) -> tuple[tuple[bytes, bytes], ...]:
        """Return RateLimit and RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers)."""
        policy = f'"default";q={int(self._burst)};w={math.ceil(self._burst / self._rate)}'
        state = f'"default";r={allowance.remaining};t={math.ceil(allowance.reset)}'
        return ((b"RateLimit-Policy", policy.encode()), (b"RateLimit", state.encode()))


class RetryBudget:
    """Limits retries to `ratio` of the requests in the last `window` seconds, plus `floor` a second.

    Without a budget, retries multiply the load during an outage.
    """

    def __init__(
        self, clock: Clock, *, ratio: float = 0.2, floor: float = 10.0, window: float = 10.0
    ) -> None:
        self._clock = clock
        self._ratio = ratio
        self._floor = floor
        self._window = window
        # One entry a second: (second, requests before it, retries in it).
        self._seconds: deque[list[int]] = deque()
        self._next_second = -math.inf
        self._requests = 0
        self._requests_before_window = 0
        self._retries = 0

    def request(self, now: float) -> None:
        """Count a request at `now` (monotonic time)."""
        if now >= self._next_second:
            self._advance(now)
        self._requests += 1

    def retry(self) -> bool:
        """Return whether one more retry is allowed, and count it if so."""
        now = self._clock.monotonic()
        if now >= self._next_second:
            self._advance(now)
        requests = self._requests - self._requests_before_window
        if self._retries >= self._ratio * requests + self._floor * self._window:
            return False
        self._seconds[-1][2] += 1
        self._retries += 1
        return True

    def _advance(self, now: float) -> None:
        """Start a new second and drop those before the window."""
        second, seconds = int(now), self._seconds
        seconds.append([second, self._requests, 0])
        while seconds[0][0] <= second - self._window:
            self._retries -= seconds.popleft()[2]
        self._requests_before_window = seconds[0][1]
        self._next_second = second + 1.0
