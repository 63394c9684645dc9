"""FastAPI with aio-pika: an order becomes a message. Knows nothing of OpenTelemetry."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from fastapi import FastAPI

log = logging.getLogger("orders")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    app.state.channel = await connection.channel()
    await app.state.channel.declare_queue("orders", durable=True)
    yield
    await connection.close()


app = FastAPI(lifespan=lifespan)


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.post("/orders/{number}", status_code=202)
async def order(number: int) -> dict[str, int]:
    log.warning("order %d is on its way", number)
    message = aio_pika.Message(str(number).encode())
    await app.state.channel.default_exchange.publish(message, "orders")
    return {"order": number}


@app.get("/broken/{number}")
def broken(number: int) -> int:
    return 1 // (number - number)
