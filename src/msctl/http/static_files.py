"""Serves the files of a folder: the handler of a route or a service with `static`.

Files are found, opened and read in threads: a slow disk delays the request, not the loop. A large file is
read piece by piece as the client takes it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from msctl.http.date import http_date
from msctl.http.file_response import (
    REASONS,
    FileInfo,
    FileResponse,
    accepted_codings,
    relative_path,
    respond,
    takes_fallback,
)
from msctl.model.exchange import Exchange, Field, Fields
from msctl.model.route_policies import StaticSpec

PIECE = 256 * 1024
"""The bytes that are read at a time."""

_METHODS = ("GET", "HEAD")
_TEXT: Field = (b"Content-Type", b"text/plain; charset=utf-8")


class _Found(NamedTuple):
    """An open file."""

    descriptor: int
    info: FileInfo
    path: str


class _Folder(NamedTuple):
    """A path that names a folder and lacks its slash."""


class _Answer(NamedTuple):
    """A response with its first piece. `descriptor` is open while more is to be read."""

    response: FileResponse
    data: bytes
    descriptor: int | None


class StaticFiles:
    """The files below `spec.root`."""

    def __init__(self, spec: StaticSpec) -> None:
        self._spec = spec

    def explain(self, method: str, path: str, received: str, fields: list[Field]) -> tuple[int, str]:
        """Return the status that a request would get, and the reason in a sentence. Blocks.

        `received` is the path before a prefix was stripped.
        """
        if method not in _METHODS:
            return 405, "Only GET and HEAD read files."
        path = _below(path, received)
        found = self._find(path, fields)
        if isinstance(found, _Folder):
            return 301, "The path is that of a folder: the gateway redirects to it with a slash at the end."
        if found is not None:
            os.close(found.descriptor)
            return 200, f"The gateway responds with the file {found.path}."
        relative = relative_path(path)
        if relative is None:
            return 404, "Files with such a path are never served."
        wanted = os.path.join(self._spec.root, relative)  # noqa: PTH118 - as above
        is_folder = not relative or path.endswith("/")
        return 404, f"There is no file {os.path.join(wanted, self._spec.index) if is_folder else wanted}."  # noqa: PTH118

    async def serve(self, exchange: Exchange) -> None:
        """Answer one request; raises ClientGoneError."""
        head = exchange.head
        if head.method not in _METHODS:
            allow: Fields = [_TEXT, (b"Allow", b"GET, HEAD"), (b"Date", http_date())]
            exchange.respond(405, REASONS[405], allow, b"405 only GET and HEAD are allowed\n")
            return
        received, mark, query = exchange.received_target.partition("?")
        path = _below(head.target.partition("?")[0], received)
        found = await self._prepared(head.method, path, [*head.fields, *exchange.extra])
        if found is None:
            missing: Fields = [_TEXT, (b"Date", http_date())]
            exchange.respond(404, REASONS[404], missing, b"404 there is no such file\n")
        elif isinstance(found, _Folder):
            # Relative, so that it holds whatever prefix a proxy stripped.
            where = f"./{received.rpartition('/')[2]}/{mark}{query}".encode("utf-8", "surrogateescape")
            exchange.respond(301, REASONS[301], [(b"Location", where), (b"Date", http_date())], b"")
        elif found.descriptor is not None:
            try:
                await self._stream(exchange, found.response, found.data, found.descriptor)
            finally:
                os.close(found.descriptor)
        else:
            self._send(exchange, found.response, found.data)

    @staticmethod
    def _send(exchange: Exchange, response: FileResponse, data: bytes) -> None:
        status, fields, _, length = response
        if length is not None and exchange.head.method != "HEAD" and len(data) == length:
            exchange.respond(status, REASONS[status], fields, data)
        else:
            exchange.start(status, REASONS[status], fields, length=length)
            exchange.finish(data)

    @staticmethod
    async def _stream(exchange: Exchange, response: FileResponse, data: bytes, descriptor: int) -> None:
        status, fields, start, length = response
        end = start + (length or 0)
        exchange.start(status, REASONS[status], fields, length=length)
        while data:
            start += len(data)
            if start >= end:
                exchange.finish(data)
                return
            exchange.write(data)
            if exchange.writing_paused:
                await exchange.drain()
            data = await asyncio.to_thread(os.pread, descriptor, min(PIECE, end - start), start)
        exchange.abort()  # it became shorter: what was sent is not the file

    async def _prepared(self, method: str, path: str, fields: list[Field]) -> _Answer | _Folder | None:
        """Run `_prepare` in a thread; a file that it opens after a cancellation is closed."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(None, self._prepare, method, path, fields)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            future.add_done_callback(_discard)
            raise

    def _prepare(self, method: str, path: str, fields: list[Field]) -> _Answer | _Folder | None:
        """Find a file and read its first piece, all in one go: small files need one thread once. Blocks."""
        found = self._find(path, fields)
        if found is None or isinstance(found, _Folder):
            return found
        kept = False
        try:
            response = respond(method, fields, found.info, self._spec)
            response.fields.append((b"Date", http_date()))
            length = 0 if method == "HEAD" else response.length or 0
            data = os.pread(found.descriptor, min(PIECE, length), response.start) if length else b""
            kept = length > len(data) > 0
            return _Answer(response, data, found.descriptor if kept else None)
        finally:
            if not kept:
                os.close(found.descriptor)

    def _find(self, path: str, fields: list[Field]) -> _Found | _Folder | None:
        """Open the file for a path. Blocks."""
        spec = self._spec
        relative = relative_path(path)
        if relative is None:
            return None
        root = os.path.realpath(spec.root)
        target = os.path.join(root, relative) if relative else root  # noqa: PTH118 - its bytes stay as they are
        if os.path.isdir(target):  # noqa: PTH112
            if not path.endswith("/"):
                return _Folder() if _inside(os.path.realpath(target), root) else None
            found = self._open(root, os.path.join(target, spec.index), fields, is_page=True)  # noqa: PTH118
        else:
            found = None if path.endswith("/") else self._open(root, target, fields, is_page=False)
        if found is None and spec.fallback is not None and takes_fallback(path, fields):
            fallback = os.path.join(root, spec.fallback)  # noqa: PTH118
            found = self._open(root, fallback, fields, is_page=True)
        return found

    def _open(self, root: str, target: str, fields: list[Field], *, is_page: bool) -> _Found | None:
        """Open a file, or its precompressed copy if the client takes that one."""
        plain = _opened(root, target, None, is_page=is_page)
        if plain is None or not self._spec.precompressed:
            return plain
        for coding, suffix in accepted_codings(fields):
            packed = _opened(root, target + suffix, coding, is_page=is_page)
            if packed is not None:
                os.close(plain.descriptor)
                return packed._replace(info=packed.info._replace(name=plain.info.name))
        return plain


def _below(path: str, received: str) -> str:
    """Return `path`, without the slash at its end that `received`, the client's own, does not have.

    All of `/docs` is stripped to `/`, which is a folder's path; but for the page there, `style.css` is
    beside `/docs`. So it is `/docs/` that has the page.
    """
    return path if received.endswith("/") else path.removesuffix("/")


def _discard(future: asyncio.Future[_Answer | _Folder | None]) -> None:
    """Close the file of an answer that nobody waits for."""
    found = None if future.cancelled() or future.exception() else future.result()
    if isinstance(found, _Answer) and found.descriptor is not None:
        os.close(found.descriptor)


def _opened(root: str, target: str, coding: str | None, *, is_page: bool) -> _Found | None:
    """Open a regular file that lies below the root once its links are followed; None without one."""
    real = os.path.realpath(target)
    if not _inside(real, root):
        return None
    try:
        # NONBLOCK: a named pipe must not hold the thread.
        descriptor = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        with suppress(OSError):
            os.close(descriptor)
        return None
    name = Path(target).name
    info = FileInfo(name, status.st_size, status.st_mtime_ns, coding, is_page)
    return _Found(descriptor, info, target)


def _inside(real: str, root: str) -> bool:
    return real == root or real.startswith(root.rstrip("/") + "/")
