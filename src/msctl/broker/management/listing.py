"""Lists: filter, sort, page and columns of a request, and the answer in slices of the loop's time.

A list without pages is written as it is made, so that neither its documents nor its text are ever held
whole. A page needs documents of its own items alone, unless the order is by a field.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import msgspec
from aiohttp import web

from msctl.broker.core.patterns import Pattern, PatternError
from msctl.broker.management.answers import JSON_TYPE, bad_request, error, json_answer
from msctl.broker.management.slices import Slices

SLICES = web.AppKey("slices", Slices)
MAX_PAGE_SIZE = 500
"""As RabbitMQ's."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """What can be listed: the items, the name of each, and its document."""

    items: Iterable[T]
    total: int
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
    slices = request.app[SLICES]
    ordered = await _ordered(slices, listing, wanted)

    def shown(item: T) -> dict[str, Any]:
        return wanted.shown(listing.document(item))

    if wanted.page is None:
        return await stream_array(request, slices.batches(ordered, shown))
    start = (wanted.page - 1) * wanted.page_size
    on_page: Iterator[T]
    if wanted.pattern == "":
        count, on_page = listing.total, islice(ordered, start, start + wanted.page_size)
    else:
        taken = [
            item
            async for batch in slices.batches(ordered, lambda item: item)
            for item in batch
            if wanted.takes(listing.name(item))
        ]
        count, on_page = len(taken), iter(taken[start : start + wanted.page_size])
    pages = -(-count // wanted.page_size)
    if wanted.page > max(pages, 1):
        why = f"Page out of range, page: {wanted.page} page size: {wanted.page_size}, len: {count}"
        raise error(400, "page_out_of_range", why)
    items = await slices.collect(on_page, shown)
    return json_answer(
        {
            "filtered_count": count,
            "item_count": len(items),
            "items": items,
            "page": wanted.page,
            "page_count": pages,
            "page_size": wanted.page_size,
            "total_count": listing.total,
        }
    )


async def _ordered(slices: Slices, listing: Listing[T], wanted: ListRequest) -> Iterator[T]:
    """The items in the order that is asked for; by name without one."""
    if not wanted.sort or wanted.sort == ("name",):
        reverse = bool(wanted.sort) and wanted.reverse
        return await slices.ordered(listing.items, listing.name, reverse=reverse)
    pairs = await slices.collect(
        listing.items, lambda item: (_value(listing.document(item), wanted.sort), item)
    )
    ordered = await slices.ordered(pairs, lambda pair: pair[0], reverse=wanted.reverse)
    return (item for _, item in ordered)


async def stream_array(
    request: web.Request, batches: AsyncIterator[list[dict[str, Any]]]
) -> web.StreamResponse:
    """A JSON array, written slice by slice as the client reads it."""
    nothing: list[dict[str, Any]] = []
    first = await anext(batches, nothing)
    second = await anext(batches, None)
    if second is None:
        return json_answer(first)
    response = web.StreamResponse(headers={"Content-Type": JSON_TYPE, "Cache-Control": "no-cache"})
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    await response.write(msgspec.json.encode(first)[:-1])
    await response.write(b"," + msgspec.json.encode(second)[1:-1])
    async for batch in batches:
        await response.write(b"," + msgspec.json.encode(batch)[1:-1])
    await response.write(b"]")
    await response.write_eof()
    return response
