"""What `msctl sim` plays: customers order, the network fails, and in the end each order is paid once."""

from aiohttp import ClientError, web

from msctl.simulation.world import World


async def find_user(request: web.Request) -> web.Response:
    return web.json_response({"id": int(request.match_info["id"]), "name": "Alice"})


def create_users() -> web.Application:
    """In the place of users.mjs: a simulation runs no other programs."""
    app = web.Application()
    app.router.add_get("/users/{id}", find_user)
    return app


stubs = {"users": create_users}
seconds = 90  # in which the network fails


async def scenario(world: World) -> None:
    taken: list[int] = []
    for number in range(20):
        try:
            async with world.http.post("/orders", json={"user": 1, "amount": number}) as response:
                if response.status == 201:
                    taken.append((await response.json())["order"])
        except (ClientError, OSError):
            pass  # the customer does not know; the order may be there
        await world.sleep(2)
    await world.settle()
    async with world.http.get("/payments") as response:
        paid = [payment["order"] for payment in (await response.json())["payments"]]
    world.exactly_once(paid, taken, "the payment of order")
