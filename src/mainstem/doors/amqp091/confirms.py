"""The confirmations of one channel (RabbitMQ's extension): which messages are unconfirmed, and how few frames
confirm those that are stored.

Owns: the numbers of messages. Refuses: to know whether a message is stored; and no I/O.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Confirmation(NamedTuple):
    """A frame for the publisher: basic.ack or basic.nack."""

    number: int
    multiple: bool
    """All that are unconfirmed up to this number."""
    is_ack: bool


class ConfirmTracker:
    """Counts the messages of a channel from 1, since confirm.select."""

    __slots__ = ("_last", "_unconfirmed")

    def __init__(self) -> None:
        self._last = 0
        self._unconfirmed: dict[int, None] = {}

    def __len__(self) -> int:
        """How many messages are unconfirmed."""
        return len(self._unconfirmed)

    def next(self) -> int:
        """The number of the message that comes now."""
        self._last += 1
        self._unconfirmed[self._last] = None
        return self._last

    def settle(self, stored: Collection[int], refused: Collection[int] = ()) -> list[Confirmation]:
        """These messages are stored, those are not. Returns what confirms them: one frame for all that no
        unconfirmed message comes before, one for each of the others."""
        for number in (*stored, *refused):
            del self._unconfirmed[number]
        first_open = next(iter(self._unconfirmed), self._last + 1)
        floor = min(first_open, *refused) if refused else first_open
        below = [number for number in stored if number < floor]
        confirmations = []
        if len(below) == 1:
            # Everything before it is confirmed, but a client that resends what is unknown reads less of this.
            confirmations.append(Confirmation(below[0], False, True))
        elif below:
            confirmations.append(Confirmation(max(below), True, True))
        confirmations += [Confirmation(number, False, True) for number in stored if number >= floor]
        confirmations += [Confirmation(number, False, False) for number in refused]
        return confirmations
