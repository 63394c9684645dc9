"""Projects to export: the course's, and one that uses every feature."""

from __future__ import annotations

from pathlib import Path

from msctl.config.reading.load import load
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import (
    ApiKeySpec,
    RateLimitKey,
    RateLimitSpec,
    RedirectSpec,
    RouteSpec,
)
from msctl.model.service_policies import Condition, Dependency, RestartPolicy
from msctl.model.service_spec import Isolation, ServiceSpec
from msctl.model.snapshots import GATEWAY, BrokerMode
from msctl.model.upstream_policy import UpstreamPolicy

ROOT = Path("/srv/shop")


def course() -> Project:
    return load(cwd=Path("/"), env={}).project


def shop() -> Project:
    """A name that is no DNS label, replicas, secrets, a oneshot, a command, every kind of route."""
    services = (
        ServiceSpec(
            "user_service",
            app="shop.users:create_app",
            port=8081,
            routes=(
                RouteSpec("/users", "user_service"),
                RouteSpec("/users/{id}/orders", "user_service", methods=("GET",)),
            ),
            env={"GREETING": "hello $(world)", "SESSION_SECRET": "do-not-tell"},
        ),
        ServiceSpec(
            "orders",
            app="shop.orders:create_app",
            port=8082,
            replicas=3,
            isolation=Isolation.PROCESS,
            health="/healthz",
            liveness=True,
            depends_on=(Dependency("user_service"), Dependency("migrate", Condition.COMPLETED)),
            routes=(
                RouteSpec("/api/orders", "orders", strip_prefix=True),
                RouteSpec(
                    "/beta", "orders", headers={"X-Track": "beta"}, policy=UpstreamPolicy(idle_timeout=5.0)
                ),
            ),
        ),
        ServiceSpec(
            "payments",
            command=("node", "payments.js"),
            port=8083,
            health="/healthz",
            cwd=ROOT / "payments",
            restart=RestartPolicy.ALWAYS,
            stop_timeout=2.5,
            success_exit_codes=(143,),
            depends_on=(Dependency("orders", Condition.STARTED), Dependency("ledger")),
            env={"DATABASE_URL": "postgres://shop:hush@db/shop"},
            routes=(
                RouteSpec(
                    "/payments",
                    "payments",
                    methods=("POST",),
                    rate_limit=RateLimitSpec(5, key=RateLimitKey.CLIENT, burst=10),
                ),
                RouteSpec("/payments", "payments", methods=("GET",), rewrite="/v1/list"),
                RouteSpec("/admin", "payments", hosts=("admin.example",), api_key=ApiKeySpec("ADMIN_KEYS")),
            ),
        ),
        ServiceSpec("migrate", command=("python", "migrate.py"), oneshot=True, restart=RestartPolicy.NO),
        ServiceSpec("mailer", command=("./mailer",), ready_log="ready", autostart=False),
        ServiceSpec("ledger", app="shop.ledger:app", url="http://ledger.internal:9000"),
        ServiceSpec(GATEWAY, port=8080, stop_timeout=10.0),
    )
    old = RouteSpec("/old", "", redirect=RedirectSpec(308, prefix="/users"))
    services = (replaced := services[0], *services[1:])
    with_redirect = ServiceSpec(
        replaced.name,
        app=replaced.app,
        port=replaced.port,
        routes=(*replaced.routes, old),
        env=replaced.env,
    )
    return Project(
        name="My.Shop",
        root=ROOT,
        source=str(ROOT / "msctl.toml"),
        services=(with_redirect, *services[1:]),
        gateway=GatewaySpec(),
        broker=BrokerSpec(BrokerMode.EMBEDDED, "amqp://shop:hush@localhost:5672/shop"),
    )
