"""Reads the dead letters of a subscription in pages, and finds the events that they are copies of.

Owns: where the next page begins; that a letter of a topic that was deleted leads nowhere, also if another
topic has its name now, nor does one whose event was redriven since. Refuses: to choose letters by what they
say, and to deliver their events again.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable

from mainstem.contract import Engine, Position, UnknownTopic
from mainstem.queue_contract import DeadLetterInfo, Queues


async def letter_pages(
    queues: Queues, name: str, *, since_ms: int = 0, after: Position | None = None, page_letters: int
) -> AsyncGenerator[tuple[list[DeadLetterInfo], Position | None], None]:
    """The letters after a position, at most `page_letters` (1 to 1,000) at a time, each page with the
    position after which the next one begins; None: there is none. Errors: see `Queues.dead_letters`."""
    while True:
        letters = await queues.dead_letters(name, since_ms=since_ms, after=after, max_events=page_letters)
        if len(letters) < page_letters:
            yield letters, None
            return
        last = letters[-1].letter
        after = Position(last.topic, last.partition, last.offset)
        yield letters, after


class LetterOrigins:
    """The positions of the events that letters are copies of."""

    def __init__(self, engine: Engine, *, with_redriven: bool = False) -> None:
        """`with_redriven`: also of letters whose events were redriven and not given up since."""
        self._with_redriven = with_redriven
        self.positions: set[Position] = set()
        self._engine = engine
        self._topic_ids: dict[str, str | None] = {}
        """The id of each topic that a letter names; None: there is no such topic now."""

    async def add(self, letters: Iterable[DeadLetterInfo]) -> None:
        """Add the events of these letters."""
        for letter in letters:
            if letter.is_redriven and not self._with_redriven:
                continue
            topic = letter.origin.topic
            if topic not in self._topic_ids:
                self._topic_ids[topic] = await self._topic_id(topic)
            if self._topic_ids[topic] == letter.topic_id:
                self.positions.add(letter.origin)

    async def _topic_id(self, topic: str) -> str | None:
        try:
            return await self._engine.topic_id(topic)
        except UnknownTopic:
            return None
