"""The client of the control socket: SystemView's verbs, blocking, on the standard library.

It imports neither aiohttp nor http.client, and what one verb uses only there, so that `status` and `down`
start fast.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from msctl.control.http import Response, exchange
from msctl.control.paths import StackPaths, cannot_open, is_locked
from msctl.control.peer import open_descriptors
from msctl.errors import ExitCode, MsctlError, NotRunningError, TimedOutError
from msctl.model.snapshots import FaultSnapshot, Snapshot

if TYPE_CHECKING:
    from msctl.faults.spec import FaultSpec
    from msctl.faults.view import AddedFault
    from msctl.model.events import Event, LogLine, LogQuery
    from msctl.model.queue_messages import PeekedMessage
    from msctl.model.route_spec import RouteSpec
    from msctl.model.routing import RouteExplanation
    from msctl.model.traces import Trace, TraceQuery, TraceSummary
    from msctl.model.views import ReloadResult, ServiceVariables

T = TypeVar("T")

_FEW = 4
"""Descriptors that may be free for a moment in a process at its limit."""
ANSWER_TIMEOUT = 5.0
"""Seconds to wait for verbs that a responsive stack answers at once."""


class ControlClient:
    """A running stack behind its control socket.

    Every verb raises NotRunningError if no stack answers, and any MsctlError that the stack raised.
    """

    def __init__(self, paths: StackPaths, project: str) -> None:
        self._paths = paths
        self._project = project

    def snapshot(self, timeout: float = ANSWER_TIMEOUT) -> Snapshot:
        return self._call("GET", "/v1/snapshot", Snapshot, timeout=timeout)

    def events(self, timeout: float | None = None) -> Iterator[Event]:
        """As SystemView's; raises TimedOutError after `timeout` seconds."""
        from msctl.model.events import Event

        return self._stream("/v1/events", Event, timeout)

    def logs(self, query: LogQuery) -> Iterator[LogLine]:
        from urllib.parse import urlencode

        from msctl.model.events import LogLine

        fields = [("service", name) for name in query.services]
        if query.tail is not None:
            fields.append(("tail", str(query.tail)))
        if query.since is not None:
            fields.append(("since", repr(query.since)))
        if query.stream:
            fields.append(("stream", query.stream))
        if query.level:
            fields.append(("level", query.level))
        if query.follow:
            fields.append(("follow", "1"))
        return self._stream(f"/v1/logs?{urlencode(fields)}", LogLine)

    def traces(self, query: TraceQuery) -> tuple[TraceSummary, ...]:
        from urllib.parse import urlencode

        from msctl.model.traces import TraceSummary

        fields = [("service", name) for name in query.services]
        fields += [("min", repr(query.min_duration_s)), ("limit", str(query.limit))]
        fields += [("status", query.status), ("text", query.text)]
        if query.errors:
            fields.append(("errors", "1"))
        return self._call(
            "GET", f"/v1/traces?{urlencode(fields)}", tuple[TraceSummary, ...], timeout=ANSWER_TIMEOUT
        )

    def trace(self, trace_id: str) -> Trace:
        """Find a trace by its id or a prefix of it; raises UsageError for none or several."""
        from urllib.parse import quote

        from msctl.model.traces import Trace

        return self._call("GET", f"/v1/traces/{quote(trace_id, safe='')}", Trace, timeout=ANSWER_TIMEOUT)

    def definitions(self) -> dict[str, Any] | None:
        """The definitions of the embedded broker, in RabbitMQ's format; None without one."""
        found: dict[str, Any] | None = self._call("GET", "/v1/definitions", object, timeout=ANSWER_TIMEOUT)  # type: ignore[assignment]
        return found

    def variables(self, service: str | None) -> ServiceVariables:
        """The variables of a service, or of something that depends on all services."""
        from urllib.parse import quote

        from msctl.model.views import ServiceVariables

        query = "" if service is None else f"?service={quote(service, safe='')}"
        return self._call("GET", f"/v1/variables{query}", ServiceVariables, timeout=ANSWER_TIMEOUT)

    def start(self, services: Sequence[str], *, deps: bool = True, timeout: float | None = None) -> Snapshot:
        """As SystemView's; raises TimedOutError after `timeout` seconds, and what has begun goes on."""
        body = {"services": services, "deps": deps}
        return self._call("POST", "/v1/start", Snapshot, body, timeout)

    def apply(self, services: Sequence[str]) -> None:
        """As SystemView's."""
        self._request("POST", "/v1/apply", {"services": services}, ANSWER_TIMEOUT).close()

    def stop(self, services: Sequence[str]) -> Snapshot:
        return self._call("POST", "/v1/stop", Snapshot, {"services": services})

    def restart(self, services: Sequence[str], *, deps: bool = True) -> Snapshot:
        return self._call("POST", "/v1/restart", Snapshot, {"services": services, "deps": deps})

    def routes(self) -> tuple[RouteSpec, ...]:
        """The gateway's routes in matching order."""
        from msctl.model.route_spec import RouteSpec

        return self._call("GET", "/v1/routes", tuple[RouteSpec, ...], timeout=ANSWER_TIMEOUT)

    def explain(self, method: str, target: str, headers: Mapping[str, str]) -> RouteExplanation:
        """What the gateway would do with this request now."""
        from msctl.model.routing import RouteExplanation

        body = {"method": method, "target": target, "headers": headers}
        return self._call("POST", "/v1/routes/explain", RouteExplanation, body, ANSWER_TIMEOUT)

    def scale(self, counts: Mapping[str, int]) -> Snapshot:
        return self._call("POST", "/v1/scale", Snapshot, {"counts": counts})

    def reload(self, timeout: float | None = None) -> ReloadResult:
        """As SystemView's; raises TimedOutError after `timeout` seconds, and what has begun goes on."""
        from msctl.model.views import ReloadResult

        return self._call("POST", "/v1/reload", ReloadResult, timeout=timeout)

    def peek_queue(self, name: str) -> tuple[PeekedMessage, ...]:
        from msctl.model.queue_messages import PeekedMessage

        return self._call("POST", "/v1/queues/peek", tuple[PeekedMessage, ...], {"name": name})

    def purge_queue(self, name: str) -> int:
        return self._call("POST", "/v1/queues/purge", int, {"name": name})

    def delete_queue(self, name: str) -> int:
        return self._call("POST", "/v1/queues/delete", int, {"name": name})

    def faults(self) -> tuple[FaultSnapshot, ...]:
        """The active faults."""
        return self._call("GET", "/v1/faults", tuple[FaultSnapshot, ...], timeout=ANSWER_TIMEOUT)

    def add_faults(self, faults: Sequence[FaultSpec], *, force: bool = False) -> tuple[AddedFault, ...]:
        """Begin faults, all or none."""
        from msctl.faults.view import AddedFault

        return self._call("POST", "/v1/faults", tuple[AddedFault, ...], {"faults": faults, "force": force})

    def clear_faults(self, ids: Sequence[str]) -> tuple[FaultSnapshot, ...]:
        """End these faults, all without ids."""
        return self._call("POST", "/v1/faults/clear", tuple[FaultSnapshot, ...], {"ids": ids})

    def shutdown(self, timeout: float | None = None) -> None:
        """Request a shutdown, with `timeout` seconds for the services; does not wait for it."""
        self._request("POST", "/v1/shutdown", {"timeout": timeout}, ANSWER_TIMEOUT).close()

    def _call(
        self, method: str, target: str, kind: type[T], body: object = None, timeout: float | None = None
    ) -> T:
        with self._request(method, target, body, timeout) as response:
            try:
                return msgspec.json.decode(response.body.read(), type=kind)
            except (OSError, msgspec.DecodeError) as error:
                raise self._stopped() from error

    def _stream(self, target: str, kind: type[T], timeout: float | None = None) -> Iterator[T]:
        return self._lines(self._request("GET", target), msgspec.json.Decoder(kind), timeout)

    def _lines(self, response: Response, decoder: Any, timeout: float | None) -> Iterator[Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        with response:
            try:
                while True:
                    if deadline is not None:
                        # Zero means "non-blocking" to a socket.
                        response.socket.settimeout(max(0.001, deadline - time.monotonic()))
                    line = response.body.readline()
                    if not line:
                        return
                    yield decoder.decode(line)
            except TimeoutError as error:
                raise TimedOutError(f"no further event within {timeout:g} s") from error
            except (OSError, msgspec.DecodeError):
                return  # the stack stopped: the stream is at its end

    def _request(
        self, method: str, target: str, body: object = None, timeout: float | None = None
    ) -> Response:
        payload = b"" if body is None else msgspec.json.encode(body)
        try:
            with self._paths.opened():
                response = exchange(str(self._paths.socket), method, target, payload, timeout)
        except TimeoutError as error:
            self._raise_if_out_of_descriptors()
            raise TimedOutError(
                f"the stack of project {self._project!r} does not respond",
                hint="a handler may block its event loop; stop it with: msctl down",
            ) from error
        except (FileNotFoundError, ConnectionRefusedError, ValueError) as error:
            raise self._not_running() from error
        except ConnectionError as error:
            self._raise_if_out_of_descriptors()
            raise self._not_running() from error
        except OSError as error:
            raise cannot_open(self._paths.socket, error) from error
        if response.status >= 400:
            with response:
                raise _remote_error(response.body.read())
        return response

    def _raise_if_out_of_descriptors(self) -> None:
        """Raise UnreachableError if the stack runs and has no descriptor left to accept connections."""
        from msctl.control.record import read_record

        record = read_record(self._paths)
        if record is None or not is_locked(self._paths):
            return
        found = open_descriptors(record.pid)
        if found is not None and found[0] >= found[1] - _FEW:
            raise UnreachableError(
                f"the stack of project {self._project!r} runs but accepts no connections: it has "
                f"{found[0]} of {found[1]} possible files open",
                hint="close some of its clients, or raise the limit before msctl up: ulimit -n",
            )

    def _not_running(self) -> NotRunningError:
        return NotRunningError(
            f"no stack is running for project {self._project!r}", hint="start it with: msctl up"
        )

    def _stopped(self) -> NotRunningError:
        return NotRunningError(
            f"the stack of project {self._project!r} stopped before it answered",
            hint="show its last log lines with: msctl logs",
        )


class UnreachableError(MsctlError):
    """A stack may be running, but its control socket cannot be used; the message says why."""


class RemoteError(MsctlError):
    """An error of the stack, with its exit code."""

    def __init__(self, message: str, *, hint: str | None, exit_code: ExitCode) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = exit_code


def _remote_error(raw: bytes) -> MsctlError:
    try:
        document = msgspec.json.decode(raw)
        return RemoteError(
            document["message"], hint=document["hint"], exit_code=ExitCode(document["exit_code"])
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return MsctlError(
            "the running stack sent an unknown error",
            hint="it may run another version of msctl: msctl down, then msctl up",
        )
