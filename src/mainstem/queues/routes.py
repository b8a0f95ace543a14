"""Routes: the sets of queues to which events of a namespace go, each with a number.

An event has the number of its route in place of a list of queues, so that an event for a hundred queues is
stored once and says so in a few bytes. A set has one number: it is interned.

Owns: which sets have a number, and the bytes of a set. Refuses: to choose the queues of an event, and
records. A route without a queue that exists is forgotten; numbers are not used again (their caller counts).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TypeAlias

from mainstem.queues.runs import decode_runs, encode_runs, runs_of

QueueSet: TypeAlias = tuple[int, ...]
"""Numbers of queues, ascending, each once."""


def queue_set(queues: Iterable[int]) -> QueueSet:
    """The set of these queues, which may be in any order and repeated."""
    return tuple(sorted(set(queues)))


def encode_queues(queues: QueueSet) -> bytes:
    """The set as runs of numbers, from 0: 2 bytes a queue, and less where numbers are neighbours. ValueError:
    the numbers do not ascend."""
    if any(first >= second for first, second in pairwise(queues)):
        raise ValueError(f"the queues of a route ascend: {queues}")
    return encode_runs(0, runs_of(queues))


def decode_queues(data: bytes, queues_max: int = 1_000_000) -> QueueSet:
    """The set of these bytes. ValueError: they are damaged, or there are more queues."""
    runs = decode_runs(0, data)
    if sum(end - first for first, end in runs) > queues_max:
        raise ValueError(f"a route has at most {queues_max:,} queues")
    return tuple(number for first, end in runs for number in range(first, end))


class RouteTable:
    """The routes of a namespace."""

    def __init__(self) -> None:
        self._queues: dict[int, QueueSet] = {}
        self._numbers: dict[QueueSet, int] = {}
        self._routes_of: dict[int, set[int]] = {}
        """Queue -> the routes that lead to it."""

    def __len__(self) -> int:
        return len(self._queues)

    def find(self, queues: QueueSet) -> int | None:
        """The number of the route to exactly these queues."""
        return self._numbers.get(queues)

    def queues(self, route: int) -> QueueSet:
        """The queues of a route that exist. Nothing if the route is not known."""
        return self._queues.get(route, ())

    def items(self) -> Iterator[tuple[int, QueueSet]]:
        """All routes with their queues, as they are now."""
        return iter(list(self._queues.items()))

    def add(self, route: int, queues: QueueSet) -> None:
        """The route with this number leads to these queues. ValueError: the number, or the set, has another
        meaning already."""
        if not queues:
            raise ValueError(f"route {route} leads to no queue")
        if self._queues.setdefault(route, queues) != queues:
            raise ValueError(f"route {route} leads to {self._queues[route]} already, not to {queues}")
        self._numbers.setdefault(queues, route)
        for queue in queues:
            self._routes_of.setdefault(queue, set()).add(route)

    def drop_queue(self, queue: int) -> None:
        """The queue exists no more: routes lead to their other queues."""
        for route in self._routes_of.pop(queue, ()):
            old = self._queues[route]
            if self._numbers.get(old) == route:
                del self._numbers[old]
            rest = tuple(number for number in old if number != queue)
            if rest:
                # Two routes may lead to the same queues now. Either number is good for new events.
                self._queues[route] = rest
                self._numbers.setdefault(rest, route)
            else:
                del self._queues[route]
