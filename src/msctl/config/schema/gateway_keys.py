"""The keys of `[gateway]`."""

from __future__ import annotations

from msctl.config.schema.network_values import (
    GATEWAY_HOSTS,
    HEADER_FIELDS,
    HOST,
    NETWORKS,
    OPTIONAL_PATH,
    PORT,
)
from msctl.config.schema.quantities import DURATION, HEADER_BYTES, POSITIVE_DURATION, SIZE
from msctl.config.schema.route_keys import FAILURE_KINDS, POOL_SIZE, RETRIES
from msctl.config.schema.table import Key, OnReload, Table, on_reload
from msctl.config.schema.tls_keys import HTTPS
from msctl.config.schema.value_type import choice
from msctl.config.schema.values import (
    BOOLEAN,
    POSITIVE,
    RATE,
    SHARE,
)
from msctl.model.gateway_spec import GatewaySpec, ServiceAddresses
from msctl.model.upstream_policy import Balance

GATEWAY = Table(
    "gateway",
    GatewaySpec,
    (
        Key("enabled", BOOLEAN, "Whether there is a gateway.", default=True),
        Key("host", HOST, "The address on which it listens."),
        Key("port", PORT, "The port on which it listens; 0 chooses a free one."),
        Key(
            "service_addresses",
            choice(ServiceAddresses),
            "Which services have a balanced `$NAME_URL` that stays the same over restarts and scaling.",
            reload=OnReload.REFUSE,
        ),
        *on_reload(
            OnReload.REFUSE,
            Key("max_header_bytes", HEADER_BYTES, "The largest head of a request; a larger one gets 431."),
            Key("max_header_fields", HEADER_FIELDS, "The most fields of a request's head."),
        ),
        *on_reload(
            OnReload.LIVE,
            Key("connect_timeout", POSITIVE_DURATION, "The time limit of a connection attempt to a service."),
            Key("response_timeout", DURATION, "The time limit until a service's response head; 0 sets none."),
            Key("idle_timeout", DURATION, "The time limit without a byte in either direction; 0 sets none."),
            Key(
                "stream_idle_timeout",
                DURATION,
                "The same for WebSockets and event streams, which may be silent for long; 0 sets no limit. "
                "A silent WebSocket is closed with 1001, an event stream ends.",
            ),
            Key("max_body", SIZE, "The largest request body; 0 sets no limit."),
            Key("drain_timeout", DURATION, "The time limit of requests in flight when it stops."),
            Key(
                "hosts",
                GATEWAY_HOSTS,
                "Hosts that the gateway and the services' own ports answer for, besides localhost, "
                "`*.localhost`, loopback addresses and the hosts of routes; any other gets 421. Pages of "
                'these hosts may send POST and the like. `"*"` allows all. Without it, a gateway that '
                "listens beyond loopback answers for any host.",
            ),
            Key("trusted_peers", NETWORKS, "Addresses or networks whose `X-Forwarded-*` fields are trusted."),
            Key("forwarded", BOOLEAN, "Whether `Forwarded` (RFC 7239) is added too."),
            Key("pool_size", POOL_SIZE, "The most connections to each instance."),
            Key("pool_idle", DURATION, "How long an unused connection is kept."),
            Key("retries", RETRIES, "How often an idempotent request is retried."),
            Key("retry_body", SIZE, "The largest body of a request that is retried."),
            Key("retry_budget", SHARE, "Retries are at most this share of the requests of the last 10 s ..."),
            Key("retry_floor", RATE, "... plus this many a second."),
            Key("backoff_min", DURATION, "The shortest pause before a retry."),
            Key("backoff_max", DURATION, "The longest pause before a retry."),
            Key("breaker_failures", POSITIVE, "Failures in a row that open an instance's circuit breaker."),
            Key("breaker_open", DURATION, "How long it stays open, times its consecutive openings ..."),
            Key("breaker_cap", DURATION, "... and at most."),
            Key(
                "breaker_on",
                FAILURE_KINDS,
                "The failures that count for the circuit breaker; the application's 5xx only if named.",
            ),
            Key("balance", choice(Balance), "How an instance is chosen among several."),
            Key("ready_path", OPTIONAL_PATH, 'The path of the gateway\'s own readiness; "" switches it off.'),
            Key(
                "openapi",
                OPTIONAL_PATH,
                "The path of one OpenAPI document, joined from the `/openapi.json` of the services; "
                '"" for none. It is public, also for routes that require a key.',
            ),
            Key("access_log_sample", SHARE, "The share of successful requests that is logged."),
            Key("tls", HTTPS, "HTTPS for everything on the gateway's address."),
        ),
    ),
)
