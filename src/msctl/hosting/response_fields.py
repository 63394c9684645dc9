"""The head of an application's response: checked, and without the fields that belong to the connection."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from msctl.http.date import http_date
from msctl.model.exchange import Field, Fields

BODILESS = frozenset({204, 304})
_BAD_NAME = re.compile(rb'[\x00-\x20\x7f-\xff()<>@,;:\\\[\]={}"/?]')
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_OF_THE_CONNECTION = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding"})
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class ResponseHead(NamedTuple):
    status: int
    reason: bytes
    fields: tuple[Field, ...]
    length: int | None
    """The Content-Length that the application declares."""
    close: bool
    """Whether the application asks for the end of the connection."""


_KEPT = 1024
"""The number of checked heads at which they are forgotten."""
_SMALL = 1024
"""Bytes of the longest values that are kept."""
_checked: dict[tuple[object, ...], tuple[bytes, ResponseHead]] = {}
"""Heads by all that they are made of, each with the date that it was made at: most responses of a service
have the same one."""


def response_head(
    status: object,
    headers: Iterable[tuple[bytes, bytes]],
    reason: bytes | None = None,
    *,
    method: str = "GET",
) -> ResponseHead:
    """Check what an application starts its response to `method` with, and add Date where it is missing.

    Names are in lower case, as uvicorn writes them. A response without a body has no Content-Length where
    the application gives two that differ: BlackSheep does so for HEAD.
    Raises RuntimeError or TypeError, for the application.
    """
    bodiless = method == "HEAD" or status in BODILESS
    key = (status, reason, bodiless, *headers)
    date = http_date()
    try:
        known = _checked.get(key)
    except TypeError:  # an application may give lists for tuples
        return _check(status, key[3:], reason, date, bodiless)
    if known is not None and known[0] is date:
        return known[1]
    head = _check(status, key[3:], reason, date, bodiless)
    if sum(len(value) for _, value in head.fields) <= _SMALL:
        if len(_checked) >= _KEPT:
            _checked.clear()
        _checked[key] = date, head
    return head


def _check(
    status: object, headers: Iterable[Any], reason: bytes | None, date: bytes, bodiless: bool
) -> ResponseHead:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise RuntimeError(f"Invalid HTTP status code {status!r} in response.")
    fields: Fields = []
    lengths: set[int] = set()
    close = dated = False
    for name, value in headers:
        if type(name) is not bytes or type(value) is not bytes:
            name, value = _as_bytes(name), _as_bytes(value)
        name = name.lower()
        if not name or _BAD_NAME.search(name):
            raise RuntimeError(f"Invalid HTTP header name {name!r}.")
        if _BAD_VALUE.search(value):
            raise RuntimeError(f"Invalid HTTP header value of {name.decode()}.")
        if name == b"content-length":
            if not value.strip().isdigit():
                raise RuntimeError(f"Invalid Content-Length {value!r} in response.")
            lengths.add(int(value))
            if len(lengths) > 1 and not bodiless:
                raise RuntimeError(f"Invalid Content-Length {value!r} in response: it has another one.")
        elif name in _OF_THE_CONNECTION:
            close = close or (name == b"connection" and b"close" in value.lower())
        else:
            dated = dated or name == b"date"
            fields.append((name, value))
    if not dated:
        fields.append((b"date", date))
    length = lengths.pop() if len(lengths) == 1 else None
    known = _REASONS.get(status, b"") if reason is None else reason
    return ResponseHead(status, known, tuple(fields), length, close)


def _as_bytes(value: object) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"the name and value of an HTTP header must be bytes, not {type(value).__name__}")
