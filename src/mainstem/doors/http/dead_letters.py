"""The dead letters of a subscription that are wanted, and which events they are copies of.

Owns: reading them in pages, filtered by reason and query; the limit on how many are redriven at once; and
that a letter of a topic that was deleted leads nowhere, also if another topic has its name now. Refuses: to
redrive, which the route does. Its cost is that of reading the dead-letter topic from the given time on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainstem.contract import Engine, InvalidArgument, Position, UnknownTopic
from mainstem.doors.http.problem import Problem
from mainstem.doors.http.search_slots import query_problem
from mainstem.http_api.subscriptions import REDRIVEN_POSITIONS_MAX
from mainstem.queue_contract import DeadLetterInfo, Queues
from mainstem.search.query.errors import QueryError

if TYPE_CHECKING:
    from mainstem.search.match.matcher import Matcher

PAGE_LETTERS = 100


class NoDeadLetterTopic(Problem):
    """The problem if a subscription never had a dead-letter topic."""


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which dead letters are wanted."""

    since_ms: int = 0
    reason: str = ""
    """Empty: any."""
    matcher: Matcher | None = None
    """None: any."""

    @classmethod
    def of(cls, since_ms: int | None, reason: str, query: str, now_ms: int) -> LetterFilter:
        """From the fields of a request. Raises Problem if the query cannot be parsed."""
        matcher = None
        if query.strip():
            from mainstem.search.match.matcher import Matcher  # imported only if there is a query

            try:
                matcher = Matcher.of(query, now_ms=now_ms)
            except QueryError as error:
                raise query_problem(error) from None
        return cls(since_ms or 0, reason, matcher)

    def wants(self, letter: DeadLetterInfo) -> bool:
        """Whether the letter, which is of a fitting time, is wanted."""
        if self.reason and letter.reason != self.reason:
            return False
        return self.matcher is None or self.matcher.matches_event(letter.letter)


async def read_letters(
    queues: Queues, name: str, wanted: LetterFilter, after: Position | None
) -> AsyncGenerator[tuple[list[DeadLetterInfo], Position | None], None]:
    """The wanted letters after a position, in pages, each with where the next one begins; None: there is
    none. A page may be empty. NoDeadLetterTopic."""
    while True:
        try:
            letters = await queues.dead_letters(
                name, since_ms=wanted.since_ms, after=after, max_events=PAGE_LETTERS
            )
        except InvalidArgument as error:
            raise NoDeadLetterTopic("unfit", str(error), fix="Name the events in `positions`.") from None
        is_last = len(letters) < PAGE_LETTERS
        if not is_last:
            last = letters[-1].letter
            after = Position(last.topic, last.partition, last.offset)
        yield [letter for letter in letters if wanted.wants(letter)], None if is_last else after
        if is_last:
            return


async def dead_letter_origins(
    engine: Engine, queues: Queues, name: str, wanted: LetterFilter
) -> list[Position]:
    """Where the events are that the subscription has given up: those whose letters are in its dead-letter
    topic and are wanted, sorted. Raises Problem if it never had such a topic, or if there are more than
    REDRIVEN_POSITIONS_MAX."""
    origins: set[Position] = set()
    topic_ids: dict[str, str | None] = {}
    async for letters, _ in read_letters(queues, name, wanted, None):
        for letter in letters:
            topic = letter.origin.topic
            if topic not in topic_ids:
                topic_ids[topic] = await _topic_id(engine, topic)
            if topic_ids[topic] == letter.topic_id:
                origins.add(letter.origin)
        if len(origins) > REDRIVEN_POSITIONS_MAX:
            raise Problem(
                "unfit",
                f"there are more than {REDRIVEN_POSITIONS_MAX:,} dead letters",
                fix="Redrive them in parts: give `since_ms`, or the events in `positions`.",
            )
    return sorted(origins)


async def _topic_id(engine: Engine, topic: str) -> str | None:
    try:
        return await engine.topic_id(topic)
    except UnknownTopic:
        return None
