"""The application that an import path names."""

from __future__ import annotations

from msctl.clock import AsyncClock
from msctl.hosting.aiohttp_app import AiohttpApp
from msctl.hosting.asgi.app import AsgiApp
from msctl.hosting.frameworks import Found, find_application
from msctl.hosting.hosted_app import HostedApp
from msctl.hosting.modules import Loader
from msctl.hosting.wsgi.app import WsgiApp
from msctl.model.service_context import ServiceContext
from msctl.model.service_spec import Framework, ServiceSpec
from msctl.telemetry.logs.hub import LogHub


async def import_app(
    target: str,
    spec: ServiceSpec,
    context: ServiceContext,
    *,
    loader: Loader,
    logs: LogHub,
    clock: AsyncClock,
) -> HostedApp:
    """Return the hosted application of `spec` that `target` names.

    `target` is `module:attribute`: an application, or a sync or async factory of one that takes no argument
    or a ServiceContext. Raises what the user's code raises, and NotAnApplicationError.
    """
    attribute = await loader.load_in_thread(target)
    found = await find_application(attribute, target, context, spec.framework)
    return hosted_app(found, spec, context, logs=logs, clock=clock)


def hosted_app(
    found: Found, spec: ServiceSpec, context: ServiceContext, *, logs: LogHub, clock: AsyncClock
) -> HostedApp:
    """Return the hosted application of `spec` for an application that was found."""
    if found.framework is Framework.ASGI:
        return AsgiApp(found.application, context, websocket=spec.websocket, logs=logs, clock=clock)
    if found.framework is Framework.WSGI:
        return WsgiApp(found.application, context, threads=spec.threads, logs=logs, clock=clock)
    return AiohttpApp(found.application, context, logs=logs, clock=clock)
