"""What `search`, `trace`, `export` and `replay` share: their options, the search behind `--at`, progress.

Owns: the way: the server's HTTP door where there is one that can be reached, else Kafka's protocol; and the
exit codes of grep: 0 something was found, 1 nothing, 2 and more an error. Used by these commands only.
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

from mainstem.cli.common import at_option, check_stdout_open, format_size, style_error
from mainstem.cli.exit_codes import ExitCode
from mainstem.contract import StreamError
from mainstem.timespec import format_iso, parse_start_point

if TYPE_CHECKING:
    from mainstem.contract import Engine, Event
    from mainstem.engines.kafka.server_info import ServerInfo
    from mainstem.search.contract import Done, Facets, Hit, SearchRequest, Totals, Update

F = TypeVar("F", bound=Callable[..., Any])
CLEAR_LINE = "\r\x1b[2K"
"""To the beginning of the line, and clear it."""


def _time(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """`2d` and `-2d` are ages."""
    if text is None:
        return None
    now_ms = time.time_ns() // 1_000_000
    for candidate in (f"-{text}", text):
        try:
            moment = parse_start_point(candidate, now_ms)
        except ValueError:
            continue
        if moment.kind == "time":
            return moment.value
    raise click.BadParameter("an age (2d, 1h30m) or a time (2013-06-01T12:00Z)", ctx, param)


def scope_options(command: F) -> F:
    """`--at`, `--topic`, `--since`, `--until`."""
    for option in (
        click.option("--until", metavar="T", callback=_time, help="Only events before: an age or a time."),
        click.option(
            "--since",
            metavar="T",
            callback=_time,
            help="Only events from: an age (2d, 1h30m) or a time, UTC.",
        ),
        click.option(
            "--topic",
            "topics",
            metavar="GLOB",
            multiple=True,
            help="Only topics of this name; may be repeated.",
        ),
        at_option,
    ):
        command = option(command)
    return command


class Searcher(Protocol):
    """What these commands need of a search (`mainstem.search.contract.Search`)."""

    def search(self, request: SearchRequest) -> AsyncGenerator[Update, None]: ...

    def facets(
        self, request: SearchRequest, fields: Sequence[str], top: int
    ) -> AsyncGenerator[Update | Facets, None]: ...


@dataclass(frozen=True, slots=True)
class SearchTarget:
    """What is at HOST:PORT, and how it is searched."""

    search: Searcher
    door: str | None
    """HOST:PORT of the HTTP door that does it; None: every event comes here by Kafka's protocol."""
    engine: Engine | None
    """Of a cluster without such a door."""


def with_search(at: str, query: str, work: Callable[[SearchTarget], Awaitable[int]]) -> int:
    """Run `work` on a search of what is at HOST:PORT; errors are told here, for here 1 means: none found."""
    import asyncio

    from mainstem.contract import NotReachable
    from mainstem.search.match.matcher import Matcher
    from mainstem.search.query.parser import QueryError

    async def inner() -> int:
        async with connect_search(at) as reached:
            return await work(reached)

    try:
        Matcher.of(query, now_ms=0)  # before anybody is asked for anything
        return asyncio.run(inner())
    except QueryError as error:
        click.echo(f"mainstem: {error.message}\n  {query}\n  {' ' * error.column}^", err=True)
        return ExitCode.USAGE
    except NotReachable:
        raise
    except StreamError as error:
        click.echo(f"mainstem: {error}", err=True)
        return ExitCode.USAGE


@asynccontextmanager
async def connect_search(at: str) -> AsyncIterator[SearchTarget]:
    """The server's own search where it serves HTTP; else, as standard error says, a scan of its events."""
    import asyncio

    from mainstem.clock import LoopClock
    from mainstem.engines.kafka.engine import KafkaEngine
    from mainstem.engines.kafka.server_info import fetch_server_info
    from mainstem.search.cluster.filters import user_cache_folder
    from mainstem.search.cluster.search import ClusterSearch

    about = await fetch_server_info(at)
    door, why = await _door(at, about)
    if door is not None:
        from mainstem.cli.remote import RemoteSearch

        yield SearchTarget(RemoteSearch(door), door, None)
        return
    click.echo(f"mainstem: {why}; reading every event by the Kafka protocol, which is slower", err=True)
    engine = await KafkaEngine.connect(at)
    search = ClusterSearch(engine, LoopClock(asyncio.get_running_loop()), cache=user_cache_folder())
    try:
        yield SearchTarget(search, None, engine)
    finally:
        await search.close()
        await engine.close()


async def _door(at: str, about: ServerInfo) -> tuple[str | None, str]:
    """HOST:PORT of the cluster's HTTP door, or why there is none for us."""
    if about.http_listener is None:
        return None, f"{at} is not a mainstem server"
    if not about.http_listener:
        return None, f"the server at {at} serves no HTTP"
    from mainstem.cli.remote import cluster_id

    host, _, port = about.http_listener.rpartition(":")
    if host in ("0.0.0.0", "[::]", ""):  # all of its addresses: also the one by which we know it
        host = at.split(",")[0].rpartition(":")[0]
    door = f"{host}:{port}"
    try:
        found = await cluster_id(door)
    except StreamError as error:
        return None, f"the server's HTTP door is not reachable from here: {error}"
    if found != about.cluster_id:
        return None, f"the server's HTTP door is not reachable from here: {door} is another server's"
    return door, ""


async def run_search(reached: SearchTarget, request: SearchRequest, found: Callable[[Event], None]) -> Done:
    """Run a search and give each hit to `found`; else as `follow_updates`."""
    from mainstem.search.contract import Hit

    def take(update: Hit | Facets) -> None:
        assert isinstance(update, Hit)
        found(update.event)

    return await run_updates(reached, request, reached.search.search(request), take)


async def run_updates(
    reached: SearchTarget,
    request: SearchRequest,
    asked: AsyncGenerator[Update | Facets, None],
    found: Callable[[Hit | Facets], None],
) -> Done:
    """Run a search, give what it finds or counts to `found`, show progress if a person is there, and tell of
    what could not be read. A search that is stopped on its way says how far it came."""
    import asyncio

    from mainstem.search.contract import Done, Facets, Hit, Progress

    line = StatusLine()
    totals: Totals | None = None
    try:
        async with aclosing(asked) as updates:
            async for update in updates:
                if isinstance(update, Hit | Facets):
                    line.clear()
                    found(update)
                elif isinstance(update, Progress):
                    totals = update.totals
                    line.show(progress_line(totals))
                    check_stdout_open()
                elif isinstance(update, Done):
                    line.clear()
                    _report_end(reached, request, update)
                    return update
                else:
                    line.clear()
                    at = update.position
                    place = f"{at.topic} {at.partition}@{at.offset}"
                    click.echo(f"mainstem: {place}: not searched: {update.reason}", err=True)
    except (asyncio.CancelledError, StreamError):
        line.clear()
        if totals is not None:
            click.echo(f"mainstem: stopped: {progress_line(totals)}", err=True)
        raise
    raise AssertionError("a search ends with Done")


def _report_end(reached: SearchTarget, request: SearchRequest, done: Done) -> None:
    if sys.stderr.isatty():
        click.echo(style_error(end_line(done.totals, by_kafka=reached.door is None), dim=True), err=True)
    if done.totals.index_note is not None:
        click.echo(f"mainstem: {done.totals.index_note}", err=True)
    if request.topics and not done.totals.partitions:
        click.echo(f"mainstem: no topic has a name like {' or '.join(request.topics)}", err=True)
    if done.reason == "limit":
        click.echo(f"mainstem: stopped at {request.limit:,} matches (-n 0: all)", err=True)


class StatusLine:
    """One line on a terminal's standard error that is written over and over; nothing where nobody looks."""

    def __init__(self) -> None:
        self._watched = sys.stderr.isatty()
        self._shown = False

    def show(self, text: str) -> None:
        """Instead of what it says now. Cut to the width: a line that wraps could not be taken back."""
        if self._watched:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(CLEAR_LINE + style_error(text[:width], dim=True))
            sys.stderr.flush()
            self._shown = True

    def clear(self) -> None:
        """Before anything else is written."""
        if self._shown:
            sys.stderr.write(CLEAR_LINE)
            sys.stderr.flush()
            self._shown = False


BAR = 20


def share_bar(share: float) -> str:
    """`━━━━━━━━╸           ` in BAR columns."""
    halves = round(min(1.0, max(0.0, share)) * BAR * 2)
    return ("━" * (halves // 2) + "╸" * (halves % 2)).ljust(BAR)


def progress_line(totals: Totals) -> str:
    """` 38 % ━━━━━━━╸  1.2 GB, 310 MB/s, 57 matches, back to 2013-06-01T12:00:00.000Z`."""
    rate = totals.scanned_bytes / totals.elapsed_s if totals.elapsed_s > 0 else 0
    reached = f", at {format_iso(totals.reached_ms)}" if totals.reached_ms is not None else ""
    return (
        f"{totals.share:4.0%} {share_bar(totals.share)}"
        f" {format_size(totals.scanned_bytes)}, {format_size(rate)}/s,"
        f" {plural(totals.matches, 'match', 'matches')}{_not_read(totals)}{reached}"
    )


def end_line(totals: Totals, *, by_kafka: bool) -> str:
    """`searched 100%: 57 matches; 1.2 GB read at 310 MB/s, 8.1 GB left out unread, 4.1 s`."""
    rate = totals.scanned_bytes / totals.elapsed_s if totals.elapsed_s > 0 else 0
    skipped = f", {format_size(totals.skipped_bytes)} ruled out unread" if totals.skipped_bytes else ""
    skipped += f" ({format_size(totals.indexed_bytes)} by the index)" if totals.indexed_bytes else ""
    return (
        f"searched {totals.share:.0%}: {plural(totals.matches, 'match', 'matches')}{_not_read(totals)};"
        f" {format_size(totals.scanned_bytes)} read at {format_size(rate)}/s{skipped},"
        f" {totals.elapsed_s:.1f} s"
        f"{', through the Kafka protocol' if by_kafka else ''}"
    )


def _not_read(totals: Totals) -> str:
    return f", {plural(totals.undecodable, 'stretch', 'stretches')} unreadable" if totals.undecodable else ""


def plural(count: int, one: str, more: str) -> str:
    """`1 match`, `1,204 matches`."""
    return f"{count:,} {one if count == 1 else more}"


def exit_code(done: Done) -> int:
    """As grep's; what could not be read may have hidden a match."""
    if done.totals.undecodable:
        return ExitCode.BAD_INPUT
    return ExitCode.DONE if done.totals.matches else ExitCode.FAILED


def csv_row(event: Event) -> tuple[object, ...]:
    """The columns of CSV: topic, partition, offset, time, key, value (base64 where it is not UTF-8)."""
    from mainstem.cli.commands.show import text_or_base64

    key, value = text_or_base64(event.key)[0], text_or_base64(event.value)[0]
    return event.topic, event.partition, event.offset, format_iso(event.timestamp_ms), key, value


CSV_COLUMNS = ("topic", "partition", "offset", "time", "key", "value")
