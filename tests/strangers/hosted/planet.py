"""Litestar with a path parameter, a body and a websocket."""

from dataclasses import dataclass
from typing import Annotated

from litestar import Litestar, get, post, websocket_listener
from litestar.params import Parameter


@dataclass
class Moon:
    name: str
    radius: int


@get("/planets/{name:str}")
async def planet(name: str, moons: Annotated[int, Parameter(query="moons")] = 0) -> dict[str, object]:
    return {"name": name, "moons": moons}


@post("/moons")
async def moon(data: Moon) -> Moon:
    return data


@websocket_listener("/talk")
async def talk(data: str) -> str:
    return data.upper()


app = Litestar([planet, moon, talk])
