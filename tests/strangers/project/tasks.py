"""A celery worker, without a result backend."""

import os

from celery import Celery

app = Celery("tasks", broker=os.environ["AMQP_URL"])


@app.task
def add(one: int, two: int) -> int:
    return one + two
