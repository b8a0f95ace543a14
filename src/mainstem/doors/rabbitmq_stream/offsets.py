"""The offsets that consumers store: positions of the consumer group of their reference.

A stored offset is that of the last event that was processed, a group's position that of the next one: they
differ by one, and a group of this door can be seen, and go on, through every other door.
Owns: the offsets that are stored and not yet durable, one call of the engine at a time. Refuses: more than
WAITING_MAX of them.
"""

from __future__ import annotations

from collections.abc import Callable

from mainstem.amqp.streams import StreamPlace
from mainstem.contract import Engine, Position, StreamError
from mainstem.doors.rabbitmq_stream.response_code import CommandRefused, ResponseCode

WAITING_MAX = 1_000
OFFSET_MAX = (1 << 63) - 2


class OffsetStore:
    """The stored offsets of one connection. The caller starts `run` after `store`, unless it runs."""

    def __init__(self, engine: Engine, warn: Callable[[str, str], None]) -> None:
        """`warn`: logs and counts a warning about the client: kind, text. The protocol has no answer."""
        self._engine = engine
        self._warn = warn
        self._waiting: dict[tuple[str, StreamPlace], int] = {}
        self._in_call: dict[tuple[str, StreamPlace], int] = {}
        self.is_running = False

    def store(self, reference: str, place: StreamPlace, offset: int) -> None:
        """Store an offset soon."""
        if not reference or offset > OFFSET_MAX or len(self._waiting) >= WAITING_MAX:
            why = "too many wait" if len(self._waiting) >= WAITING_MAX else "no reference, or no offset"
            self._warn("offset", f"the offset of a stream for {reference!r} is not stored: {why}")
            return
        self._waiting[reference, place] = offset

    async def run(self) -> None:
        """Make durable what waits, until nothing does."""
        self.is_running = True
        try:
            while self._waiting:
                self._in_call, self._waiting = self._waiting, {}
                by_group: dict[str, list[Position]] = {}
                for (reference, place), offset in self._in_call.items():
                    by_group.setdefault(reference, []).append(Position(*place, offset + 1))
                for group, positions in by_group.items():
                    try:
                        await self._engine.set_positions(group, positions)
                    except StreamError as error:
                        self._warn("offset", f"{len(positions)} offsets of {group!r} are not stored: {error}")
                self._in_call = {}
        finally:
            self.is_running = False

    async def query(self, reference: str, place: StreamPlace) -> int:
        """The offset that was stored last. CommandRefused: there is none; UnknownGroup."""
        for offsets in (self._waiting, self._in_call):
            if (reference, place) in offsets:
                return offsets[reference, place]
        for position in (await self._engine.group(reference)).positions:
            if (position.topic, position.partition) == place and position.offset:
                return position.offset - 1
        raise CommandRefused(ResponseCode.NO_OFFSET)
