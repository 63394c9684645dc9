"""Decompression of request bodies for hosted aiohttp applications.

The stack's listeners do not decompress, because the gateway forwards bodies unchanged. aiohttp's own
server does, without changing the Content-Encoding field; its applications expect the same.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from msctl.model.exchange import RequestError

CODINGS = frozenset({"gzip", "deflate", "br", "zstd"})
"""The content codings that aiohttp's server undoes; the last two only if their packages are installed."""
PIECE = 64 * 1024
"""The largest decompressed piece in bytes."""


class _Coding(Protocol):
    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what `data` decompresses to, in pieces of at most PIECE bytes."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the compressed data is complete."""
        ...


class Decompressor:
    """Decompresses a body piece by piece."""

    def __init__(self, coding: str) -> None:
        """Raises RequestError (415) if the package for the coding is not installed."""
        self._name = coding
        self._begun = False
        self._coding: _Coding
        if coding in ("gzip", "deflate"):
            self._coding = _Zlib(coding)
        elif coding == "br":
            self._coding = _Brotli(_import("br", "brotli", "brotlicffi"))
        else:
            self._coding = _Zstandard(_import("zstd", "compression.zstd", "backports.zstd"))

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield decompressed pieces; raises RequestError (400) for data that is not in the coding."""
        self._begun = True
        try:
            yield from self._coding.feed(data)
        except Exception as error:
            raise RequestError(400, f"The request's body is not valid {self._name}.") from error

    def finish(self) -> None:
        """Raise RequestError (400) if the data ended too early."""
        if self._begun and not self._coding.ended:
            raise RequestError(400, f"The request's body ends in the middle of its {self._name} data.")


class _Zlib:
    """gzip, of one or several members; deflate, with the zlib header or, as some clients send it, without."""

    def __init__(self, coding: str) -> None:
        self._gzip = coding == "gzip"
        self._object = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS) if self._gzip else None

    @property
    def ended(self) -> bool:
        return self._object is not None and self._object.eof

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._object is None:
                raw = data[0] & 0xF != zlib.DEFLATED
                self._object = zlib.decompressobj(wbits=-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
            elif self._object.eof:
                if not self._gzip:
                    raise ValueError("bytes after the end")
                self._object = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            piece = self._object.decompress(data, PIECE)
            data = self._object.unused_data if self._object.eof else self._object.unconsumed_tail
            if piece:
                yield piece
        while self._object is not None and not self._object.eof:
            # What a full piece kept back.
            piece = self._object.decompress(b"", PIECE)
            if not piece:
                return
            yield piece


class _Brotli:
    def __init__(self, module: Any) -> None:
        self._object = module.Decompressor()

    @property
    def ended(self) -> bool:
        return bool(self._object.is_finished())

    def feed(self, data: bytes) -> Iterator[bytes]:
        piece = self._object.process(data, output_buffer_limit=PIECE)
        while piece:
            yield piece
            piece = self._object.process(b"", output_buffer_limit=PIECE)


class _Zstandard:
    def __init__(self, module: Any) -> None:
        self._object = module.ZstdDecompressor()

    @property
    def ended(self) -> bool:
        return bool(self._object.eof)

    def feed(self, data: bytes) -> Iterator[bytes]:
        piece = self._object.decompress(data, PIECE)
        while piece:
            yield piece
            if self._object.eof or self._object.needs_input:
                return
            piece = self._object.decompress(b"", PIECE)


def _import(coding: str, *names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            continue
    raise RequestError(415, f"The content coding {coding} is not supported.")
