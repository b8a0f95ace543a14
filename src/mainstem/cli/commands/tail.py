"""The command `mainstem tail`: shows events, and further ones as they are written.

Owns: its options, and the order in which the events of several partitions are shown. Refuses: start and end
positions together with `--group`, other than `earliest` and `latest` as the start.
"""

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
    plural,
    print_error,
    with_engine,
)
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.offsets import check_offset
from mainstem.start_offset import resolve_offset
from mainstem.timespec import StartPoint, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, Event, Member, Position, Reader, ReadResult

BATCH_EVENTS = 2_000


def _start_point(ctx: click.Context, param: click.Parameter, text: str | None) -> StartPoint | None:
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
    callback=_start_point,
    help="earliest, latest, an OFFSET, a TIME (ISO 8601, UTC) or an age such as -10m.  [default: latest]",
)
@click.option(
    "--until",
    metavar="WHERE",
    callback=_start_point,
    help="Stop at this place, given as for --from; latest: at the present end.",
)
@click.option(
    "-n", "count", type=click.IntRange(min=1), help="Stop after N events; without --from, show the last N."
)
@click.option("--group", help="Read as a member of this consumer group, and commit what was shown.")
@json_option
def command(
    topics: tuple[str, ...],
    address: str,
    start: StartPoint | None,
    until: StartPoint | None,
    count: int | None,
    group: str | None,
    as_json: bool,
) -> int:
    """Show events of topics, and further ones as they are written, until Ctrl-C.

    In a pipe, a line is: topic, partition, offset, time, key, value, separated by tabs; --json is exact and
    has the headers. Times are read and shown in UTC.
    """
    from mainstem.cli.event_format import event_printer

    if group is not None and (until is not None or (start is not None and start.kind in ("offset", "time"))):
        raise click.UsageError("with --group, --from must be earliest or latest, and --until is not allowed")
    print_events = event_printer(
        as_json=as_json, terminal=is_terminal(), colour=has_colour(), with_topic=len(topics) > 1
    )
    tail = _TopicTail(tuple(dict.fromkeys(topics)), print_events, count)
    try:
        if group is not None:
            group_start = "earliest" if start is not None and start.kind == "earliest" else "latest"
            with_engine(address, lambda engine: tail.as_member(engine, group, group_start))
        elif start is None and until is None and count is not None:
            with_engine(address, tail.last)
        else:
            with_engine(address, lambda engine: tail.between(engine, start or StartPoint("latest"), until))
    finally:
        if tail.unreadable:
            ranges = plural(tail.unreadable, "damaged range", "damaged ranges")
            print_error(f"{ranges} could not be read")
    return ExitCode.BAD_INPUT if tail.unreadable else ExitCode.DONE


@dataclass(slots=True)
class _ReadRange:
    """The offset at which reading a partition starts, and the one at which it ends; None: it never ends."""

    start: int
    end: int | None


class _TopicTail:
    """One run of `tail`: reads events and shows them."""

    def __init__(
        self, topics: Sequence[str], print_events: Callable[[Sequence[Event]], None], count: int | None
    ) -> None:
        self._topics = topics
        self._print_events = print_events
        self._left = count
        """Events that are still to be shown; None: no limit."""
        self.unreadable = 0

    def _batch_size(self) -> int:
        return BATCH_EVENTS if self._left is None else min(self._left, BATCH_EVENTS)

    def _show(self, events: Sequence[Event]) -> bool:
        """Show the events, up to the limit. Returns whether further events are to be shown."""
        if self._left is not None:
            events = events[: self._left]
            self._left -= len(events)
        self._print_events(events)
        return self._left != 0

    async def between(self, engine: Engine, start: StartPoint, until: StartPoint | None) -> None:
        """Show events from one point to another, or without end."""
        ranges: dict[tuple[str, int], _ReadRange] = {}
        partitions = await _partitions(engine, self._topics)
        await check_offset(engine, "--from", start, partitions)
        await check_offset(engine, "--until", until, partitions)
        for topic, partition in partitions:
            begin = await resolve_offset(engine, topic, partition, start)
            end = None if until is None else await resolve_offset(engine, topic, partition, until)
            if end is None or begin < end:
                ranges[topic, partition] = _ReadRange(begin, end)
        if ranges:
            await self._read(engine, ranges)

    async def last(self, engine: Engine) -> None:
        """Show the last events, sorted by time over all partitions."""
        ranges: dict[tuple[str, int], _ReadRange] = {}
        for topic, partition in await _partitions(engine, self._topics):
            bounds = await engine.bounds(topic, partition)
            if bounds.begin < bounds.end:
                start = max(bounds.begin, bounds.end - (self._left or 0))
                ranges[topic, partition] = _ReadRange(start, bounds.end)
        events: list[Event] = []
        count, self._left = self._left, None
        print_events, self._print_events = self._print_events, events.extend
        if ranges:
            await self._read(engine, ranges)
        events.sort(key=lambda event: event.timestamp_ms)  # stable: within a partition the offset decides
        print_events(events[-(count or 0) :])

    async def _read(self, engine: Engine, ranges: dict[tuple[str, int], _ReadRange]) -> None:
        from mainstem.contract import Position

        reader = await engine.reader(
            [
                Position(topic, partition, read_range.start)
                for (topic, partition), read_range in ranges.items()
            ]
        )
        try:
            while True:
                batch = await self._next_batch(reader)
                within = [event for event in batch.events if _is_within(ranges, event)]
                if not self._show(within) or _at_end(ranges, reader.positions()):
                    return
        finally:
            await reader.close()

    async def as_member(self, engine: Engine, group: str, start: str) -> None:
        """Show events as a member of a group, and commit those that were shown."""
        member = await engine.join(group, self._topics, start="earliest" if start == "earliest" else "latest")
        try:
            continues = True
            while continues:
                batch = await self._next_batch(member)
                if batch:
                    continues = self._show(batch.events)
                    await member.commit()
        finally:
            await member.close()

    async def _next_batch(self, reader: Reader | Member) -> ReadResult:
        check_stdout_open()
        batch = await reader.read(max_events=self._batch_size(), wait_ms=500)
        self.unreadable += len(batch.unreadable)
        for position in batch.unreadable:
            print_error(f"{position.topic} {position.partition}@{position.offset}: damaged, skipped")
        return batch


async def _partitions(engine: Engine, topics: Sequence[str]) -> list[tuple[str, int]]:
    return [(topic, partition) for topic in topics for partition in range(await engine.partitions(topic))]


def _is_within(ranges: dict[tuple[str, int], _ReadRange], event: Event) -> bool:
    end = ranges[event.topic, event.partition].end
    return end is None or event.offset < end


def _at_end(ranges: dict[tuple[str, int], _ReadRange], positions: Sequence[Position]) -> bool:
    ends = ((ranges[position.topic, position.partition].end, position.offset) for position in positions)
    return all(end is not None and offset >= end for end, offset in ends)
