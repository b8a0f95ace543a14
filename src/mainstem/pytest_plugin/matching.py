"""Finds the events of a topic that match a query, and says of the others what they lack.

Owns: reading a topic from its beginning, and waiting for what comes. Refuses: to know pytest.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from mainstem.api.host import HostedNode
from mainstem.api.reading import topic_bounds
from mainstem.contract import Event, InvalidArgument, Position, UnknownTopic
from mainstem.search.match.matcher import Matcher, view_of
from mainstem.search.query.ast import And, Node, Term
from mainstem.search.query.errors import QueryError
from mainstem.search.query.format import format_query
from mainstem.search.query.parser import parse

LOOK_S = 0.01
"""How often a topic is looked for that does not exist yet."""
READ_EVENTS = 10_000
NEAREST = 3
LOOKED_AT = 10_000
VALUE_CHARS = 200


class ExpectedQuery:
    """A query, compiled for one moment."""

    def __init__(self, text: str, now_ms: int) -> None:
        """InvalidArgument: the query is wrong."""
        try:
            self.node = parse(text)
        except QueryError as error:
            raise InvalidArgument(f"query {text!r}: {error}") from None
        self._matcher = Matcher.of(self.node, now_ms=now_ms)

    def matches(self, event: Event) -> bool:
        """Whether the event matches."""
        return self._matcher.matches_event(event)

    def nearest(self, events: Sequence[Event]) -> list[tuple[Event, list[str]]]:
        """The events that lack the fewest of the query's terms, of the last LOOKED_AT, the newest first, with
        what they lack."""
        parts = self.node.children if isinstance(self.node, And) else (self.node,)
        checks = [(part, self._matcher.check_of(part)) for part in parts]
        lacking = []
        for event in events[-LOOKED_AT:]:
            view = view_of(event)
            lacking.append((event, [part for part, check in checks if not check(view)]))
        lacking.sort(key=lambda pair: (len(pair[1]), -pair[0].timestamp_ms, -pair[0].offset))
        return [
            (event, [_explained(event, part) for part in missing]) for event, missing in lacking[:NEAREST]
        ]


def _explained(event: Event, part: Node) -> str:
    """What an event has in place of a part of the query."""
    text = format_query(part)
    if isinstance(part, Term) and part.target.kind == "field":
        name = ".".join(part.target.path)
        values = list(_values_at(_json(event), part.target.path))
        shown = " and ".join(json.dumps(value, ensure_ascii=False)[:VALUE_CHARS] for value in values[:3])
        return f"{text}: {name} is {shown}" if values else f"{text}: there is no {name}"
    if isinstance(part, Term) and part.target.kind == "key":
        return f"{text}: the key is {event.key!r}"
    return f"{text}: does not match"


def _json(event: Event) -> Any:
    try:
        return json.loads(event.value or b"null")
    except ValueError:
        return None


def _values_at(tree: Any, path: Sequence[str]) -> Iterator[Any]:
    if not path:
        yield tree
    elif isinstance(tree, list):
        for item in tree:
            yield from _values_at(item, path)
    elif isinstance(tree, dict) and path[0] in tree:
        yield from _values_at(tree[path[0]], path[1:])


def shown(event: Event) -> str:
    """An event in one line, for people."""
    value = "no value" if event.value is None else event.value.decode(errors="replace")
    if len(value) > VALUE_CHARS:
        value = f"{value[:VALUE_CHARS]}… ({len(event.value or b'')} bytes)"
    key = "" if event.key is None else f" key={event.key.decode(errors='replace')}"
    return f"{event.topic}/{event.partition}/{event.offset}{key} {value}"


class TopicEvents:
    """What was read of a topic that may not exist yet."""

    def __init__(self, node: HostedNode, topic: str) -> None:
        self._node = node
        self.topic = topic
        self.events: list[Event] = []

    async def wait_for(self, query: ExpectedQuery, count: int, timeout_s: float) -> list[Event]:
        """The events that match, by time, as soon as there are `count`, or those that there are when
        `timeout_s` is over. All of the topic that was read is in `events`."""
        clock, matches = self._node.clock, list[Event]()
        deadline = clock.monotonic() + timeout_s
        async with aclosing(self._reads(deadline)) as reads:
            async for events in reads:
                self.events += events
                matches += filter(query.matches, events)
                if len(matches) >= count:
                    break
        return sorted(matches, key=lambda event: (event.timestamp_ms, event.partition, event.offset))

    async def _reads(self, deadline: float) -> AsyncGenerator[Sequence[Event], None]:
        """What is read, from the beginning on, until the time is over and nothing more is there."""
        engine, clock = self._node.engine, self._node.clock
        while True:
            try:
                bounds = await topic_bounds(engine, self.topic)
                break
            except UnknownTopic:
                if (left_s := deadline - clock.monotonic()) <= 0:
                    return
                await asyncio.sleep(min(LOOK_S, left_s))
        reader = await engine.reader(
            [Position(self.topic, partition, bound.begin) for partition, bound in enumerate(bounds)]
        )
        try:
            while True:
                left_ms = max(0, int((deadline - clock.monotonic()) * 1000))
                events = (await reader.read(max_events=READ_EVENTS, wait_ms=left_ms)).events
                if not events and left_ms <= 0:
                    return
                yield events
        finally:
            await reader.close()
