"""The lifespan of an ASGI application (ASGI lifespan specification 2.0).

One task calls the application with a lifespan scope and lives from startup to shutdown. As in uvicorn's
`auto` mode, an application that raises or returns before it has answered the startup does without.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from msctl.errors import MsctlError
from msctl.hosting.asgi.scope import Message, Scope
from msctl.hosting.service_log import shorten

Application = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Any]

_ANSWERS = ("startup.complete", "startup.failed", "shutdown.complete", "shutdown.failed")


class LifespanFailedError(MsctlError):
    """The application refused to start."""


class Lifespan:
    """The lifespan of one application; `state` is what it shares with its requests."""

    def __init__(
        self, application: Application, state: dict[str, Any], log: Callable[[str, str], None]
    ) -> None:
        """`log` is given a text and its level."""
        self._application = application
        self._state = state
        self._log = log
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._started = asyncio.Event()
        self._stopped = asyncio.Event()
        self._failure: str | None = None

    async def startup(self) -> None:
        """Raises LifespanFailedError. When cancelled, nothing of it is left."""
        self._task = asyncio.create_task(self._run())
        self._events.put_nowait({"type": "lifespan.startup"})
        try:
            await self._started.wait()
        except asyncio.CancelledError:
            await self._cancel()
            raise
        failure, self._failure = self._failure, None
        if failure is not None:
            lines = [line for line in failure.splitlines() if line.strip()]
            self._log(shorten(failure), "error")
            # A framework sends its traceback, the last line of which says what happened.
            reason = lines[-1].strip() if lines else "it gave no reason"
            raise LifespanFailedError(f"its lifespan failed at startup: {reason}")

    async def shutdown(self) -> None:
        """Wait until the application has released what it holds; cancel to wait no longer."""
        task = self._task
        if task is None:
            return
        if not task.done():
            self._events.put_nowait({"type": "lifespan.shutdown"})
            try:
                await self._stopped.wait()
            finally:
                await self._cancel()
        self._task = None
        if self._failure:
            self._log(shorten(self._failure), "error")

    async def _run(self) -> None:
        scope: Scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._application(scope, self._events.get, self._send)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            if self._failure is not None:
                return
            if self._started.is_set():
                self._log(f"the lifespan ended with {type(error).__name__}: {error}", "error")
            else:
                reason = str(error) or type(error).__name__
                self._log(f"no lifespan ({type(error).__name__}: {reason})", "info")
        finally:
            self._started.set()
            self._stopped.set()

    async def _send(self, message: Message) -> None:
        kind = str(message["type"]).removeprefix("lifespan.")
        if kind not in _ANSWERS:
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}' on lifespan protocol.")
        phase, _, result = kind.partition(".")
        expected = "shutdown" if self._started.is_set() else "startup"
        if phase != expected or self._stopped.is_set():
            raise RuntimeError(f"Got invalid state transition on lifespan protocol: '{message['type']}'.")
        if result == "failed":
            self._failure = str(message.get("message") or "")
        (self._started if phase == "startup" else self._stopped).set()

    async def _cancel(self) -> None:
        task = self._task
        if task is not None and not task.done():
            # An application that has answered the shutdown returns by itself in its next steps.
            if self._stopped.is_set():
                await asyncio.wait({task}, timeout=1.0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=1.0)
