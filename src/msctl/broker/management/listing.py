"""Lists: filter, sort, page and columns of a request, and the answer in slices of the loop's time.

A list without pages is written as it is made, so that neither its documents nor its text are ever held
whole. A page needs documents of its own items alone, unless the order is by a field.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from msctl.broker.core.patterns import Pattern, PatternError
from msctl.broker.management.answers import JSON_TYPE, bad_request, error, json_answer

SLICE = 250
"""Documents that are made in one turn of the loop."""
MAX_PAGE_SIZE = 500
"""As RabbitMQ's."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What can be listed: the items, the name of each, and its document."""

    items: Sequence[T]
    name: Callable[[T], str]
    document: Callable[[T], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """The parameters of a list; `page` is None for all of it."""

    page: int | None
    page_size: int
    pattern: Pattern | str
    sort: tuple[str, ...]
    reverse: bool
    columns: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, query: Mapping[str, str]) -> ListRequest:
        """Raises RefusedError."""
        page = _number(query, "page") if "page" in query else None
        size = _number(query, "page_size") if "page_size" in query else 100
        if page == 0 or not 0 < size <= MAX_PAGE_SIZE:
            why = f"Invalid pagination parameters: page number {page}, page size {size}"
            raise error(400, "invalid_pagination_parameters", why)
        name = query.get("name", "")
        return cls(
            page,
            size,
            _pattern(name) if query.get("use_regex") == "true" else name,
            tuple(query["sort"].split(".")) if query.get("sort") else (),
            query.get("sort_reverse") == "true",
            _columns(query),
        )

    def takes(self, name: str) -> bool:
        if isinstance(self.pattern, str):
            return self.pattern.lower() in name.lower()
        return self.pattern.matches(name)

    def shown(self, document: dict[str, Any]) -> dict[str, Any]:
        """The columns that are asked for."""
        return _selected(document, self.columns)


def _columns(query: Mapping[str, str]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(each.split(".")) for each in query.get("columns", "").split(",") if each)


def _selected(document: dict[str, Any], columns: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    if not columns:
        return document
    found: dict[str, Any] = {}
    for path in columns:
        _copy(document, found, path)
    return found


def answer_one(request: web.Request, document: dict[str, Any]) -> web.Response:
    """One document, with the columns that are asked for."""
    return json_answer(_selected(document, _columns(request.query)))


def _number(query: Mapping[str, str], name: str) -> int:
    value = query[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise bad_request("Pagination parameters are invalid")
    return int(value)


def _pattern(expression: str) -> Pattern:
    try:
        return Pattern(expression)
    except PatternError as found:
        raise bad_request(f"Invalid regular expression: {found}") from None


def _copy(source: Any, target: dict[str, Any], path: tuple[str, ...]) -> None:
    if not isinstance(source, dict) or path[0] not in source:
        return
    if len(path) == 1:
        target[path[0]] = source[path[0]]
    else:
        _copy(source[path[0]], target.setdefault(path[0], {}), path[1:])


def _value(document: Any, path: tuple[str, ...]) -> tuple[int, Any]:
    """What a document is sorted by: missing first, then numbers, then text."""
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, bool | int | float):
        return 1, document
    return (0, "") if document is None else (2, str(document))


async def answer_list(request: web.Request, listing: Listing[T]) -> web.StreamResponse:
    """The list, or one page of it. Raises RefusedError."""
    wanted = ListRequest.of(request.query)
    items = await _ordered(listing, wanted)
    if wanted.page is None:
        return await _stream(request, items, lambda item: wanted.shown(listing.document(item)))
    taken = items if wanted.pattern == "" else [item for item in items if wanted.takes(listing.name(item))]
    pages = -(-len(taken) // wanted.page_size)
    if wanted.page > max(pages, 1):
        size, count = wanted.page_size, len(taken)
        why = f"Page out of range, page: {wanted.page} page size: {size}, len: {count}"
        raise error(400, "page_out_of_range", why)
    start = (wanted.page - 1) * wanted.page_size
    shown = [wanted.shown(listing.document(item)) for item in islice(taken, start, start + wanted.page_size)]
    return json_answer(
        {
            "filtered_count": len(taken),
            "item_count": len(shown),
            "items": shown,
            "page": wanted.page,
            "page_count": pages,
            "page_size": wanted.page_size,
            "total_count": len(listing.items),
        }
    )


async def _ordered(listing: Listing[T], wanted: ListRequest) -> Sequence[T]:
    """The items in the order that is asked for; by name without one."""
    if not wanted.sort or wanted.sort == ("name",):
        return sorted(listing.items, key=listing.name, reverse=bool(wanted.sort) and wanted.reverse)
    keyed = []
    for at, item in enumerate(listing.items, 1):
        keyed.append((_value(listing.document(item), wanted.sort), at, item))
        if at % SLICE == 0:
            await asyncio.sleep(0)
    keyed.sort(key=lambda each: each[:2], reverse=wanted.reverse)
    return [item for _, _, item in keyed]


async def _stream(
    request: web.Request, items: Iterable[T], document: Callable[[T], dict[str, Any]]
) -> web.StreamResponse:
    """A JSON array, written slice by slice as the client reads it."""
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Cache-Control": "no-cache"})
    each = iter(items)
    first = [document(item) for item in islice(each, SLICE)]
    if len(first) < SLICE:
        return json_answer(first)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(msgspec.json.encode(first)[:-1])
    while slice_ := [document(item) for item in islice(each, SLICE)]:
        await asyncio.sleep(0)
        await response.write(b"," + msgspec.json.encode(slice_)[1:-1])
    await response.write(b"]")
    await response.write_eof()
    return response
