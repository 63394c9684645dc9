"""The probed service, as a WSGI application without a framework."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs


def size(environ: dict[str, Any]) -> bytes:
    total = 0
    while piece := environ["wsgi.input"].read(65536):
        total += len(piece)
    return str(total).encode()


def cut() -> Iterator[bytes]:
    yield b"half"
    raise RuntimeError("boom")


def app(environ: dict[str, Any], start_response: Any) -> Any:
    def respond(body: bytes, status: str = "200 OK", *fields: tuple[str, str]) -> list[bytes]:
        start_response(status, list(fields))
        return [body]

    match environ["PATH_INFO"]:
        case "/":
            method, version = environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
            return respond(f"{method} {version.removeprefix('HTTP/')}".encode())
        case "/size":
            return respond(size(environ))
        case "/head-size":
            own = [value for name, value in environ.items() if name.startswith("HTTP_X_PROBE")]
            return respond(f"{len(own)} {sum(map(len, own))}".encode())
        case "/cookies":
            return respond(b"150", "200 OK", *(("Set-Cookie", f"c{n}={n}") for n in range(150)))
        case "/long-field":
            return respond(b"9000", "200 OK", ("X-Long", "x" * 9000))
        case "/nothing":
            return respond(b"", "204 No Content")
        case "/fail":
            raise RuntimeError("boom")
        case "/cut":
            start_response("200 OK", [])
            return cut()
        case "/stream":
            start_response("200 OK", [])
            return iter([b"one", b"two"])
        case "/slow":
            time.sleep(0.3)
            return respond(b"slow")
        case "/store":
            mark = Path(parse_qs(environ["QUERY_STRING"])["mark"][0])
            mark.with_suffix(".stored").touch()
            time.sleep(0.5)
            mark.with_suffix(".published").touch()
            return respond(b"done")
        case "/refuse":
            return respond(b"no", "403 Forbidden")
        case _:
            return respond(b"not found", "404 Not Found")
