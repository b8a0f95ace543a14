"""`mainstem tail`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import (
    at_option,
    check_stdout_open,
    has_colour,
    is_terminal,
    json_option,
    with_engine,
)
from mainstem.cli.exit_codes import ExitCode
from mainstem.timespec import StartPoint, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, Event, Member, Position, Reader, ReadResult

BATCH_EVENTS = 2_000


def _moment(ctx: click.Context, param: click.Parameter, text: str | None) -> StartPoint | None:
    if text is None:
        return None
    try:
        return parse_start_point(text, time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


@click.command("tail")
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@at_option
@click.option(
    "--from",
    "start",
    metavar="WHERE",
    callback=_moment,
    help="earliest, latest, an OFFSET, a TIME (ISO 8601, UTC) or an age such as -10m.  [default: latest]",
)
@click.option(
    "--until", metavar="WHERE", callback=_moment, help="Stop there; latest: at what is the end now."
)
@click.option(
    "-n", "count", type=click.IntRange(min=1), help="So many events; without --from, the last ones."
)
@click.option("--group", help="Read as a member of this consumer group, and commit.")
@json_option
def command(
    topics: tuple[str, ...],
    at: str,
    start: StartPoint | None,
    until: StartPoint | None,
    count: int | None,
    group: str | None,
    as_json: bool,
) -> int:
    """Show events of topics, and go on with new ones until Ctrl-C.

    In a pipe a line is: topic, partition, offset, time, key, value, separated by tabs; --json is exact,
    with headers. Times that are typed or shown are UTC.
    """
    from mainstem.cli.commands.show import event_printer

    if group is not None and (until is not None or (start is not None and start.kind in ("offset", "time"))):
        raise click.UsageError("with --group, --from takes earliest or latest, and there is no --until")
    show = event_printer(
        as_json=as_json, terminal=is_terminal(), colour=has_colour(), several=len(topics) > 1
    )
    tail = _TopicTail(tuple(dict.fromkeys(topics)), show, count)
    try:
        if group is not None:
            beginning = "earliest" if start is not None and start.kind == "earliest" else "latest"
            with_engine(at, lambda engine: tail.as_member(engine, group, beginning))
        elif start is None and until is None and count is not None:
            with_engine(at, tail.last)
        else:
            with_engine(at, lambda engine: tail.between(engine, start or StartPoint("latest"), until))
    finally:
        if tail.unreadable:
            click.echo(f"mainstem: damage in {tail.unreadable:,} places could not be read", err=True)
    return ExitCode.BAD_INPUT if tail.unreadable else ExitCode.DONE


@dataclass(slots=True)
class _Range:
    """Where reading a partition starts and, if it does, ends."""

    start: int
    end: int | None


class _TopicTail:
    """One run of the command."""

    def __init__(
        self, topics: Sequence[str], show: Callable[[Sequence[Event]], None], count: int | None
    ) -> None:
        self._topics = topics
        self._show = show
        self._left = count
        self.unreadable = 0

    def _most(self) -> int:
        return BATCH_EVENTS if self._left is None else min(self._left, BATCH_EVENTS)

    def _take(self, events: Sequence[Event]) -> bool:
        """Show them, as many as are still wanted; False when that was the last."""
        if self._left is not None:
            events = events[: self._left]
            self._left -= len(events)
        self._show(events)
        return self._left != 0

    async def between(self, engine: Engine, start: StartPoint, until: StartPoint | None) -> None:
        """From one moment to another, or for ever."""
        ranges: dict[tuple[str, int], _Range] = {}
        for where in await _partitions(engine, self._topics):
            begin = await resolve_offset(engine, where, start)
            end = None if until is None else await resolve_offset(engine, where, until)
            if end is None or begin < end:
                ranges[where] = _Range(begin, end)
        if ranges:
            await self._read(engine, ranges)

    async def last(self, engine: Engine) -> None:
        """The last events that there are, by time over all partitions."""
        ranges: dict[tuple[str, int], _Range] = {}
        for where in await _partitions(engine, self._topics):
            bounds = await engine.bounds(*where)
            if bounds.begin < bounds.end:
                ranges[where] = _Range(max(bounds.begin, bounds.end - (self._left or 0)), bounds.end)
        found: list[Event] = []
        wanted, self._left = self._left, None
        show, self._show = self._show, found.extend
        if ranges:
            await self._read(engine, ranges)
        found.sort(key=lambda event: event.timestamp_ms)  # stable: within a partition the offset decides
        show(found[-(wanted or 0) :])

    async def _read(self, engine: Engine, ranges: dict[tuple[str, int], _Range]) -> None:
        from mainstem.contract import Position

        reader = await engine.reader([Position(*where, each.start) for where, each in ranges.items()])
        try:
            while True:
                found = await self._next(reader)
                wanted = [event for event in found.events if _within(ranges, event)]
                if not self._take(wanted) or _at_end(ranges, reader.positions()):
                    return
        finally:
            await reader.close()

    async def as_member(self, engine: Engine, group: str, start: str) -> None:
        """As a member of a group; what was shown is committed."""
        member = await engine.join(group, self._topics, start="earliest" if start == "earliest" else "latest")
        try:
            more = True
            while more:
                found = await self._next(member)
                if found:
                    more = self._take(found.events)
                    await member.commit()
        finally:
            await member.close()

    async def _next(self, reader: Reader | Member) -> ReadResult:
        check_stdout_open()
        found = await reader.read(max_events=self._most(), wait_ms=500)
        self.unreadable += len(found.unreadable)
        for place in found.unreadable:
            click.echo(
                f"mainstem: {place.topic} {place.partition}@{place.offset}: damaged, passed over",
                err=True,
            )
        return found


async def _partitions(engine: Engine, topics: Sequence[str]) -> list[tuple[str, int]]:
    return [(topic, partition) for topic in topics for partition in range(await engine.partitions(topic))]


async def resolve_offset(engine: Engine, where: tuple[str, int], moment: StartPoint) -> int:
    """The offset that a moment means in a partition; an offset outside what is kept means its first or its
    end."""
    bounds = await engine.bounds(*where)
    if moment.kind == "earliest":
        return bounds.begin
    if moment.kind == "offset":
        return max(bounds.begin, min(moment.value, bounds.end))
    if moment.kind == "time":
        found = await engine.offset_for_time(*where, moment.value)
        return bounds.end if found is None else found
    return bounds.end


def _within(ranges: dict[tuple[str, int], _Range], event: Event) -> bool:
    end = ranges[event.topic, event.partition].end
    return end is None or event.offset < end


def _at_end(ranges: dict[tuple[str, int], _Range], positions: Sequence[Position]) -> bool:
    ends = ((ranges[each.topic, each.partition].end, each.offset) for each in positions)
    return all(end is not None and offset >= end for end, offset in ends)
