"""The environ of a WSGI request (PEP 3333). Pure."""

from __future__ import annotations

import sys
from typing import Any
from wsgiref.util import FileWrapper

from msctl.hosting.forwarding import Trusts
from msctl.hosting.request_parts import request_of
from msctl.model.exchange import Exchange

Environ = dict[str, Any]


def environ_of(exchange: Exchange, body: object, trusts: Trusts) -> Environ:
    """Return the environ of a request whose body is `body`.

    Fields with an underscore in their name are left out: they would be taken for those with a hyphen, such as
    X_Forwarded_For.
    """
    request = request_of(exchange, trusts)
    host, port = exchange.server
    environ: Environ = {
        "REQUEST_METHOD": exchange.head.method,
        "SCRIPT_NAME": request.prefix.decode("latin-1"),
        "PATH_INFO": request.target.decoded.decode("latin-1"),
        "QUERY_STRING": request.target.query.decode("latin-1"),
        "REQUEST_URI": exchange.head.target.encode("utf-8", "surrogateescape").decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port),
        "SERVER_PROTOCOL": f"HTTP/{request.version}",
        "REMOTE_ADDR": request.client[0],
        "REMOTE_PORT": str(request.client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": body,
        # Without it, frameworks read nothing of a body without Content-Length.
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
    }
    for name, value in request.fields:
        if b"_" in name:
            continue
        key = name.decode("latin-1").upper().replace("-", "_")
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = "HTTP_" + key
        text = value.decode("latin-1")
        if key in environ:
            text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{text}"
        environ[key] = text
    if exchange.head.chunked:
        environ.pop("CONTENT_LENGTH", None)
    return environ
