"""Help with writing a query: whether it parses, and which fields the payloads have.

Owns: how many topics, partitions and events are sampled for their fields. Refuses: to read more than these.
The parser and the matcher are in `mainstem.search`.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from mainstem.contract import Event, NotAuthorized, StreamError, UnknownTopic
from mainstem.doors.http.endpoint import Call, Endpoint, json_response
from mainstem.doors.http.page_reader import read_page
from mainstem.doors.http.rights import LOGIN, READ_TOPIC, inside
from mainstem.http_api.query_help import (
    FieldJson,
    FieldsJson,
    FieldsQuery,
    HighlightJson,
    QueryCheckJson,
    QueryCheckQuery,
    QueryErrorJson,
)
from mainstem.search.query.errors import QueryError

SAMPLED_TOPICS = 5
SAMPLED_PARTITIONS = 4
SAMPLED_EVENTS = 50
"""Number of events that are read of each partition: the newest ones."""
SAMPLED_BYTES = 256 << 10
FIELDS_MAX = 100
EXAMPLE_CHARACTERS_MAX = 60


async def check_query(call: Call) -> Response:
    """Report whether a query can be parsed, and if not, where it is wrong."""
    from mainstem.search.match.highlights import highlights
    from mainstem.search.match.matcher import Matcher

    call.context.search().prepare()  # the console checks a query while it is typed, so a search may follow
    try:
        Matcher.of(call.query.q, now_ms=call.context.clock.wall_ms())
    except QueryError as error:
        return json_response(QueryCheckJson(QueryErrorJson(error.message, error.column, error.length)))
    return json_response(
        QueryCheckJson(
            None,
            [
                msgspec.convert(highlight, HighlightJson, from_attributes=True)
                for highlight in highlights(call.query.q)
            ],
        )
    )


async def query_fields(call: Call) -> Response:
    """List fields in the payloads of the newest events, to complete a query."""
    from mainstem.search.text.payload import json_of
    from mainstem.search.text.tokens import fields, scalar_text

    query: FieldsQuery = call.query
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for topic in [query.topic] if query.topic else _busiest_topics(call):
        for event in await _newest_events(call, topic, must_exist=bool(query.topic)):
            for path, scalar in fields(json_of(event.value)):
                name = ".".join(path)
                if name.lower().startswith(query.prefix.lower()):
                    counts[name] = counts.get(name, 0) + 1
                    examples.setdefault(name, scalar_text(scalar)[:EXAMPLE_CHARACTERS_MAX])
        await call.context.yield_to_loop()
    names = sorted(counts, key=lambda name: (-counts[name], name))[:FIELDS_MAX]
    return json_response(FieldsJson([FieldJson(name, examples[name]) for name in names]))


def _busiest_topics(call: Call) -> list[str]:
    sampler = call.context.sampler
    rates = {name: rate.per_s for name, rate in sampler.inbound.items()}
    topics = [topic for topic in sampler.topics if call.reads(topic.name)]
    topics.sort(key=lambda topic: (-rates.get(topic.name, 0.0), -topic.events, topic.name))
    return [topic.name for topic in topics[:SAMPLED_TOPICS]]


async def _newest_events(call: Call, topic: str, *, must_exist: bool) -> list[Event]:
    """The newest events of some partitions. What cannot be read is omitted, but if the topic must exist,
    UnknownTopic and NotAuthorized are raised."""
    events: list[Event] = []
    try:
        for partition in range(min(SAMPLED_PARTITIONS, await call.engine.partitions(topic))):
            bounds = await call.engine.bounds(topic, partition)
            start = max(bounds.begin, bounds.end - SAMPLED_EVENTS)
            events += await read_page(
                call, topic, partition, start, limit=SAMPLED_EVENTS, max_bytes=SAMPLED_BYTES
            )
    except StreamError as error:
        if must_exist and isinstance(error, UnknownTopic | NotAuthorized):
            raise
    return events


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/api/v1/query/check",
        handle=check_query,
        rights=LOGIN,
        tag="search",
        query=QueryCheckQuery,
        reply=QueryCheckJson,
    ),
    Endpoint(
        method="GET",
        path="/api/v1/query/fields",
        handle=query_fields,
        rights=inside("READ on the topic; without one, looks at topics that one may READ", READ_TOPIC),
        tag="search",
        query=FieldsQuery,
        reply=FieldsJson,
        problems=("unknown-topic",),
    ),
)
