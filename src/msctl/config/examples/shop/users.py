"""Users: a program of its own, with nothing but the standard library.

msctl gives it $HOST and $PORT, and expects HTTP there.
"""

import json
import logging
import os
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

USERS = [{"id": 1, "name": "Alice"}, {"id": 2, "name": "Bob"}]


def find(path: str) -> object:
    if path == "/healthz":
        return {"status": "up"}
    if path == "/users":
        return USERS
    match = re.fullmatch(r"/users/(\d+)", path)
    return next((user for user in USERS if match and user["id"] == int(match[1])), None)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        found = find(self.path.split("?")[0])
        body = json.dumps(found or {"detail": "not found"}).encode() + b"\n"
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    address = (os.environ["HOST"], int(os.environ["PORT"]))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.info("users on %s:%d", *address)
    ThreadingHTTPServer(address, Handler).serve_forever()
