"""JSON over HTTP to a registry, at the first of its addresses that answers.

Nothing that a registry answers is more than a RegistryError: a redirect, an error, something else than JSON,
an endless body, silence.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msctl.model.registry_url import RegistryUrl

if TYPE_CHECKING:
    import ssl

    from aiohttp import ClientResponse, ClientSession

MAX_BODY = 16 * 1024 * 1024
MAX_SHOWN = 200
_NOT_JSON = "answered with something else than JSON"


class RegistryError(Exception):
    """The registry cannot be used now; the text says why, as the end of a sentence about it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its status, its document (None without one) and the fields of its head."""

    status: int
    document: Any
    fields: Mapping[str, str]

    def checked(self) -> Any:
        """The document of an answer with 200; raises RegistryError for any other."""
        if self.status == 200:
            return self.document
        raise RegistryError(_refusal(self.status, self.document))


class RegistryHttp:
    """Requests to one registry."""

    def __init__(self, url: RegistryUrl, tls: ssl.SSLContext | None, timeout: float) -> None:
        """`timeout` is for each request, in seconds."""
        self._url = url
        self._tls = tls
        self._timeout = timeout
        self._turn = 0
        self._session: ClientSession | None = None
        self.headers: dict[str, str] = {}
        """Fields of every request."""

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Return the answer; raises RegistryError for one that is no HTTP, no JSON, or a redirect."""
        async with self._request(method, path, body, query, timeout or self._timeout) as response:
            data = bytearray()
            async for piece in response.content.iter_any():
                data += piece
                if len(data) > MAX_BODY:
                    raise RegistryError(f"sent more than {MAX_BODY} bytes")
            return Reply(response.status, _document(bytes(data), response.status), response.headers)

    @asynccontextmanager
    async def stream(self, path: str, body: object) -> AsyncIterator[AsyncIterator[Any]]:
        """Give the documents of an answer that does not end, one a line; errors as in `call`."""
        async with self._request("POST", path, body, None, None) as response:
            if response.status != 200:
                data = await response.content.read(MAX_SHOWN)
                raise RegistryError(_refusal(response.status, _document(data, response.status)))
            yield _lines(response)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        body: object,
        query: Mapping[str, str] | None,
        timeout: float | None,
    ) -> AsyncIterator[ClientResponse]:
        from aiohttp import ClientError, ClientPayloadError, ClientTimeout

        address = self._url.addresses[self._turn % len(self._url.addresses)]
        limits = ClientTimeout(total=timeout, sock_connect=self._timeout)
        try:
            async with self._opened().request(
                method,
                f"{'https' if address.tls else 'http'}://{address}{path}",
                params=query,
                data=None if body is None else json.dumps(body).encode(),
                headers=self.headers,
                timeout=limits,
                allow_redirects=False,
                ssl=self._tls or True,
            ) as response:
                if 300 <= response.status < 400:
                    raise RegistryError(f"answered {response.status}, a redirect, which is not followed")
                yield response
        except RegistryError:
            raise
        except TimeoutError:
            self._turn += 1
            raise RegistryError(f"did not answer within {timeout or self._timeout:g} s") from None
        except ClientPayloadError:
            raise RegistryError("broke off its answer") from None
        except (ClientError, OSError, ValueError) as error:
            self._turn += 1
            raise RegistryError(_failure(error)) from None

    def _opened(self) -> ClientSession:
        from aiohttp import ClientSession, DummyCookieJar, TCPConnector

        if self._session is None:
            # One kept for the next request, some seconds later, may have been closed meanwhile.
            connector = TCPConnector(limit=0, force_close=True)
            self._session = ClientSession(cookie_jar=DummyCookieJar(), connector=connector)
        return self._session


async def _lines(response: ClientResponse) -> AsyncIterator[Any]:
    rest = b""
    async for piece in response.content.iter_any():
        *lines, rest = (rest + piece).split(b"\n")
        for line in filter(None, lines):
            yield _document(line, response.status)
        if len(rest) > MAX_BODY:
            raise RegistryError(f"sent a line of more than {MAX_BODY} bytes")
    if rest.strip():
        yield _document(rest, response.status)


def _document(data: bytes, status: int) -> Any:
    """Parse a body; an error's may be plain text."""
    if not data.strip():
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        if status != 200:
            return data.decode("utf-8", "replace")
        raise RegistryError(_NOT_JSON) from None


def _refusal(status: int, document: Any) -> str:
    said = document
    if isinstance(document, dict):
        said = document.get("message") or document.get("error")
    text = " ".join(str(said).split())[:MAX_SHOWN] if said else ""
    return f"answered {status}: {text}" if text else f"answered {status}"


def _failure(error: Exception) -> str:
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"cannot be reached: {' '.join(str(reason).split())[:MAX_SHOWN]}"
