"""Static files: the same file for the same path as msctl's gateway, and the same rules of caching.

A route's location jumps to a named one, which tries the file. Without a file a second one answers: with the
index of a folder, a redirect to the folder's own path, the fallback, or 404. Variables hold the paths, less
what the route strips; a path that must not be served becomes NONE, which is no file.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator

from msctl.export.proxies.nginx.syntax import OWN, decoded_path, in_quotes, literal, path_regex, value
from msctl.export.proxies.nginx.targets import Target
from msctl.export.proxies.precedence import pattern_of
from msctl.http.file_response import content_type
from msctl.model.route_policies import StaticSpec

NONE = "/."
"""A folder, so that no file is found."""
PATH = f"${OWN}uri"
"""The decoded path, which is set before the path is rewritten to that of an internal location."""
SET_PATH = f"set {PATH} $uri;"

_NOWHERE = "/dev/null/none"
NOT_ALLOWED = "/-/msctl/405-files"

_HIDDEN = r"(?s)^(?:/\.well-known(?=/|$))?+(?:.*/\.|.*[^/]//|.*\\)"
_MORE_TYPES = (".avif", ".map", ".md", ".mjs", ".webmanifest", ".webp", ".woff", ".woff2", ".otf", ".ttf")


def type_lines() -> Iterator[str]:
    """The types of files, those of msctl's gateway."""
    found: dict[str, list[str]] = {}
    known = mimetypes.MimeTypes(()).types_map[True]
    for suffix in sorted({*known, *_MORE_TYPES}):
        found.setdefault(content_type(f"x{suffix}"), []).append(suffix[1:])
    yield "types {"
    for media_type, suffixes in sorted(found.items()):
        if media_type != "application/octet-stream":
            yield f"    {value(media_type)} {' '.join(suffixes)};"
    yield "}"
    yield "default_type application/octet-stream;"


def file_head() -> Iterator[str]:
    """The maps that all routes with files share."""
    yield ""
    yield f"map $request_uri ${OWN}has_slash {{"
    yield '    "~^[^?]*%2[Ff]" 1;'
    yield "    default 0;"
    yield "}"
    yield ""
    yield f"map $request_uri ${OWN}last {{"
    yield f'    "~^[^?]*/(?<{OWN}element>[^/?]*)" ${OWN}element;'
    yield "    default '';"
    yield "}"
    yield ""
    yield f'map "${OWN}last $http_accept" ${OWN}is_page {{'
    yield '    "~^[^. ]* " 1;'
    yield '    "~*^[^ ]* .*text/html" 1;'
    yield "    default 0;"
    yield "}"


def file_maps(target: Target) -> Iterator[str]:
    files, route, number = target.files, target.route, target.number
    if files is None:
        return
    below = PATH
    if route.strip_prefix or route.rewrite is not None:
        below = f"${OWN}below_{number}"
        head = path_regex(pattern_of(route), decoded=True)
        prefix = literal(decoded_path((route.rewrite or "").rstrip("/")))
        yield ""
        yield f"map {PATH} {below} {{"
        yield f'    "~(?s)^{head}(?<{OWN}inside_{number}>/.*)$" "{prefix}${OWN}inside_{number}";'
        # Without a slash behind the prefix it is a folder without its slash: that redirects.
        whole = literal(decoded_path(route.rewrite or "/")) if route.exact else prefix
        yield f'    "~^{head}$" "{whole}";'
        yield f"    default {PATH};"
        yield "}"
    yield ""
    yield f"map ${OWN}has_slash{below} ${OWN}file_{number} {{"
    yield f'    "~^1" {NONE};'
    yield f'    "~{in_quotes(_HIDDEN.replace("^", "^0", 1))}" {NONE};'
    yield f"    default {below};"
    yield "}"
    yield ""
    yield f"map ${OWN}file_{number} ${OWN}index_{number} {{"
    yield f'    "~/$" "${{{OWN}file_{number}}}{literal(files.index)}";'
    yield f"    default {NONE};"
    yield "}"
    yield ""
    yield f"map ${OWN}file_{number} ${OWN}folder_{number} {{"
    yield f'    "~/[.]?$" {_NOWHERE};'
    yield f'    default "{literal(files.root)}${OWN}file_{number}";'
    yield "}"
    if files.fallback is not None:
        yield ""
        yield f"map ${OWN}is_page${OWN}file_{number} ${OWN}fallback_{number} {{"
        yield f'    "~/[.]$" {NONE};'
        yield f'    "~^1" {value("/" + files.fallback)};'
        yield f"    default {NONE};"
        yield "}"


def file_location(target: Target, files: StaticSpec) -> Iterator[str]:
    """The body of the location that tries the file itself, but for its fields."""
    yield from _file_lines(files)
    yield f"try_files ${OWN}file_{target.number} @{OWN}page_{target.number};"


def page_location(target: Target, files: StaticSpec) -> Iterator[str]:
    """The body of the location that answers without a file, but for its fields."""
    number = target.number
    fallback = f" ${OWN}fallback_{number}" if files.fallback is not None else ""
    yield from _file_lines(files)
    yield 'if ($request_method !~ "^(?:GET|HEAD)$") {'
    yield "    return 405;"
    yield "}"
    yield f"if (-d ${OWN}folder_{number}) {{"
    yield f'    return 301 "./${OWN}last/$is_args$args";'
    yield "}"
    yield f"try_files ${OWN}index_{number}{fallback} =404;"


def caching(files: StaticSpec, *, is_page: bool) -> tuple[str, ...]:
    """The fields of a response with a file."""
    fresh = files.max_age is None or is_page
    text = "no-cache" if fresh else f'"public, max-age={files.max_age}"'
    return f"add_header Cache-Control {text};", "add_header X-Content-Type-Options nosniff;"


def _file_lines(files: StaticSpec) -> Iterator[str]:
    yield f"root {value(files.root)};"
    yield "disable_symlinks on from=$document_root;"
    yield "if_modified_since before;"
    yield "error_page 403 404 =404 /-/msctl/404;"
    yield f"error_page 405 {NOT_ALLOWED};"
    if files.precompressed:
        yield "gzip_static on;"
        yield "gzip_vary on;"
