"""The dead letters of a subscription that are wanted, and which events they are copies of.

Owns: their filter, by time, reason and query, and the limit on how many are redriven at once. Refuses: to
redrive, which the route does. Its cost is that of reading the dead-letter topic from the given time on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainstem.contract import Engine, InvalidArgument, Position
from mainstem.dead_letters import LetterOrigins, letter_pages
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
    reading = letter_pages(queues, name, since_ms=wanted.since_ms, after=after, page_letters=PAGE_LETTERS)
    try:
        async with aclosing(reading) as pages:
            async for letters, following in pages:
                yield [letter for letter in letters if wanted.wants(letter)], following
    except InvalidArgument as error:
        raise NoDeadLetterTopic("unfit", str(error), fix="Name the events in `positions`.") from None


async def dead_letter_origins(
    engine: Engine, queues: Queues, name: str, wanted: LetterFilter, *, with_redriven: bool
) -> list[Position]:
    """Where the events are that the subscription has given up: those whose letters are in its dead-letter
    topic and are wanted, sorted. `with_redriven`: see `LetterOrigins`. Raises Problem if it never had such a
    topic, or if there are more than REDRIVEN_POSITIONS_MAX."""
    origins = LetterOrigins(engine, with_redriven=with_redriven)
    async with aclosing(read_letters(queues, name, wanted, None)) as pages:
        async for letters, _ in pages:
            await origins.add(letters)
            if len(origins.positions) > REDRIVEN_POSITIONS_MAX:
                raise Problem(
                    "unfit",
                    f"there are more than {REDRIVEN_POSITIONS_MAX:,} dead letters",
                    fix="Redrive them in parts: give `since_ms`, or the events in `positions`.",
                )
    return sorted(origins.positions)
