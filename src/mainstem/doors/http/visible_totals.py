"""The totals of the statistics, over what a requester may describe.

Owns: that topics which the requester may not describe do not count in any of them, neither now nor in the
history. With the right to DESCRIBE the cluster they are those of everything, which the sampler has added up.
Refuses: to add up the history of many topics for each request: it is kept for a minute.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from mainstem.access_contract import Operation, Requester, RequesterRights, ResourceType
from mainstem.doors.http.minute_series import MinuteSeries
from mainstem.doors.http.sampler import EventRate, Sampler

SERIES_OF_TURN = 50
"""Histories that are added up in a turn of the event loop: some milliseconds."""
REQUESTERS_MAX = 100
"""Requesters whose history is kept."""


@dataclass(frozen=True, slots=True)
class LogTotals:
    """Totals over topics and groups."""

    topics: int
    partitions: int
    events: int
    groups: int
    in_per_s: float
    out_per_s: float
    inbound: list[float | None]
    """Events written per second, for each minute."""
    outbound: list[float | None]
    """Events that groups have read per second, for each minute."""
    has_all: bool
    """Whether they are those of everything."""


class VisibleTotals:
    """Adds up totals, and keeps the histories of the last requesters. `yield_to_loop` is awaited between
    parts."""

    def __init__(self, sampler: Sampler, yield_to_loop: Callable[[], Awaitable[None]]) -> None:
        self._sampler = sampler
        self._yield_to_loop = yield_to_loop
        self._histories: dict[tuple[Requester, int, int], tuple[list[float | None], list[float | None]]] = {}
        """By requester, version of its rights, and first minute after the history."""

    async def of(self, rights: RequesterRights) -> LogTotals:
        """The totals for the requester with these rights."""
        sampler = self._sampler
        first, count = sampler.history_window()
        if not rights.are_limited or rights.allows(Operation.DESCRIBE, ResourceType.CLUSTER):
            inbound, outbound = sampler.total_inbound, sampler.total_outbound
            return LogTotals(
                topics=len(sampler.topics),
                partitions=sum(topic.partitions for topic in sampler.topics),
                events=sum(topic.events for topic in sampler.topics),
                groups=sampler.groups_total,
                in_per_s=inbound.per_s,
                out_per_s=outbound.per_s,
                inbound=_values(inbound.history, first, count),
                outbound=_values(outbound.history, first, count),
                has_all=True,
            )
        topics = [
            topic
            for topic in sampler.topics
            if rights.allows(Operation.DESCRIBE, ResourceType.TOPIC, topic.name)
        ]
        names = [topic.name for topic in topics]
        inbound_history, outbound_history = await self._history(rights, names)
        return LogTotals(
            topics=len(topics),
            partitions=sum(topic.partitions for topic in topics),
            events=sum(topic.events for topic in topics),
            groups=sum(
                rights.allows(Operation.DESCRIBE, ResourceType.GROUP, name) for name in sampler.groups
            ),
            in_per_s=sum(rate.per_s for rate in _rates(sampler.inbound, names)),
            out_per_s=sum(rate.per_s for rate in _rates(sampler.outbound, names)),
            inbound=inbound_history,
            outbound=outbound_history,
            has_all=False,
        )

    async def _history(
        self, rights: RequesterRights, names: list[str]
    ) -> tuple[list[float | None], list[float | None]]:
        sampler = self._sampler
        first, count = sampler.history_window()
        key = (rights.requester, rights.version, first + count)
        known = self._histories.get(key)
        if known is None:
            known = (
                await self._summed(_rates(sampler.inbound, names), first, count),
                await self._summed(_rates(sampler.outbound, names), first, count),
            )
            while len(self._histories) >= REQUESTERS_MAX:
                del self._histories[next(iter(self._histories))]
            self._histories[key] = known
        return known

    async def _summed(self, rates: list[EventRate], first: int, count: int) -> list[float | None]:
        """The sum of the histories of these rates; None for a minute of which none is known."""
        total: list[float | None] = [None] * count
        for number, rate in enumerate((rate for rate in rates if rate.history is not None), 1):
            values = _values(rate.history, first, count)
            total = [
                value if so_far is None else so_far + (value or 0.0)
                for so_far, value in zip(total, values, strict=True)
            ]
            if not number % SERIES_OF_TURN:
                await self._yield_to_loop()
        return total


def _values(history: MinuteSeries | None, first: int, count: int) -> list[float | None]:
    return (history or MinuteSeries()).values(first, count)


def _rates(rates: dict[str, EventRate], names: Iterable[str]) -> list[EventRate]:
    return [rates[name] for name in names if name in rates]
