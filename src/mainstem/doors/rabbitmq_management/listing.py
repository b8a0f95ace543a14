"""Lists as clients ask for them: filtered by name, sorted, in pages, with some columns only.

Owns: the parameters of the query that all lists of RabbitMQ have (`page`, `page_size`, `name`, `use_regex`,
`sort`, `sort_reverse`, `columns`). Refuses: to keep the event loop: items are made in parts, and only those
of the page where the order is that of the names.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import re2

from mainstem.clock import Clock
from mainstem.doors.rabbitmq_management.refusals import ApiRefusal, bad_request
from mainstem.doors.rabbitmq_management.request import ApiAnswer
from mainstem.turns import next_turn

PAGE_SIZE, PAGE_SIZE_MAX = 100, 500
PART = 200
"""Items that are made in a turn of the event loop."""
PATTERN_MAX = 1_000
"""Characters of a regular expression."""
ItemKey = TypeVar("ItemKey")
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paging:
    page: int
    size: int


async def list_answer(
    query: Mapping[str, str],
    clock: Clock,
    keys: Sequence[ItemKey],
    name_of: Callable[[ItemKey], str],
    make: Callable[[Sequence[ItemKey]], Awaitable[list[JsonObject]]],
) -> ApiAnswer:
    """The answer with a list. `keys`: all items, in the order that the list has by itself; `make` makes the
    JSON of some of them."""
    paging = _paging(query)
    columns = [column.split(".") for column in query.get("columns", "").split(",") if column]
    sort, is_reversed = query.get("sort", ""), query.get("sort_reverse") == "true"
    if paging is None:
        items = await _sorted_items(clock, keys, name_of, make, sort, is_reversed)
        return ApiAnswer(200, [_only(item, columns) for item in items])
    chosen = _filtered(query, keys, name_of)
    pages = max(1, math.ceil(len(chosen) / paging.size))
    if paging.page > pages:
        reason = f"Page out of range, page: {paging.page} page size: {paging.size}, len: {len(chosen)}"
        raise ApiRefusal(400, "page_out_of_range", reason)
    start = (paging.page - 1) * paging.size
    if sort in ("", "name"):
        if sort or is_reversed:
            chosen = sorted(chosen, key=name_of, reverse=is_reversed)
        items = await _made(clock, chosen[start : start + paging.size], make)
    else:
        items = await _sorted_items(clock, chosen, name_of, make, sort, is_reversed)
        items = items[start : start + paging.size]
    return ApiAnswer(
        200,
        {
            "filtered_count": len(chosen),
            "item_count": len(items),
            "items": [_only(item, columns) for item in items],
            "page": paging.page,
            "page_count": pages,
            "page_size": paging.size,
            "total_count": len(keys),
        },
    )


async def plain_list(
    query: Mapping[str, str], clock: Clock, items: Sequence[JsonObject], name: str = "name"
) -> ApiAnswer:
    """The answer with a list of items that are made already. `name`: the member that is their name."""

    async def same(part: Sequence[JsonObject]) -> list[JsonObject]:
        return list(part)

    return await list_answer(query, clock, items, lambda item: str(item.get(name, "")), same)


def _paging(query: Mapping[str, str]) -> _Paging | None:
    """The page that is asked for; None: the whole list."""
    if "page" not in query:
        return None
    page, size = _number(query, "page", 1), _number(query, "page_size", PAGE_SIZE)
    if page < 1 or not 1 <= size <= PAGE_SIZE_MAX:
        reason = f"Invalid pagination parameters: page number {page}, page size {size}"
        raise ApiRefusal(400, "invalid_pagination_parameters", reason)
    return _Paging(page=page, size=size)


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise bad_request("Pagination parameters are invalid")
    return int(text)


def _filtered(
    query: Mapping[str, str], keys: Sequence[ItemKey], name_of: Callable[[ItemKey], str]
) -> Sequence[ItemKey]:
    wanted = query.get("name", "")
    if not wanted:
        return keys
    if query.get("use_regex") != "true":
        return [key for key in keys if wanted in name_of(key)]
    options = re2.Options()
    options.log_errors = False
    try:
        if len(wanted) > PATTERN_MAX:
            raise re2.error("too long")
        pattern = re2.compile(wanted, options)
    except re2.error:
        raise bad_request("Pagination parameters are invalid") from None
    return [key for key in keys if pattern.search(name_of(key))]


async def _made(
    clock: Clock, keys: Sequence[ItemKey], make: Callable[[Sequence[ItemKey]], Awaitable[list[JsonObject]]]
) -> list[JsonObject]:
    items: list[JsonObject] = []
    for start in range(0, len(keys), PART):
        if start:
            await next_turn(clock)
        items += await make(keys[start : start + PART])
    return items


async def _sorted_items(
    clock: Clock,
    keys: Sequence[ItemKey],
    name_of: Callable[[ItemKey], str],
    make: Callable[[Sequence[ItemKey]], Awaitable[list[JsonObject]]],
    sort: str,
    is_reversed: bool,
) -> list[JsonObject]:
    items = await _made(clock, keys, make)
    if sort:
        path = sort.split(".")
        items.sort(key=lambda item: _order(_value(item, path)), reverse=is_reversed)
    elif is_reversed:
        items.reverse()
    return items


def _order(value: Any) -> tuple[int, float, str]:
    """Numbers before texts, nothing before both."""
    if value is None:
        return 0, 0.0, ""
    if isinstance(value, bool | int | float):
        return 1, float(value), ""
    return 2, 0.0, str(value)


def _value(item: Any, path: Sequence[str]) -> Any:
    for name in path:
        if not isinstance(item, dict):
            return None
        item = item.get(name)
    return item


def _only(item: JsonObject, columns: Sequence[Sequence[str]]) -> JsonObject:
    """The item with these columns only, if there are any."""
    if not columns:
        return item
    result: JsonObject = {}
    for path in columns:
        value = _value(item, path)
        if value is None and path[0] not in item:
            continue
        target = result
        for name in path[:-1]:
            target = target.setdefault(name, {})
        target[path[-1]] = value
    return result
