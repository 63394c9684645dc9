"""Responses that a hosted service's adapter gives in place of its application."""

from __future__ import annotations

from msctl.http.date import http_date
from msctl.model.exchange import ClientGoneError, Exchange


def respond_unavailable(exchange: Exchange, service: str) -> None:
    """Answer 503: the service takes no requests any more."""
    _respond(exchange, 503, b"Service Unavailable", f"503 {service} is stopping\n", (b"retry-after", b"1"))


def respond_failed(exchange: Exchange) -> None:
    """Answer 500, in uvicorn's words: the application failed before its response began."""
    _respond(exchange, 500, b"Internal Server Error", "Internal Server Error")


def _respond(exchange: Exchange, status: int, reason: bytes, text: str, *more: tuple[bytes, bytes]) -> None:
    fields = [(b"content-type", b"text/plain; charset=utf-8"), *more, (b"date", http_date())]
    try:
        exchange.respond(status, reason, fields, text.encode())
    except ClientGoneError:
        pass
