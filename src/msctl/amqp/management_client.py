"""RabbitMQ's management API, as far as msctl reads it: of an external broker or the embedded one."""

from __future__ import annotations

import base64
import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from msctl.amqp.management_documents import DocumentList, Documents
from msctl.amqp.url import BrokerUrl
from msctl.errors import BrokerError
from msctl.model.address import bracketed
from msctl.model.messaging import MOST
from msctl.model.queue_messages import QueueBinding
from msctl.model.snapshots import QueueSnapshot

PORT = 15672
TIMEOUT_S = 5.0
_LARGEST_ANSWER = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ManagementClient:
    """The API at `base`, with the user and the virtual host of a broker's URL."""

    base: str
    broker: BrokerUrl

    @classmethod
    def beside(cls, broker: BrokerUrl) -> ManagementClient:
        """The API where RabbitMQ has it: on port 15672 of the broker's host.

        Raises BrokerError if what answers there says that it is another broker's.
        """
        found = cls(f"http://{bracketed(broker.host)}:{PORT}", broker)
        overview = found._ask("/api/overview")
        listeners = overview.get("listeners") if isinstance(overview, dict) else None
        ports = {one.get("port") for one in listeners or () if isinstance(one, dict)}
        if ports and broker.port not in ports:
            raise BrokerError(
                f"the management API at {found.base} is of another broker than the one at {broker.address}",
                hint="name its own: --management URL",
            )
        return found

    def queues(self) -> tuple[QueueSnapshot, ...]:
        """The queues of the virtual host. Raises BrokerError."""
        return tuple(
            QueueSnapshot(
                str(one["name"]),
                int(one.get("messages_ready", 0)),
                int(one.get("messages_unacknowledged", 0)),
                int(one.get("consumers", 0)),
                vhost=str(one.get("vhost", self.broker.vhost)),
            )
            for one in self._get(f"/api/queues/{self._vhost}")
        )

    def bindings(self, queue: str | None) -> tuple[QueueBinding, ...]:
        """The bindings of one queue, or of all of the virtual host. Raises BrokerError."""
        path = f"/api/bindings/{self._vhost}"
        if queue is not None:
            path = f"/api/queues/{self._vhost}/{quote(queue, safe='')}/bindings"
        return tuple(
            QueueBinding(
                one["destination"], one["source"], one["routing_key"], dict(one.get("arguments") or {})
            )
            for one in self._get(path)
            if one.get("destination_type") == "queue"
        )

    def documents(self, find: str) -> Documents:
        """What the virtual host has, of long lists the first page of what has `find` in its name.

        Raises BrokerError.
        """
        page = urlencode({"page": 1, "page_size": MOST, "name": find, "use_regex": "false"})
        vhost = self._vhost
        return Documents(
            exchanges=self._page(f"/api/exchanges/{vhost}?{page}"),
            bindings=self._page(f"/api/bindings/{vhost}"),
            queues=self._page(f"/api/queues/{vhost}?{page}"),
            connections=self._page(f"/api/vhosts/{vhost}/connections?{page}"),
            channels=self._page(f"/api/vhosts/{vhost}/channels?{page}"),
            consumers=self._page(f"/api/consumers/{vhost}"),
        )

    def _page(self, path: str) -> DocumentList:
        found = self._ask(path)
        if isinstance(found, dict) and isinstance(found.get("items"), list):
            return DocumentList(found["items"], int(found.get("filtered_count", len(found["items"]))))
        if isinstance(found, list):
            return DocumentList(found)
        raise self._no_api()

    @property
    def _vhost(self) -> str:
        return quote(self.broker.vhost, safe="")

    def _get(self, path: str) -> list[dict[str, Any]]:
        found = self._ask(path)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise self._no_api()
        return found

    def _no_api(self) -> BrokerError:
        return BrokerError(f"what answers at {self.base} is no management API of RabbitMQ")

    def _ask(self, path: str) -> Any:
        parts = urlsplit(self.base)
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        login = f"{self.broker.user}:{self.broker.password.reveal()}"
        headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        connection = make(parts.hostname or "localhost", parts.port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read(_LARGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise BrokerError(
                f"no management API answers at {self.base}: {error}",
                hint="enable it: rabbitmq-plugins enable rabbitmq_management",
            ) from None
        finally:
            connection.close()
        if answer.status != 200:
            raise BrokerError(f"the management API at {self.base} answers {_reason(answer.status, body)}")
        try:
            return json.loads(body)
        except ValueError:
            return None


def _reason(status: int, body: bytes) -> str:
    try:
        document = json.loads(body)
        why = document.get("reason") or document.get("error") if isinstance(document, dict) else None
    except ValueError:
        why = None
    return f"{status}: {why}" if why else str(status)
