"""A FastStream consumer."""

import os

from faststream import FastStream
from faststream.rabbit import RabbitBroker

broker = RabbitBroker(os.environ["AMQP_URL"])
app = FastStream(broker)


@broker.subscriber("orders")
async def handle(message: str) -> None:
    print("order", message, flush=True)
