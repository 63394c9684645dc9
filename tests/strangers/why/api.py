"""Takes orders over HTTP and passes them on through a queue."""

import os
import threading

import pika
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
broker = pika.URLParameters(os.environ["AMQP_URL"])
threads = threading.local()


class Order(BaseModel):
    item: str
    count: int


def channel() -> pika.adapters.blocking_connection.BlockingChannel:
    """A channel for this thread: pika's connections belong to one."""
    if not hasattr(threads, "channel"):
        threads.channel = pika.BlockingConnection(broker).channel()
        threads.channel.queue_declare("orders", durable=True)
    return threads.channel


@app.get("/healthz")
def health() -> dict[str, bool]:
    return {"ok": True}


@app.post("/orders", status_code=202)
def order(order: Order) -> Order:
    properties = pika.BasicProperties(content_type="application/json")
    channel().basic_publish("", "orders", order.model_dump_json().encode(), properties)
    return order
