"""Which events the dead letters of a subscription are copies of.

Owns: the limit on how many are redriven at once, and that a letter of a topic that was deleted leads nowhere,
also if another topic has its name now. Refuses: to redrive, which the route does. Its cost is that of reading
the dead-letter topic from the given time on.
"""

from __future__ import annotations

from mainstem.contract import Engine, InvalidArgument, Position, UnknownTopic
from mainstem.doors.http.problem import Problem
from mainstem.http_api.subscriptions import REDRIVEN_POSITIONS_MAX
from mainstem.queue_contract import Queues

PAGE_LETTERS = 100


async def dead_letter_origins(engine: Engine, queues: Queues, name: str, since_ms: int) -> list[Position]:
    """Where the events are that the subscription has given up: those whose letters are in its dead-letter
    topic and have this time or a later one, sorted. Raises Problem if it never had such a topic, or if there
    are more than REDRIVEN_POSITIONS_MAX."""
    origins: set[Position] = set()
    topic_ids: dict[str, str | None] = {}
    after: Position | None = None
    while True:
        try:
            letters = await queues.dead_letters(name, since_ms=since_ms, after=after, max_events=PAGE_LETTERS)
        except InvalidArgument as error:
            raise Problem("unfit", str(error), fix="Name the events in `positions`.") from None
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
        if len(letters) < PAGE_LETTERS:
            return sorted(origins)
        last = letters[-1].letter
        after = Position(last.topic, last.partition, last.offset)


async def _topic_id(engine: Engine, topic: str) -> str | None:
    try:
        return await engine.topic_id(topic)
    except UnknownTopic:
        return None
