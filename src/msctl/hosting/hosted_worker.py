"""The worker of a hosted service: its application, attached to a listener."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import traceback
from collections.abc import Callable
from functools import partial

from msctl.aio import within
from msctl.clock import AsyncClock
from msctl.errors import MsctlError
from msctl.hosting.frameworks import NotAnApplicationError
from msctl.hosting.hosted_app import HostedApp, HostedFactory, Instrument, NoInstrument
from msctl.hosting.modules import ImportPathError
from msctl.hosting.service_log import describe, log_as, shorten
from msctl.http.listener import Listener, Tenant
from msctl.model.current_context import current_context
from msctl.model.endpoint import Endpoint
from msctl.model.exchange import Handler
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import ServiceSpec
from msctl.model.snapshots import GATEWAY
from msctl.model.worker import Checks, Outcome, StartError
from msctl.telemetry.logs.frames import serves
from msctl.telemetry.logs.hub import LogHub
from msctl.telemetry.logs.root_logger import enabled_loggers, restore_root_handler
from msctl.telemetry.logs.traceback import user_traceback

CLEANUP_S = 5.0


class HostedWorker:
    """Runs one HostedApp in this process until it is stopped."""

    def __init__(
        self,
        factory: HostedFactory,
        context: ServiceContext,
        *,
        listener: Listener | None,
        prefixes: Callable[[], tuple[str, ...]],
        logs: LogHub,
        clock: AsyncClock,
        instrument: Instrument | None = None,
        start_timeout: float = 60.0,
        stopped_at: Callable[[], str | None] = lambda: None,
    ) -> None:
        """`stopped_at` says where an import was that did not end in time."""
        self._stopped_at = stopped_at
        self._factory = factory
        self._context = context
        self._listener = listener
        self._prefixes = prefixes
        self._logs = logs
        self._clock = clock
        self._instrument = instrument or NoInstrument()
        self._start_timeout = start_timeout
        self._app: HostedApp | None = None
        self._tenant: Tenant | None = None
        self._killed = asyncio.Event()

    @property
    def pid(self) -> int | None:
        return os.getpid() if self._app is not None else None

    @property
    def address(self) -> str | None:
        return None if self._listener is None else self._listener.address.shown

    @property
    def endpoint(self) -> Endpoint | None:
        if self._app is None:
            return None
        url = None if self._listener is None else self._listener.address.url
        return Endpoint(self._context.name, self._context.instance, base_url=url, handler=self._app.handle)

    @property
    def checks(self) -> Checks | None:
        return None

    async def start(self) -> None:
        name = self._context.name
        app: HostedApp | None = None
        exited: SystemExit | None = None

        @serves
        async def make() -> None:
            nonlocal app, exited
            msctl_service = name
            current_context.set(self._context)
            try:
                with log_as(msctl_service):
                    enabled = enabled_loggers()
                    made = self._factory(self._context)
                    app = await made if inspect.isawaitable(made) else made
                    restore_root_handler(enabled)
                    await app.startup()
                    restore_root_handler(enabled)
            except SystemExit as error:
                exited = error  # it would end the event loop, as it leaves the task

        try:
            if not await within(self._start_timeout, make(), self._clock, self._killed):
                reason = f"it did not start within {self._start_timeout:g} s"
                if (place := self._stopped_at()) is not None:
                    reason += f"; its import was at {place}"
                raise StartError(Outcome(False, reason))
            if exited is not None:
                raise exited
            if app is None:
                raise AssertionError("unreachable: a service that has started has an application")
            if self._listener is not None:
                count = partial(self._instrument.refused, name)
                tenant = Tenant(name, self._instrumented(app), self._prefixes, count)
                await self._listener.attach(tenant)
                self._tenant = tenant
        except StartError:
            await self._clean(app)
            raise
        except MsctlError as error:
            await self._clean(app)
            reason = error.message + self._unseen(error.message)
            unusable = isinstance(error, ImportPathError | NotAnApplicationError)
            raise StartError(Outcome(False, reason, final=True, absent=unusable)) from error
        except (Exception, SystemExit) as error:
            # An exception of user code fails this service only.
            text = shorten(user_traceback(error))
            self._logs.append(name, text, "error")
            await self._clean(app)
            reason = describe(error) + self._unseen(text)
            unusable = isinstance(error, SyntaxError | ModuleNotFoundError)
            raise StartError(Outcome(False, reason, final=True, absent=unusable)) from error
        except BaseException:
            await self._clean(app)
            raise
        self._app = app

    def _unseen(self, failure: str) -> str:
        """Say where a variable is that the application may have looked for in os.environ."""
        unset = [name for name in self._context.env if name not in os.environ]
        missed = next((name for name in unset if re.search(rf"(?i)\b{re.escape(name)}\b", failure)), None)
        if missed is None:
            return ""
        return f'; {missed} is not in os.environ, which hosted services share, unless isolation = "process"'

    def _instrumented(self, app: HostedApp) -> Handler:
        """Return the handler for its own listener. The gateway reports its requests itself."""
        name = self._context.name
        if name == GATEWAY:
            return app.handle
        handle = app.handle if self._listener is None else self._listener.checked(app.handle)
        return self._instrument.direct(name, self._context.instance, handle)

    def reconfigure(self, spec: ServiceSpec) -> None:
        """Do nothing: no live key affects a hosted application."""

    async def wait(self) -> Outcome:
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable: nothing completes this future")

    async def stop(self, timeout: float) -> str | None:
        app, self._app = self._app, None
        if app is None:
            return None
        name = self._context.name
        if self._listener is not None and self._tenant is not None:
            self._listener.detach(self._tenant)
        try:
            # The extra second is for cancelled requests to end.
            await within(timeout + 1.0, app.drain(timeout), self._clock, self._killed)
        except Exception:  # noqa: BLE001 - a failing drain must not keep the stack from stopping
            self._logs.append(name, shorten(traceback.format_exc()), "error")
        if self._listener is not None:
            await self._listener.finish(name, 0.5)
        await self._clean(app)
        return None

    def kill(self) -> None:
        self._killed.set()

    async def _clean(self, app: HostedApp | None) -> None:
        if app is None:
            return
        try:
            done = await within(CLEANUP_S, app.cleanup(), self._clock, self._killed)
        except Exception:  # noqa: BLE001 - as above
            self._logs.append(self._context.name, shorten(traceback.format_exc()), "error")
        else:
            if not done:
                self._logs.append(
                    self._context.name, f"its cleanup was cancelled after {CLEANUP_S:g} s", "warning"
                )
