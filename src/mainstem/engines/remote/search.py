"""Searching through the HTTP door of a mainstem server, whose own workers search.

Owns: converting the JSON of the door to the types of the search contract. Refuses: replies that are not those
of a mainstem server, with StreamError.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import msgspec

from mainstem.contract import NotReachable, Position
from mainstem.engines.remote.event_decoding import decode_event
from mainstem.engines.remote.http_client import HttpDoorClient, error_from_problem
from mainstem.http_api.search import (
    BUDGET_MAX_S,
    FacetsJson,
    FacetsRequestJson,
    SearchJson,
    TotalsJson,
    UpdateJson,
)
from mainstem.search.contract import (
    Done,
    Facets,
    Hit,
    Progress,
    SearchRequest,
    Totals,
    Unreadable,
    Update,
)

_decode_update = msgspec.json.Decoder(UpdateJson).decode


class RemoteSearch:
    """The search behind an HTTP door: those parts of it that clients use."""

    def __init__(self, door: HttpDoorClient) -> None:
        self._door = door

    async def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]:
        """As `Search.search`. Closing it closes the connection, and then the server cancels the search."""
        body = SearchJson.from_request(request)
        async with aclosing(self._updates("/api/v1/search", body)) as updates:
            async for update in updates:
                assert not isinstance(update, Facets), "only facets are counted"
                yield update

    async def facets(
        self, request: SearchRequest, names: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]:
        """As `Search.facets`."""
        body = FacetsRequestJson.from_request(request)
        body.fields, body.top, body.budget_s = list(names), top, BUDGET_MAX_S
        async with aclosing(self._updates("/api/v1/facets", body)) as updates:
            async for update in updates:
                yield update

    async def _updates(self, path: str, body: SearchJson) -> AsyncGenerator[Update | Facets, None]:
        async with self._door.send("POST", path, body) as reply:
            async for text in reply.lines():
                line = self._decode(text)
                if line.hit is not None:
                    yield Hit(decode_event(line.hit))
                elif line.facets is not None:
                    yield _facets(line.facets)
                elif line.progress is not None:
                    yield Progress(_totals(line.progress.totals), line.progress.resume)
                elif line.unreadable is not None:
                    position = Position(
                        line.unreadable.topic, line.unreadable.partition, line.unreadable.offset
                    )
                    yield Unreadable(position, line.unreadable.reason)
                elif line.done is not None:
                    yield Done(line.done.reason, _totals(line.done.totals), line.done.resume)
                    return
                elif line.problem is not None:
                    raise error_from_problem(msgspec.json.encode(line.problem))
        raise NotReachable(f"the server at {self._door.address} ended the search before it was done")

    def _decode(self, text: bytes) -> UpdateJson:
        try:
            return _decode_update(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotReachable(
                f"the reply of {self._door.address} is not that of a mainstem server"
            ) from None


def _totals(totals: TotalsJson) -> Totals:
    return Totals(**msgspec.structs.asdict(totals))


def _facets(facets: FacetsJson) -> Facets:
    values = {
        name: [(value.value, value.count) for value in values] for name, values in facets.fields.items()
    }
    return Facets(facets.events, values)
