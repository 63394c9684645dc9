"""The own port of a hosted service on loopback: the same hosts and pages as the gateway's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiohttp

from msctl.config.diff import diff
from msctl.model.broker_spec import BrokerSpec
from msctl.model.gateway_spec import GatewaySpec
from msctl.model.project import Project
from msctl.model.route_spec import RouteSpec
from msctl.model.service_spec import ServiceSpec
from tests.support.supervisor import MakeRig, Rig

APP = """
from aiohttp import web
async def answer(request):
    return web.Response(text="ok")
def create_app():
    app = web.Application()
    app.router.add_route("*", "/x", answer)
    return app
"""
ROUTE = RouteSpec("/x", "x", hosts=("shop.test",))
SERVICE = ServiceSpec("x", app="hosts_app:create_app", port=0, routes=(ROUTE,))


async def start(rig: MakeRig, root: Path, spec: ServiceSpec = SERVICE) -> Rig:
    (root / "hosts_app.py").write_text(APP)
    one = rig(spec)
    await one.supervisor.start(["x"])
    return one


async def ask(one: Rig, headers: Mapping[str, str], method: str = "GET") -> tuple[int, str]:
    port = one.service("x").addresses[0].rpartition(":")[2]
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{port}/x", headers=headers) as response,
    ):
        return response.status, await response.text()


async def test_foreign_hosts_are_421_and_name_the_key(rig: MakeRig, tmp_path: Path) -> None:
    one = await start(rig, tmp_path)
    for host in ("localhost:1", "x.localhost", "127.0.0.1", "[::1]", "shop.test"):
        assert await ask(one, {"Host": host}) == (200, "ok"), host
    status, text = await ask(one, {"Host": "evil.test"})
    assert (status, "gateway.hosts" in text) == (421, True)


async def test_a_foreign_page_s_post_is_403(rig: MakeRig, tmp_path: Path) -> None:
    one = await start(rig, tmp_path)
    page = {"Origin": "https://evil.test"}
    assert (await ask(one, page, "POST"))[0] == 403
    assert (await ask(one, {"Sec-Fetch-Site": "cross-site"}, "POST"))[0] == 403
    assert (await ask(one, page))[0] == 200
    assert (await ask(one, {"Origin": "http://localhost:5173"}, "POST"))[0] == 200
    assert (await ask(one, {}, "POST"))[0] == 200


async def test_a_request_from_a_gateway_is_not_checked_again(rig: MakeRig, tmp_path: Path) -> None:
    one = await start(rig, tmp_path)
    forwarded = {"Host": "evil.test", "Origin": "https://evil.test", "Via": "1.1 msctl-cafe0001"}
    assert (await ask(one, forwarded, "POST"))[0] == 200


async def test_a_listener_beyond_loopback_answers_for_any_host(rig: MakeRig, tmp_path: Path) -> None:
    one = await start(rig, tmp_path, replace(SERVICE, host="0.0.0.0"))
    assert (await ask(one, {"Host": "evil.test", "Origin": "https://evil.test"}, "POST"))[0] == 200


async def test_the_key_is_live(rig: MakeRig, tmp_path: Path) -> None:
    one = await start(rig, tmp_path)
    assert (await ask(one, {"Host": "new.test"}))[0] == 421
    before = Project("test", tmp_path, "msctl.toml", (SERVICE,), None, BrokerSpec())
    after = replace(before, gateway=GatewaySpec(hosts=("new.test",)))
    plan = one.supervisor.prepare(after, diff(before, after))
    assert await plan.apply() == {}
    await plan.finish()
    assert (await ask(one, {"Host": "new.test"}))[0] == 200
    assert (await ask(one, {"Host": "evil.test"}))[0] == 421
