"""Searching and replaying through a mainstem server's HTTP door: its workers read, its filters and indexes
leave out what cannot match, and what is found comes here as it is found.

Owns: the door's JSON as the types of the contract. Refuses: nothing that the door takes. Made by
`search_options.py`.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import fields
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mainstem.cli.http import error_from_problem, send_request
from mainstem.contract import Event, Headers, NotReachable, Position
from mainstem.search.contract import (
    Done,
    Facets,
    Hit,
    Progress,
    Reason,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
)

FACETS_BUDGET_S = 3_600.0
"""The door's limit."""
_TOTALS = frozenset(each.name for each in fields(Totals))


class _Header(msgspec.Struct):
    name: str
    value: str | None = None
    value_encoding: str | UnsetType = UNSET


class _Event(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: str | None
    value: str | None
    headers: list[_Header]


class _Place(msgspec.Struct):
    topic: str
    partition: int
    offset: int
    reason: str


class _Progress(msgspec.Struct):
    totals: dict[str, Any]
    resume: str | None


class _Done(msgspec.Struct):
    reason: Reason
    totals: dict[str, Any]
    resume: str | None


class _Value(msgspec.Struct):
    value: str
    count: int


class _Facets(msgspec.Struct):
    events: int
    fields: dict[str, list[_Value]]


class _Line(msgspec.Struct):
    """A line of a search's answer: one of these."""

    hit: _Event | None = None
    facets: _Facets | None = None
    progress: _Progress | None = None
    unreadable: _Place | None = None
    done: _Done | None = None
    problem: Raw | UnsetType = UNSET


class _Cluster(msgspec.Struct):
    id: str


_decode_line = msgspec.json.Decoder(_Line).decode


async def cluster_id(at: str) -> str:
    """Of the server whose door is at HOST:PORT. NotReachable, NotAllowed."""
    async with send_request(at, "GET", "/api/v1/cluster") as reply:
        try:
            return msgspec.json.decode(await reply.whole(), type=_Cluster).id
        except msgspec.DecodeError:
            raise NotReachable(f"what answers at {at} is no mainstem server") from None


class RemoteSearch:
    """Search behind the HTTP door at HOST:PORT: as far as the command line asks for it."""

    def __init__(self, at: str) -> None:
        self._at = at

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """As `service.Search.search`. Closing it closes the connection, which cancels the search there."""
        body = matches_json(request) | {"encoding": "base64", "newest_first": request.newest_first}
        body |= {"limit": request.limit, "only_count": request.only_count}
        body |= {"resume": request.resume, "budget_s": request.budget_s}
        async with aclosing(self._updates("/api/v1/search", body)) as updates:
            async for update in updates:
                assert not isinstance(update, Facets)
                yield update

    async def facets(
        self, request: SearchRequest, names: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """As `service.Search.facets`."""
        body = matches_json(request) | {"fields": names, "top": top, "budget_s": FACETS_BUDGET_S}
        body |= {"limit": request.limit}
        async with aclosing(self._updates("/api/v1/facets", body)) as updates:
            async for update in updates:
                yield update

    async def _updates(self, path: str, body: object) -> AsyncGenerator[Update | Facets, None]:
        async with send_request(self._at, "POST", path, body) as reply:
            async for text in reply.lines():
                line = self._line(text)
                if line.hit is not None:
                    yield Hit(_event(line.hit))
                elif line.facets is not None:
                    yield _facets(line.facets)
                elif line.progress is not None:
                    yield Progress(_totals(line.progress.totals), line.progress.resume)
                elif line.unreadable is not None:
                    at = line.unreadable
                    yield Unreadable(Position(at.topic, at.partition, at.offset), at.reason)
                elif line.done is not None:
                    yield Done(line.done.reason, _totals(line.done.totals), line.done.resume)
                    return
                elif isinstance(line.problem, Raw):
                    raise error_from_problem(line.problem)
        raise NotReachable(f"the server at {self._at} ended the search before it was done")

    def _line(self, text: bytes) -> _Line:
        try:
            return _decode_line(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotReachable(f"the answer of {self._at} is not what a mainstem server says") from None


def matches_json(request: SearchRequest) -> dict[str, object]:
    """What is looked for, and where, as the door takes it."""
    return {
        "query": request.query,
        "topics": request.topics,
        "partitions": request.partitions,
        "since_ms": request.since_ms,
        "until_ms": request.until_ms,
    }


def _totals(told: dict[str, Any]) -> Totals:
    return Totals(**{name: value for name, value in told.items() if name in _TOTALS})


def _facets(told: _Facets) -> Facets:
    values = {name: [(each.value, each.count) for each in rows] for name, rows in told.fields.items()}
    return Facets(told.events, values)


def _event(told: _Event) -> Event:
    headers: Headers = tuple(
        (each.name, None if each.value is None else _bytes(each.value, each.value_encoding))
        for each in told.headers
    )
    return Event(
        told.topic,
        told.partition,
        told.offset,
        -1 if told.timestamp_ms is None else told.timestamp_ms,
        None if told.key is None else base64.b64decode(told.key),
        None if told.value is None else base64.b64decode(told.value),
        headers,
    )


def _bytes(text: str, encoding: str | UnsetType) -> bytes:
    return base64.b64decode(text) if encoding == "base64" else text.encode()
