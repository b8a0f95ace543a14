"""What `search`, `trace`, `export` and `replay` share: their options, the search behind `--at`, and progress.

Owns: the choice of the way: the server's HTTP door if it has one that can be reached, else the Kafka
protocol; and the exit codes, which are those of grep: 0 for matches, 1 for none, 2 or more for an error.
Refuses: an HTTP door that belongs to another cluster than the one at `--at`.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from mainstem.cli.common import (
    at_option,
    check_stdout_open,
    format_size,
    plural,
    print_error,
    refuse_broken_text,
    style_error,
)
from mainstem.cli.credentials import current_security
from mainstem.cli.exit_codes import ExitCode
from mainstem.stream_errors import NotReachable, StreamError
from mainstem.timespec import format_iso, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, Event
    from mainstem.search.contract import Done, Facets, Hit, SearchRequest, Totals, Update

F = TypeVar("F", bound=Callable[..., Any])
CLEAR_LINE = "\r\x1b[2K"
"""Moves to the beginning of the terminal's line and clears it."""


def time_of_option(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """A time in ms since 1970; `2d` and `-2d` are both ages."""
    if text is None:
        return None
    now_ms = time.time_ns() // 1_000_000
    for candidate in (f"-{text}", text):
        try:
            start_point = parse_start_point(candidate, now_ms)
        except ValueError:
            continue
        if start_point.kind == "time":
            return max(0, start_point.value)  # before 1970 there are no events
    raise click.BadParameter("give an age (2d, 1h30m) or a time (2013-06-01T12:00Z)", ctx, param)


def scope_options(command: F) -> F:
    """Add the options `--at`, `--topic`, `--since` and `--until` to a command."""
    for option in (
        click.option(
            "--until",
            metavar="T",
            callback=time_of_option,
            help="Only events before this time, or older than this age.",
        ),
        click.option(
            "--since",
            metavar="T",
            callback=time_of_option,
            help="Only events from this time on (UTC), or of this age (2d, 1h30m) and newer.",
        ),
        click.option(
            "--topic",
            "topics",
            metavar="GLOB",
            multiple=True,
            help="Only topics whose names match; may be repeated.",
        ),
        at_option,
    ):
        command = option(command)
    return command


class Searcher(Protocol):
    """The part of `mainstem.search.contract.Search` that these commands use. A client of an HTTP door that
    searches, which is no whole `Search`, has it too."""

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]: ...

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]: ...


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What a search runs on: the server or cluster at HOST:PORT, and whether its HTTP door searches."""

    search: Searcher
    door: str | None
    """HOST:PORT of the HTTP door that searches; None: every event is read by the Kafka protocol."""
    engine: Engine | None
    """The client of a cluster that has no such door."""


def with_search(address: str, query: str, work: Callable[[SearchTarget], Awaitable[int]]) -> int:
    """Run `work` on the search of what is at HOST:PORT; returns the exit code. Errors are reported here and
    become USAGE, because FAILED means that there are no matches."""
    refuse_broken_text()
    import asyncio

    from mainstem.search.match.matcher import Matcher
    from mainstem.search.query.parser import QueryError

    async def connect_and_work() -> int:
        async with connect_search(address) as target:
            return await work(target)

    try:
        Matcher.of(query, now_ms=0)  # report an error in the query before connecting
        return asyncio.run(connect_and_work())
    except QueryError as error:
        print_error(f"{error.message}\n  {query}\n  {' ' * error.column}^")
        return ExitCode.USAGE
    except NotReachable:
        raise
    except StreamError as error:
        print_error(str(error))
        return ExitCode.USAGE


@asynccontextmanager
async def connect_search(address: str) -> AsyncIterator[SearchTarget]:
    """The server's own search if its HTTP door can be reached. Otherwise a line on standard error says why,
    and all events are read by the Kafka protocol."""
    import asyncio

    from mainstem.cli.http_door import named_door
    from mainstem.clock import LoopClock
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.engines.kafka.server_info import fetch_server_info
    from mainstem.engines.remote.door import find_door
    from mainstem.search.cluster.filters import user_cache_folder
    from mainstem.search.cluster.search import ClusterSearch

    security = current_security()
    door, reason = named_door(address), ""
    if door is None:
        server = await fetch_server_info(address, security=security)
        door, reason = await find_door(address, server, security)
    if door is not None:
        from mainstem.cli.http_client import door_client
        from mainstem.engines.remote.search import RemoteSearch

        yield SearchTarget(RemoteSearch(door_client(door)), door, None)
        return
    print_error(f"{reason}; reading every event by the Kafka protocol, which is slower")
    engine = await KafkaEngine.connect(address, security=security)
    clock = LoopClock(asyncio.get_running_loop())
    search = ClusterSearch(engine, clock, cache=user_cache_folder(), security=security)
    try:
        yield SearchTarget(search, None, engine)
    except NotReachable as error:
        raise await engine.explain(error) from None
    finally:
        await search.close()
        await engine.close()


async def run_search(target: SearchTarget, request: SearchRequest, on_event: Callable[[Event], None]) -> Done:
    """Run a search and call `on_event` with each match; otherwise as `run_updates`."""
    from mainstem.search.contract import Hit

    def on_result(result: Hit | Facets) -> None:
        assert isinstance(result, Hit), "a search has hits and no facets"
        on_event(result.event)

    return await run_updates(target, request, target.search.search(request), on_result)


async def run_updates(
    target: SearchTarget,
    request: SearchRequest,
    unstarted: AsyncGenerator[Update | Facets, None],
    on_result: Callable[[Hit | Facets], None],
) -> Done:
    """Run a search to its end and call `on_result` with each hit or with the facets. Progress is shown on a
    terminal; ranges that could not be read are reported. If the search is interrupted, its progress is
    reported."""
    import asyncio

    from mainstem.search.contract import Done, Facets, Hit, Progress

    line = StatusLine()
    totals: Totals | None = None
    try:
        async with aclosing(unstarted) as updates:
            async for update in updates:
                if isinstance(update, Hit | Facets):
                    line.clear()
                    on_result(update)
                elif isinstance(update, Progress):
                    totals = update.totals
                    line.show(progress_line(totals))
                    check_stdout_open()
                elif isinstance(update, Done):
                    line.clear()
                    _report_end(target, request, update)
                    return update
                else:
                    line.clear()
                    position = update.position
                    place = f"{position.topic} {position.partition}@{position.offset}"
                    print_error(f"{place}: not searched: {update.reason}")
    except (asyncio.CancelledError, StreamError):
        line.clear()
        if totals is not None:
            print_error(f"stopped: {progress_line(totals)}")
        raise
    raise AssertionError("a search ends with Done")


def _report_end(target: SearchTarget, request: SearchRequest, done: Done) -> None:
    if sys.stderr.isatty():
        click.echo(style_error(end_line(done.totals, by_kafka=target.door is None), dim=True), err=True)
    if done.totals.index_note is not None:
        print_error(done.totals.index_note)
    if request.topics and not done.totals.partitions:
        print_error(f"no topic has a name like {' or '.join(request.topics)}")
    if done.reason == "limit":
        print_error(f"stopped at {request.limit:,} matches (-n 0: all)")


class StatusLine:
    """One line that is rewritten again and again, if standard error is a terminal."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()
        self._is_shown = False

    def show(self, text: str) -> None:
        """Replace the text of the line. It is cut to the width of the terminal, because a line that wraps
        could not be rewritten."""
        if self._is_terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(CLEAR_LINE + style_error(text[:width], dim=True))
            sys.stderr.flush()
            self._is_shown = True

    def clear(self) -> None:
        """Remove the line. Call it before anything else is printed."""
        if self._is_shown:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
            self._is_shown = False


BAR_COLUMNS = 20


def share_bar(share: float) -> str:
    """A bar for a share from 0 to 1, BAR_COLUMNS wide: `━━━━━━━━╸           `."""
    halves = round(min(1.0, max(0.0, share)) * BAR_COLUMNS * 2)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(BAR_COLUMNS)


def progress_line(totals: Totals) -> str:
    """The status of a running search: ` 38% ━━━━━━━╸ 1.2 GB, 310 MB/s, 57 matches, at
    2013-06-01T12:00:00.000Z`."""
    rate = totals.scanned_bytes / totals.elapsed_s if totals.elapsed_s > 0 else 0
    reached = f", at {format_iso(totals.reached_ms)}" if totals.reached_ms is not None else ""
    return (
        f"{totals.share:4.0%} {share_bar(totals.share)}"
        f" {format_size(totals.scanned_bytes)}, {format_size(rate)}/s,"
        f" {plural(totals.matches, 'match', 'matches')}{_unreadable(totals)}{reached}"
    )


def end_line(totals: Totals, *, by_kafka: bool) -> str:
    """The summary of a search that has ended: `searched 100%: 57 matches; 1.2 GB read at 310 MB/s, 8.1 GB
    ruled out unread, 4.1 s`."""
    rate = totals.scanned_bytes / totals.elapsed_s if totals.elapsed_s > 0 else 0
    skipped = f", {format_size(totals.skipped_bytes)} ruled out unread" if totals.skipped_bytes else ""
    skipped += f" ({format_size(totals.indexed_bytes)} by the index)" if totals.indexed_bytes else ""
    return (
        f"searched {totals.share:.0%}: {plural(totals.matches, 'match', 'matches')}{_unreadable(totals)};"
        f" {format_size(totals.scanned_bytes)} read at {format_size(rate)}/s{skipped},"
        f" {totals.elapsed_s:.1f} s{', through the Kafka protocol' if by_kafka else ''}"
    )


def _unreadable(totals: Totals) -> str:
    return f", {plural(totals.undecodable, 'range', 'ranges')} unreadable" if totals.undecodable else ""


def exit_code(done: Done) -> int:
    """The exit code of grep. If a range could not be read, it may have held a match, so the code is
    BAD_INPUT."""
    if done.totals.undecodable:
        return ExitCode.BAD_INPUT
    return ExitCode.DONE if done.totals.matches else ExitCode.FAILED


def csv_row(event: Event) -> tuple[object, ...]:
    """The values of CSV_COLUMNS. Key and value are base64 if they are not UTF-8."""
    from mainstem.cli.event_format import text_or_base64

    key, value = text_or_base64(event.key)[0], text_or_base64(event.value)[0]
    return event.topic, event.partition, event.offset, format_iso(event.timestamp_ms), key, value


CSV_COLUMNS = ("topic", "partition", "offset", "time", "key", "value")
