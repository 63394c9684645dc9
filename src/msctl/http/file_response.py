"""The response to a request for a file: conditions, ranges and fields (RFC 9110 §13, §14). Pure."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from email.utils import formatdate, parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

from msctl.model.exchange import Field, Fields
from msctl.model.route_policies import StaticSpec

REASONS = {
    200: b"OK",
    206: b"Partial Content",
    301: b"Moved Permanently",
    304: b"Not Modified",
    404: b"Not Found",
    405: b"Method Not Allowed",
    412: b"Precondition Failed",
    416: b"Range Not Satisfiable",
}

WELL_KNOWN = ".well-known"
"""The one folder with a dot that is served (RFC 8615)."""

CODINGS = (("br", ".br"), ("gzip", ".gz"))
"""The codings of precompressed files, best first, and their suffixes."""

_RANGE = re.compile(rb"bytes=[ \t]*(?:([0-9]{1,30})-([0-9]{1,30})?|-([0-9]{1,30}))[ \t]*", re.IGNORECASE)
_TYPES = mimetypes.MimeTypes(())
for _suffix, _type in {
    ".avif": "image/avif",
    ".js": "text/javascript",
    ".map": "application/json",
    ".md": "text/markdown",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}.items():
    _TYPES.add_type(_type, _suffix)


class FileInfo(NamedTuple):
    """A file that was found: its name decides the type. `coding` is that of a precompressed one."""

    name: str
    size: int
    modified_ns: int
    coding: str | None = None
    is_page: bool = False
    """Whether it is the index or the fallback, whose name does not change with its content."""

    @property
    def etag(self) -> bytes:
        suffix = f"-{self.coding}" if self.coding else ""
        return f'"{self.modified_ns:x}-{self.size:x}{suffix}"'.encode()

    @property
    def modified(self) -> int:
        """When it was modified, in whole seconds since the epoch."""
        return self.modified_ns // 1_000_000_000


class FileResponse(NamedTuple):
    """A response: `length` bytes of the file from `start`; None is a response without the file."""

    status: int
    fields: Fields
    start: int = 0
    length: int | None = None


def relative_path(path: str) -> str | None:
    """Return the path of a file below the root for the path of a URL; None for one that must not be served.

    Refused are elements that begin with a dot, but `.well-known`, and those with a slash or NUL hidden in
    them. What is left cannot leave the root but by a symbolic link.
    """
    elements = path.lstrip("/").split("/")
    found: list[str] = []
    for number, element in enumerate(elements):
        if element == ".":
            continue  # it names where it stands
        name = unquote_to_bytes(element).decode("utf-8", "surrogateescape")
        if not name:
            if number + 1 < len(elements):
                return None  # //
            continue
        hidden = name.startswith(".") and not (name == WELL_KNOWN and not found)
        if hidden or "/" in name or "\\" in name or "\0" in name:
            return None
        found.append(name)
    return "/".join(found)


def takes_fallback(path: str, fields: Sequence[Field]) -> bool:
    """Return whether a path without a file is a page of a single-page app: no missing script or image."""
    if "." not in path.rpartition("/")[2]:
        return True
    return any(b"text/html" in value.lower() for name, value in fields if name.lower() == b"accept")


def accepted_codings(fields: Sequence[Field]) -> tuple[tuple[str, str], ...]:
    """Return the codings of CODINGS that Accept-Encoding names with a weight above 0."""
    names: set[str] = set()
    for name, value in fields:
        if name.lower() == b"accept-encoding":
            for item in value.decode("latin-1").lower().split(","):
                coding, _, parameters = item.partition(";")
                weight = parameters.strip().removeprefix("q=")
                if not re.fullmatch(r"0(\.0*)?", weight):
                    names.add(coding.strip())
    return tuple(entry for entry in CODINGS if entry[0] in names)


def respond(method: str, fields: Sequence[Field], file: FileInfo, spec: StaticSpec) -> FileResponse:
    """Return the response to a GET or HEAD request for a file that exists."""
    validators: Fields = [
        (b"ETag", file.etag),
        (b"Last-Modified", formatdate(file.modified, usegmt=True).encode()),
        (b"Cache-Control", _cache_control(file, spec)),
    ]
    if spec.precompressed:
        validators.append((b"Vary", b"Accept-Encoding"))
    status = _condition(fields, file)
    if status is not None:
        return FileResponse(status, validators if status == 304 else [], 0, None if status == 304 else 0)
    about: Fields = [
        (b"Content-Type", content_type(file.name).encode()),
        *validators,
        (b"Accept-Ranges", b"bytes"),
        (b"X-Content-Type-Options", b"nosniff"),
    ]
    if file.coding is not None:
        about.append((b"Content-Encoding", file.coding.encode()))
    wanted = _range(method, fields, file)
    if wanted is None:
        return FileResponse(200, about, 0, file.size)
    start, end = wanted
    if start >= end:
        return FileResponse(416, [(b"Content-Range", b"bytes */%d" % file.size)], 0, 0)
    about.append((b"Content-Range", b"bytes %d-%d/%d" % (start, end - 1, file.size)))
    return FileResponse(206, about, start, end - start)


def content_type(name: str) -> str:
    """Return the media type of a file by its name; text is UTF-8."""
    found, coding = _TYPES.guess_type(name, strict=False)
    if coding is not None or found is None:
        return {"gzip": "application/gzip"}.get(coding or "", "application/octet-stream")
    return f"{found}; charset=utf-8" if found.startswith("text/") or found.endswith("+xml") else found


def _cache_control(file: FileInfo, spec: StaticSpec) -> bytes:
    if spec.max_age is None or file.is_page:
        return b"no-cache"
    return b"public, max-age=%d" % spec.max_age


def _condition(fields: Sequence[Field], file: FileInfo) -> int | None:
    """Evaluate the conditions in the order of RFC 9110 §13.2.2; None if the file is to be sent."""
    if (matches := _all(fields, b"if-match")) is not None:
        if matches != b"*" and file.etag not in _tags(matches):
            return 412
    elif (since := _date(fields, b"if-unmodified-since")) is not None and file.modified > since:
        return 412
    if (none := _all(fields, b"if-none-match")) is not None:
        if none == b"*" or file.etag in {tag.removeprefix(b"W/") for tag in _tags(none)}:
            return 304
    elif (since := _date(fields, b"if-modified-since")) is not None and file.modified <= since:
        return 304
    return None


def _range(method: str, fields: Sequence[Field], file: FileInfo) -> tuple[int, int] | None:
    """Return the bytes wanted, from and to; None for the whole file; an empty range is unsatisfiable.

    Several ranges get the whole file, which RFC 9110 §14.2 allows and no player or resumed download asks for.
    """
    given = _all(fields, b"range")
    if method != "GET" or given is None or (match := _RANGE.fullmatch(given)) is None:
        return None
    condition = _all(fields, b"if-range")
    if condition is not None and condition != file.etag:
        since = _date(fields, b"if-range")
        if since is None or since != file.modified:
            return None
    if match[3] is not None:
        count = min(int(match[3]), file.size)
        return (file.size - count, file.size) if count else (0, 0)
    start = int(match[1])
    end = file.size if match[2] is None else min(int(match[2]) + 1, file.size)
    if match[2] is not None and int(match[2]) < start:
        return None
    return (start, end) if start < file.size else (0, 0)


def _all(fields: Sequence[Field], name: bytes) -> bytes | None:
    found = [value.strip(b" \t") for key, value in fields if key.lower() == name]
    return b", ".join(found) if found else None


def _tags(value: bytes) -> list[bytes]:
    return re.findall(rb'(?:W/)?"[^"]*"', value)


def _date(fields: Sequence[Field], name: bytes) -> int | None:
    value = _all(fields, name)
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value.decode("latin-1")).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
