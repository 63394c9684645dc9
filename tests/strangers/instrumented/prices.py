"""Flask with pika: each price that is asked for is published. Knows nothing of OpenTelemetry."""

import os

import pika
from flask import Flask

app = Flask(__name__)


@app.get("/healthz")
def healthz() -> str:
    return "ok"


@app.get("/prices/<name>")
def price(name: str) -> str:
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
    channel = connection.channel()
    channel.queue_declare("prices", durable=True)
    channel.basic_publish("", "prices", name.encode())
    connection.close()
    return f"{len(name)}\n"


@app.get("/broken")
def broken() -> str:
    raise KeyError("no such price")
