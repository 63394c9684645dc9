"""How long a hosted application is given to finish its requests, as the supervisor tells it."""

from __future__ import annotations

import pytest
from aiohttp import web

from msctl.model.service_spec import ServiceSpec
from msctl.model.services import DRAIN_S
from tests.support.supervisor import MakeRig


class Draining:
    """Notes the seconds that each of its drains may take."""

    def __init__(self, drains: list[float]) -> None:
        self._drains = drains

    async def startup(self) -> None:
        pass

    async def handle(self, request: web.Request) -> web.StreamResponse:
        return web.Response()

    async def drain(self, timeout: float) -> None:
        self._drains.append(timeout)

    async def cleanup(self) -> None:
        pass


@pytest.mark.parametrize(
    ("stop_timeout", "expected"), [(None, DRAIN_S), (2.0, 2.0), (9.0, 9.0), (10.0, 10.0), (600.0, 600.0)]
)
async def test_a_hosted_service_has_its_own_stop_timeout(
    rig: MakeRig, stop_timeout: float | None, expected: float
) -> None:
    drains: list[float] = []
    one = rig(ServiceSpec("a", app="-", stop_timeout=stop_timeout), builtin={"a": lambda _: Draining(drains)})
    for stop in (one.supervisor.stop, one.supervisor.restart):
        await one.supervisor.start(["a"])
        await stop(["a"])
    await one.supervisor.stop(["a"])
    assert drains == [expected] * 3


async def test_a_timeout_given_with_the_stop_replaces_the_services_own(rig: MakeRig) -> None:
    drains: list[float] = []
    one = rig(ServiceSpec("a", app="-", stop_timeout=9.0), builtin={"a": lambda _: Draining(drains)})
    await one.supervisor.start(["a"])
    await one.supervisor.stop(["a"], timeout=1.5)
    assert drains == [1.5]
