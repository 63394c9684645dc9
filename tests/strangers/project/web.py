"""A Flask service that calls the API and redis."""

import os
import urllib.request

import redis
from flask import Flask

app = Flask(__name__)
cache = redis.Redis.from_url(os.environ["REDIS_URL"])


@app.get("/web")
def web() -> bytes:
    cache.incr("visits")
    with urllib.request.urlopen(os.environ["API_URL"] + "/api/items") as answer:
        return answer.read()
