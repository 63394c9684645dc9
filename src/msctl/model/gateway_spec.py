"""The gateway: its listener and limits. Frozen plain data, part of the Project."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from msctl.model.address import LOOPBACK
from msctl.model.tls_spec import TlsSpec
from msctl.model.upstream_policy import INSTANCE_FAILURES, Balance, FailureKind


class ServiceAddresses(StrEnum):
    """Which services others reach through a balanced address of the stack's."""

    REPLICATED = "replicated"
    ALL = "all"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class GatewaySpec:
    """The gateway's listener and limits; times are in seconds, sizes in bytes (0 = no limit).

    `hosts` are those that it answers for besides the local ones (http/host_policy.py); None is not set.
    A request's head has at most `max_header_bytes` in `max_header_fields` fields.
    `trusted_peers` are addresses or networks (CIDR) whose X-Forwarded-* fields are believed and
    appended to. `pool_size` connections are kept to each instance, `pool_idle` seconds unused.
    A request is tried again at most `retries` times, after a pause drawn between `backoff_min`
    and `backoff_max`, with a body of at most `retry_body` bytes, while retries are no more than
    `retry_budget` of the requests of the last 10 s plus `retry_floor` a second. A breaker opens
    after `breaker_failures` failures in a row, for `breaker_open` seconds times its openings in a
    row, at most `breaker_cap`; `breaker_on` says which failures count. `ready_path` is where the gateway
    tells its own readiness (None: nowhere), `openapi` where it serves one OpenAPI document of all services.
    `access_log_sample` is the share of the successful requests that are logged. `tls` holds for all that is
    served on the gateway's address.
    """

    host: str = LOOPBACK
    port: int = 8080
    connect_timeout: float = 3.0
    response_timeout: float = 15.0
    idle_timeout: float = 60.0
    stream_idle_timeout: float = 0.0
    max_body: int = 16 * 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_header_fields: int = 256
    drain_timeout: float = 10.0
    hosts: tuple[str, ...] | None = None
    trusted_peers: tuple[str, ...] = ()
    forwarded: bool = False
    pool_size: int = 256
    pool_idle: float = 4.0
    retries: int = 1
    retry_body: int = 64 * 1024
    retry_budget: float = 0.2
    retry_floor: float = 10.0
    backoff_min: float = 0.025
    backoff_max: float = 0.25
    breaker_failures: int = 5
    breaker_open: float = 5.0
    breaker_cap: float = 60.0
    breaker_on: tuple[FailureKind, ...] = INSTANCE_FAILURES
    balance: Balance = Balance.LEAST_LOADED
    ready_path: str | None = "/-/ready"
    openapi: str | None = None
    access_log_sample: float = 0.0
    service_addresses: ServiceAddresses = ServiceAddresses.REPLICATED
    tls: TlsSpec = field(default_factory=TlsSpec)
