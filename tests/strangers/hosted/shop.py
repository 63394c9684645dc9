"""FastAPI with a lifespan, websockets, background tasks, a stream and an upload; as its tutorial has them."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import BackgroundTasks, FastAPI, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from pydantic import BaseModel


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, list[str]]]:
    print("shop opens", flush=True)
    yield {"sent": []}
    print("shop closes", flush=True)


app = FastAPI(title="Shop", lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: float


@app.get("/")
async def root() -> dict[str, str]:
    return {"message": "Hello World"}


@app.get("/items/{item_id}")
def read_item(item_id: int, q: str | None = None) -> dict[str, object]:
    """Runs in a thread."""
    return {"item_id": item_id, "q": q}


@app.post("/items", status_code=201)
async def create_item(item: Item) -> Item:
    return item


@app.post("/mail/{address}", status_code=202)
async def mail(address: str, request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    async def send() -> None:
        await asyncio.sleep(0.2)
        request.state.sent.append(address)

    tasks.add_task(send)
    return {"sent": "soon"}


@app.get("/mail")
async def mails(request: Request) -> list[str]:
    return request.state.sent


@app.post("/files")
async def upload(file: UploadFile) -> dict[str, int]:
    return {"size": len(await file.read())}


@app.get("/events")
async def events() -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("the shop burns")


@app.get("/env")
async def env(request: Request) -> dict[str, str | None]:
    context = getattr(request.state, "msctl", None)
    found = context.env if context is not None else os.environ
    return {"greeting": found.get("GREETING")}


@app.websocket("/chat")
async def chat(socket: WebSocket) -> None:
    await socket.accept(subprotocol="chat" if "chat" in socket.scope["subprotocols"] else None)
    try:
        while True:
            await socket.send_text("echo " + await socket.receive_text())
    except WebSocketDisconnect as left:
        print(f"chat closed with {left.code}", flush=True)
