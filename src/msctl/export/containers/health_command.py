"""The command of a container's health check: a health check in what its image has to run one with. Pure."""

from __future__ import annotations

import json

from msctl.export.containers.images import Language
from msctl.export.health import HealthCheck


def health_command(check: HealthCheck, language: Language = Language.PYTHON) -> list[str] | None:
    """Return the command of a container's health check, for what its image has; None if that is not known.

    The image of what runs in Python has no curl.
    """
    if check.argv:
        return list(check.argv)
    if language is Language.NODE:
        return _node_health(check)
    if language is Language.GO:
        return _busybox_health(check)
    return None if language is Language.GIVEN else _python_health(check)


def _node_health(check: HealthCheck) -> list[str]:
    port, milliseconds = check.port, round(check.timeout * 1000)
    if check.path is None:
        script = (
            f'const s = require("net").connect({port}, "127.0.0.1", () => process.exit(0)); '
            f's.setTimeout({milliseconds}, () => process.exit(1)); s.on("error", () => process.exit(1))'
        )
    else:
        asked = {
            "host": "127.0.0.1",
            "port": port,
            "path": check.path,
            "headers": dict(check.headers),
            "timeout": milliseconds,
            "rejectUnauthorized": False,
        }
        script = (
            f'const r = require("{"https" if check.https else "http"}").get({json.dumps(asked)}, a => '
            "process.exit(a.statusCode >= 200 && a.statusCode < 400 ? 0 : 1)); "
            'r.on("timeout", () => process.exit(1)); r.on("error", () => process.exit(1))'
        )
    return ["node", "-e", script]


def _busybox_health(check: HealthCheck) -> list[str]:
    if check.path is None:
        return ["nc", "-z", "-w", str(check.timeout_s), "127.0.0.1", str(check.port)]
    fields = [word for name, value in check.headers.items() for word in ("--header", f"{name}: {value}")]
    insecure = ["--no-check-certificate"] if check.https else []
    url = f"{'https' if check.https else 'http'}://127.0.0.1:{check.port}{check.path}"
    return ["wget", "-q", "-O", "/dev/null", "-T", str(check.timeout_s), *insecure, *fields, url]


def _python_health(check: HealthCheck) -> list[str]:
    if check.path is None:
        address = f'("127.0.0.1", {check.port})'
        script = f"import socket; socket.create_connection({address}, {check.timeout:g}).close()"
    else:
        kind, context, module = "HTTPConnection", "", ""
        if check.https:  # as everywhere, no certificate is checked
            kind, context, module = "HTTPSConnection", ", context=ssl._create_unverified_context()", ", ssl"
        values = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in check.headers.items()]
        if check.secret_headers:
            module += ", os"
            values += [
                f"{json.dumps(name)}: os.path.expandvars({json.dumps(value)})"
                for name, value in check.secret_headers.items()
            ]
        headers = f", headers={{{', '.join(values)}}}" if values else ""
        script = (
            f"import http.client, sys{module}; "
            f'c = http.client.{kind}("127.0.0.1", {check.port}, timeout={check.timeout:g}{context}); '
            f'c.request("GET", {json.dumps(check.path)}{headers}); '
            "sys.exit(not 200 <= c.getresponse().status < 400)"
        )
    return ["python", "-c", script]
