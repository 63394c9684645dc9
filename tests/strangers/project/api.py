"""A FastAPI service that logs much."""

import logging
import os

from fastapi import FastAPI

logging.basicConfig(level=logging.DEBUG)
log = logging.getLogger("api")
app = FastAPI()


@app.get("/api/items")
def items() -> dict[str, object]:
    for number in range(int(os.environ.get("DEBUG_LINES", "0"))):
        log.debug("looking at item %d", number)
    return {"items": [1, 2, 3], "pid": os.getpid()}


@app.get("/healthz")
def health() -> dict[str, bool]:
    return {"ok": True}
