"""Refusals of malformed requests: which rule of HTTP a request breaks, and the response that says so. Pure.

A refusal never repeats the client's bytes: they may be hostile, and a log or a page may show the response.
The parser knows that a head is malformed; what is wrong with it is found here, off the hot path.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus

from msctl.model.exchange import Fields, RequestError
from msctl.model.http_methods import METHOD_NAMES

_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    414: b"URI Too Long",
    422: b"Unprocessable Content",
}
CONTENT_TYPE = b"application/problem+json"

METHODS = {name.encode(): name for name in METHOD_NAMES}

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
BARE_LF = re.compile(rb"(?<!\r)\n")
_BARE_CR = re.compile(rb"\r(?!\n)")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_VERSION = re.compile(rb"HTTP/\d\.\d")
_TLS_HANDSHAKE = 0x16

_THREE_PARTS = (
    "The request line is not a method, a target and a version, with one space between them (RFC 9112 §3)."
)


def phrase(status: int) -> bytes:
    """Return the standard reason phrase of a status; empty if it has none."""
    return _PHRASES.get(status, b"")


def problem(status: int, detail: str) -> tuple[Fields, bytes]:
    """Return the fields and the body of a problem document (RFC 9457)."""
    document = {"type": "about:blank", "title": phrase(status).decode(), "status": status, "detail": detail}
    fields = [(b"Content-Type", CONTENT_TYPE), (b"Cache-Control", b"no-store")]
    return fields, json.dumps(document, ensure_ascii=False).encode() + b"\n"


def bare_lf() -> RequestError:
    return RequestError(400, "A line of the head ends with LF alone. Lines end with CR LF (RFC 9112 §2.2).")


def line_too_long(limit: int) -> RequestError:
    return RequestError(414, f"The request line is longer than {limit} bytes.")


def head_too_large(limit: int) -> RequestError:
    return RequestError(
        431, f"The request line and the header fields are longer than {limit} bytes (max_header_bytes)."
    )


def check_line_start(line: bytes, limit: int) -> None:
    """Raise RequestError if `line`, whose end may not have arrived, cannot be a request line."""
    if line and not _TOKEN.match(line):
        if line[0] == _TLS_HANDSHAKE:
            raise RequestError(
                400, "This port speaks plain HTTP; the client began TLS. Use http:// in the URL."
            )
        if line[0] != 0x0A:
            raise RequestError(400, "The request does not begin with a method (RFC 9112 §3).")
    if BARE_LF.search(line, 0, limit + 1):
        raise bare_lf()
    # The last byte may be the CR of the line's end.
    if len(line) - line.endswith(b"\r") > limit:
        raise line_too_long(limit)


def request_line(line: bytes) -> RequestError:
    """Return what is wrong with a complete request line, given without its line end."""
    if line == b"PRI * HTTP/2.0":
        return RequestError(
            505,
            "This server speaks HTTP/1.1; the client began HTTP/2 with prior knowledge, as gRPC clients do. "
            "Use HTTP/1.1, or connect to the service's own port if it speaks HTTP/2 or gRPC.",
        )
    method, _, rest = line.partition(b" ")
    target, mark, version = rest.rpartition(b" ")
    if not _TOKEN.fullmatch(method):
        return RequestError(400, "The method is not a token (RFC 9110 §9.1).")
    if not mark or not target:
        return RequestError(400, _THREE_PARTS)
    if not version.startswith(b"HTTP/"):
        return RequestError(400, _THREE_PARTS)
    if not _VERSION.fullmatch(version):
        return RequestError(400, "The version is not HTTP/ and two digits with a dot (RFC 9112 §2.3).")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        return RequestError(505, "This server speaks HTTP/1.1 and HTTP/1.0; the request has another version.")
    if any(byte > 0x7F for byte in target):
        return RequestError(400, "The target has bytes outside ASCII. Percent-encode them (RFC 3986 §2.1).")
    if b" " in target:
        return RequestError(400, _THREE_PARTS)
    if any(byte < 0x21 or byte == 0x7F for byte in target):
        return RequestError(400, "The target has a control character (RFC 3986 §2).")
    return RequestError(501, "The method is not one that this server knows (RFC 9110 §9.1).")


def target_form() -> RequestError:
    return RequestError(400, "The target is neither a path nor a URL (RFC 9112 §3.2).")


def header_fields(block: bytes, count: int) -> RequestError:
    """Return what is wrong with the fields of a head that the parser refused.

    `block` is every line after the request line; `count` is how many fields are allowed.
    """
    if BARE_LF.search(block):
        return bare_lf()
    if _BARE_CR.search(block):
        return RequestError(400, "The head has a CR that no LF follows (RFC 9112 §2.2).")
    lines = block.split(b"\r\n")[:-2]
    if len(lines) > count:
        return too_many_fields(count)
    seen: dict[bytes, list[bytes]] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if line[:1] in (b" ", b"\t"):
            return RequestError(400, "A header field is folded over several lines (RFC 9112 §5.2).")
        if not colon:
            return RequestError(400, "A header field has no colon (RFC 9112 §5).")
        if name.rstrip(b" \t") != name:
            return RequestError(400, "A header field has a space before its colon (RFC 9112 §5.1).")
        if not _TOKEN.fullmatch(name):
            return RequestError(400, "The name of a header field is not a token (RFC 9110 §5.1).")
        if _CONTROL.search(value):
            return RequestError(400, "A header field has a control character in its value (RFC 9110 §5.5).")
        seen.setdefault(name.lower(), []).append(value.strip(b" \t"))
    lengths, codings = seen.get(b"content-length", []), seen.get(b"transfer-encoding", [])
    if lengths and codings:
        return RequestError(400, "The request has both Content-Length and Transfer-Encoding (RFC 9112 §6.3).")
    if len(lengths) > 1 or not all(value.isdigit() and len(value) <= 18 for value in lengths):
        return RequestError(400, "The Content-Length field is not a single number (RFC 9110 §8.6).")
    if codings and [coding.lower() for coding in codings] != [b"chunked"]:
        return transfer_coding(codings)
    for name, values in seen.items():
        if len(values) > 1 and name in _SINGLE:
            return RequestError(400, f"The request has more than one {_SINGLE[name]} field (RFC 9110 §5.3).")
    if b"host" not in seen:
        return RequestError(400, "The request has no Host field (RFC 9112 §3.2).")
    return RequestError(400, "The header fields are malformed (RFC 9112 §5).")


def too_many_fields(count: int) -> RequestError:
    return RequestError(431, f"The request has more than {count} header fields (max_header_fields).")


def transfer_coding(codings: list[bytes]) -> RequestError:
    """Return what is wrong with these values of Transfer-Encoding."""
    if len(codings) > 1 or not codings[0]:
        return RequestError(400, "The Transfer-Encoding field is empty or repeated (RFC 9112 §6.1).")
    names = [part.strip(b" \t").lower() for part in codings[0].split(b",")]
    if b"chunked" in names[:-1]:
        return RequestError(400, "chunked is not the last transfer coding, or repeated (RFC 9112 §6.1).")
    return RequestError(501, "The only supported transfer coding is chunked (RFC 9112 §6.1).")


_SINGLE = {
    name.lower().encode(): name
    for name in (
        "Host",
        "Content-Type",
        "Content-Location",
        "Content-Range",
        "ETag",
        "Max-Forwards",
        "Server",
        "User-Agent",
    )
}
