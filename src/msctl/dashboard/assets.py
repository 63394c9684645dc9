"""The files of the page, served from memory with an entity tag each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from aiohttp import web

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    tag: str
    content_type: str


class Assets:
    """All files of the page, loaded once."""

    def __init__(self) -> None:
        self._assets = _load()

    def serve(self, request: web.Request, name: str) -> web.StreamResponse:
        """Respond with a file, or with 304 if the browser has it. Raises HTTPNotFound."""
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound(text=f"{name} not found\n")
        headers = {"ETag": asset.tag, "Cache-Control": "no-cache"}
        if request.headers.get("If-None-Match") == asset.tag:
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=asset.content, content_type=asset.content_type, charset="utf-8", headers=headers
        )


def _load() -> dict[str, Asset]:
    found: dict[str, Asset] = {}
    for file in files("msctl.dashboard").joinpath("static").iterdir():
        content_type = _TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            content = file.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            found[file.name] = Asset(content, tag, content_type)
    return found
