"""Help with writing a query: is it right, and which fields are there."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from starlette.responses import Response

from mainstem.contract import Event, StreamError, UnknownTopic
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.routes.read import read_page
from mainstem.search.query.errors import QueryError

SAMPLED_TOPICS = 5
SAMPLED_PARTITIONS = 4
SAMPLED_EVENTS = 50
"""Of each partition, the newest."""
SAMPLED_BYTES = 256 << 10
FIELDS_MAX = 100
EXAMPLE_CHARACTERS = 60


class QueryCheckQuery(msgspec.Struct):
    """What to check."""

    q: Annotated[str, Meta(max_length=10_000)] = ""


class QueryErrorJson(msgspec.Struct):
    """What is wrong."""

    message: str
    column: Annotated[int, Meta(description="Where it begins; characters from 0.")]
    length: int


class BoundJson(msgspec.Struct):
    """One end of a range."""

    text: str
    inclusive: bool
    quoted: Annotated[bool, Meta(description="A number that stood in quotes is text.")]


class HighlightJson(msgspec.Struct, omit_defaults=True):
    """What to mark in a match: adjacent `words` of any text, a text that is `glob`, or a range."""

    place: Literal["text", "field", "key", "header"]
    path: Annotated[list[str], Meta(description="Of a field: its names; of a header: its name.")] = []
    words: Annotated[list[str], Meta(description="Case-folded tokens; `*`, `?` and backslashes.")] = []
    glob: Annotated[str | None, Meta(description="Case-folded, of the whole text.")] = None
    number: Annotated[str | None, Meta(description="A number of this value matches, too.")] = None
    literal: Annotated[bool, Meta(description='`"null"` in quotes is not null.')] = False
    low: BoundJson | None = None
    high: BoundJson | None = None


class QueryCheckJson(msgspec.Struct):
    """Whether a query can be read."""

    error: Annotated[QueryErrorJson | None, Meta(description="null: it is right.")]
    highlights: Annotated[list[HighlightJson], Meta(description="What to mark in its matches.")] = []


async def check_query(call: Call) -> Response:
    """Tell whether a query can be read, and if not, where it is wrong."""
    from mainstem.search.match.highlights import highlights
    from mainstem.search.match.matcher import Matcher

    call.context.search().prepare()  # for the console checks what is typed
    try:
        Matcher.of(call.query.q, now_ms=call.context.clock.wall_ms())
    except QueryError as error:
        return json_response(QueryCheckJson(QueryErrorJson(error.message, error.column, error.length)))
    return json_response(
        QueryCheckJson(
            None,
            [msgspec.convert(each, HighlightJson, from_attributes=True) for each in highlights(call.query.q)],
        )
    )


class FieldsQuery(msgspec.Struct):
    """Which fields."""

    topic: Annotated[str, Meta(description="Of this topic; empty: of the busiest.")] = ""
    prefix: Annotated[str, Meta(description="Only names that begin with this, in any case.")] = ""


class FieldJson(msgspec.Struct):
    """A field of payloads."""

    field: Annotated[str, Meta(description="As a query names it: `a.b.c`.")]
    example: str


class FieldsJson(msgspec.Struct):
    """What the newest events have, the most frequent first. No promise that there is nothing else."""

    fields: list[FieldJson]


async def query_fields(call: Call) -> Response:
    """List fields of the newest events' payloads, to complete a query with."""
    from mainstem.search.text.payload import decode
    from mainstem.search.text.tokens import fields, scalar_text

    query: FieldsQuery = call.query
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for topic in [query.topic] if query.topic else _busiest(call):
        for event in await _newest(call, topic, must_be=bool(query.topic)):
            payload = decode(event.value)
            for path, scalar in fields(payload.parsed) if payload.kind == "json" else ():
                name = ".".join(path)
                if name.lower().startswith(query.prefix.lower()):
                    counts[name] = counts.get(name, 0) + 1
                    examples.setdefault(name, scalar_text(scalar)[:EXAMPLE_CHARACTERS])
        await call.context.yield_to_loop()
    found = sorted(counts, key=lambda name: (-counts[name], name))[:FIELDS_MAX]
    return json_response(FieldsJson([FieldJson(name, examples[name]) for name in found]))


def _busiest(call: Call) -> list[str]:
    sampler = call.context.sampler
    rates = {name: flow.per_s for name, flow in sampler.inbound.items()}
    topics = sorted(sampler.topics, key=lambda each: (-rates.get(each.name, 0.0), -each.events, each.name))
    return [each.name for each in topics[:SAMPLED_TOPICS]]


async def _newest(call: Call, topic: str, *, must_be: bool) -> list[Event]:
    found: list[Event] = []
    try:
        for partition in range(min(SAMPLED_PARTITIONS, await call.engine.partitions(topic))):
            bounds = await call.engine.bounds(topic, partition)
            start = max(bounds.begin, bounds.end - SAMPLED_EVENTS)
            read = await read_page(
                call, topic, partition, start, limit=SAMPLED_EVENTS, max_bytes=SAMPLED_BYTES
            )
            found += read.events
    except StreamError as error:
        if must_be and isinstance(error, UnknownTopic):
            raise
    return found


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/query/check",
        handle=check_query,
        tag="search",
        query=QueryCheckQuery,
        reply=QueryCheckJson,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/query/fields",
        handle=query_fields,
        tag="search",
        query=FieldsQuery,
        reply=FieldsJson,
        problems=("unknown-topic",),
    ),
)
