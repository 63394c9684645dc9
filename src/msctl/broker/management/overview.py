"""The broker as a whole over HTTP: overview, nodes, health checks, aliveness test."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from aiohttp import web

from msctl.broker.core.broker import Alarm, Broker
from msctl.broker.core.exchanges import CORE_TYPES, ExchangeType
from msctl.broker.core.queues import Queue
from msctl.broker.management.answers import bad_request, error, json_answer
from msctl.broker.management.api import MONITORING, USER, Api
from msctl.broker.management.documents import NODE
from msctl.broker.management.listing import SLICES, Listing, answer_list, answer_one
from msctl.broker.management.rates import with_rates
from msctl.broker.protocol.handshake import RABBITMQ_VERSION
from msctl.broker.protocol.wire import route_of

CLUSTER = NODE
ALIVENESS_QUEUE = "aliveness-test"
_EXCHANGE_TYPES = [
    {"name": kind.value, "description": f"AMQP {kind.value} exchange", "enabled": True} for kind in CORE_TYPES
] + [
    {
        "name": ExchangeType.CONSISTENT_HASH.value,
        "description": "Consistent Hashing Exchange",
        "enabled": True,
    },
    {"name": ExchangeType.DELAYED.value, "description": "Delayed Message Exchange.", "enabled": True},
]
_MECHANISMS = [
    {"name": name, "description": f"SASL {name} authentication mechanism", "enabled": True}
    for name in ("PLAIN", "AMQPLAIN")
]


def broker_counters(broker: Broker) -> dict[str, int]:
    """The broker's counters; they outlive the queues."""
    memory = broker.memory
    return {"publish": memory.published, "deliver_get": memory.delivered, "ack": memory.acked}


def _figures(queue: Queue) -> tuple[int, int, int]:
    return queue.ready.count, queue.unacked, len(queue.consumers)


class Overview:
    """The handlers of `/api/overview`, `/api/nodes` and the checks."""

    def __init__(self, api: Api, port: Callable[[], int]) -> None:
        """`port` is where the API itself listens."""
        self._api = api
        self._port = port

    def routes(self) -> list[web.RouteDef]:
        checks = "/api/health/checks"
        return [
            web.get("/api/overview", self._overview),
            web.get("/api/cluster-name", self._cluster),
            web.get("/api/nodes", self._nodes),
            web.get("/api/nodes/{node}", self._node),
            web.get("/api/whoami", self._whoami),
            web.get("/api/auth", self._auth),
            web.get("/api/extensions", self._none),
            web.get("/api/feature-flags", self._none),
            web.get("/api/aliveness-test/{vhost}", self._aliveness),
            web.get("/api/healthchecks/node", self._alarms),
            web.get("/api/healthchecks/node/{node}", self._alarms),
            web.get(f"{checks}/alarms", self._alarms),
            web.get(f"{checks}/local-alarms", self._alarms),
            web.get(f"{checks}/virtual-hosts", self._good),
            web.get(f"{checks}/node-is-mirror-sync-critical", self._single_node),
            web.get(f"{checks}/node-is-quorum-critical", self._single_node),
            web.get(f"{checks}/certificate-expiration/{{within}}/{{unit}}", self._good),
            web.get(f"{checks}/port-listener/{{port}}", self._port_listener),
            web.get(f"{checks}/protocol-listener/{{protocol}}", self._protocol_listener),
        ]

    async def _overview(self, request: web.Request) -> web.StreamResponse:
        broker, moment = self._api.broker, self._api.moment()
        counters = broker_counters(broker)
        ready = unacked = queues = exchanges = consumers = 0
        for vhost in self._api.vhosts(request):
            exchanges += len(vhost.routing.exchanges)
            async for batch in request.app[SLICES].batches(list(vhost.queues.values()), _figures):
                queues += len(batch)
                ready += sum(each[0] for each in batch)
                unacked += sum(each[1] for each in batch)
                consumers += sum(each[2] for each in batch)
        levels = {"messages": ready + unacked, "messages_ready": ready, "messages_unacknowledged": unacked}
        stats = self._api.server.stats()
        return answer_one(
            request,
            {
                "management_version": RABBITMQ_VERSION,
                "rates_mode": "basic",
                "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
                "exchange_types": _EXCHANGE_TYPES,
                "product_version": RABBITMQ_VERSION,
                "product_name": "RabbitMQ",
                "rabbitmq_version": RABBITMQ_VERSION,
                "cluster_name": CLUSTER,
                "erlang_version": "",
                "erlang_full_version": "",
                "disable_stats": False,
                "enable_queue_totals": False,
                "message_stats": with_rates(counters, moment.rates.of(broker, counters, moment.now)),
                "churn_rates": {},
                "queue_totals": with_rates(levels, {}),
                "object_totals": {
                    "channels": stats.channels,
                    "connections": stats.connections,
                    "consumers": consumers,
                    "exchanges": exchanges,
                    "queues": queues,
                },
                "statistics_db_event_queue": 0,
                "node": NODE,
                "listeners": self._listeners(),
                "contexts": [
                    {
                        "node": NODE,
                        "description": "RabbitMQ Management",
                        "path": "/",
                        "port": str(self._port()),
                        "ssl_opts": [],
                    }
                ],
            },
        )

    def _listeners(self) -> list[dict[str, Any]]:
        found = []
        if self._api.server.address is not None:
            host, port = self._api.server.address
            found.append({"node": NODE, "protocol": "amqp", "ip_address": host, "port": port})
        port = self._port()
        found.append({"node": NODE, "protocol": "http", "ip_address": "127.0.0.1", "port": port})
        return found

    async def _cluster(self, _request: web.Request) -> web.StreamResponse:
        return json_answer({"name": CLUSTER})

    async def _whoami(self, request: web.Request) -> web.StreamResponse:
        user = request[USER]
        return json_answer({"name": user.name, "tags": list(user.tags)})

    async def _auth(self, _request: web.Request) -> web.StreamResponse:
        return json_answer({"enable_uaa": False, "uaa_client_id": "", "uaa_location": ""})

    async def _none(self, _request: web.Request) -> web.StreamResponse:
        return json_answer([])

    # --- the node ---

    async def _nodes(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request, MONITORING)
        return await answer_list(
            request, Listing([self._describe_node()], 1, lambda each: str(each["name"]), lambda each: each)
        )

    async def _node(self, request: web.Request) -> web.StreamResponse:
        self._api.require(request, MONITORING)
        if request.match_info["node"] != NODE:
            raise error(404, "Object Not Found", "Not Found")
        return answer_one(request, self._describe_node())

    def _describe_node(self) -> dict[str, Any]:
        broker = self._api.broker
        process = psutil.Process()
        stats = self._api.server.stats()
        return {
            "name": NODE,
            "type": "disc",
            "running": True,
            "being_drained": False,
            "os_pid": str(os.getpid()),
            "partitions": [],
            "uptime": int((self._api.clock.time() - process.create_time()) * 1000),
            "processors": os.cpu_count() or 1,
            "run_queue": 0,
            "rates_mode": "basic",
            "net_ticktime": 60,
            "mem_used": stats.memory_bytes,
            "mem_limit": stats.memory_limit,
            "mem_alarm": Alarm.MEMORY in broker.alarms,
            "disk_free": shutil.disk_usage(Path.cwd()).free,
            "disk_free_limit": 0,
            "disk_free_alarm": Alarm.DISK in broker.alarms,
            "fd_used": process.num_fds() if hasattr(process, "num_fds") else 0,
            "fd_total": _open_files(),
            "sockets_used": stats.connections,
            "sockets_total": broker.limits.connections,
            "proc_used": 1,
            "proc_total": 1,
            "exchange_types": _EXCHANGE_TYPES,
            "auth_mechanisms": _MECHANISMS,
            "applications": [],
            "contexts": [],
            "enabled_plugins": ["rabbitmq_management"],
            "cluster_links": [],
        }

    # --- checks ---

    async def _good(self, _request: web.Request) -> web.StreamResponse:
        return json_answer({"status": "ok"})

    async def _single_node(self, _request: web.Request) -> web.StreamResponse:
        return json_answer({"status": "ok", "reason": "single node cluster"})

    async def _alarms(self, _request: web.Request) -> web.StreamResponse:
        alarms = self._api.broker.alarms
        if not alarms:
            return json_answer({"status": "ok"})
        listed = [{"node": NODE, "resource": alarm.value} for alarm in alarms]
        reason = "There are alarms in effect in the cluster"
        return json_answer({"status": "failed", "reason": reason, "alarms": listed}, status=503)

    async def _port_listener(self, request: web.Request) -> web.StreamResponse:
        text = request.match_info["port"]
        if not (text.isascii() and text.isdigit()):
            raise bad_request("Invalid port number")
        port, ports = int(text), [each["port"] for each in self._listeners()]
        if port in ports:
            return json_answer({"status": "ok", "port": port})
        reason = "No active listener"
        return json_answer(
            {"status": "failed", "reason": reason, "missing": port, "ports": ports}, status=503
        )

    async def _protocol_listener(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["protocol"]
        protocols = [each["protocol"] for each in self._listeners()]
        name = {"amqp091": "amqp", "amqp0.9.1": "amqp", "amqp0-9-1": "amqp"}.get(wanted, wanted)
        if name in protocols:
            return json_answer({"status": "ok", "protocol": name})
        reason = "No active listener"
        return json_answer(
            {"status": "failed", "reason": reason, "missing": wanted, "protocols": protocols}, status=503
        )

    async def _aliveness(self, request: web.Request) -> web.StreamResponse:
        """Declare a queue, publish to it and take the message."""
        vhost = self._api.vhost(request)
        queue = vhost.declare_queue(
            ALIVENESS_QUEUE,
            self,
            durable=False,
            exclusive=False,
            auto_delete=False,
            arguments={},
            access=self._api.access(request, vhost),
        )
        queue.publish(route_of("", queue.name), b"\0\0", b"test_message")
        found = queue.get(no_ack=True)
        self._api.server.changed()
        if found is None and not queue.consumers:
            raise error(500, "internal_error", "the message did not arrive")
        return json_answer({"status": "ok"})


def _open_files() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
