"""What `search`, `trace` and `export` share: their options, the search behind `--at`, progress, exit codes.

Owns: the exit codes of grep: 0 something was found, 1 nothing, 2 and more an error. Used by these commands
only.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mainstem.cli.common import at_option, size
from mainstem.cli.exit_codes import Exit
from mainstem.moments import iso, parse_moment

if TYPE_CHECKING:
    from mainstem.search.service import Done, Search, SearchRequest, Totals
    from mainstem.stream import Event

F = TypeVar("F", bound=Callable[..., Any])
SHOW = "\r\x1b[2K"
"""To the beginning of the line, and clear it."""


def _time(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """`2d` and `-2d` are ages."""
    if text is None:
        return None
    now_ms = time.time_ns() // 1_000_000
    for candidate in (f"-{text}", text):
        try:
            moment = parse_moment(candidate, now_ms)
        except ValueError:
            continue
        if moment.kind == "time":
            return moment.value
    raise click.BadParameter("an age (2d, 1h30m) or a time (2013-06-01T12:00Z)", ctx, param)


def where_options(command: F) -> F:
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


def with_search(at: str, query: str, work: Callable[[Search], Awaitable[int]]) -> int:
    """Run `work` on a search of what is at HOST:PORT; errors are told here, for here 1 means: none found."""
    import asyncio

    from mainstem.clock import LoopClock
    from mainstem.engines.kafka import KafkaEngine
    from mainstem.search.cluster import ClusterSearch
    from mainstem.search.matcher import Matcher
    from mainstem.search.query import QueryError
    from mainstem.stream import NotReachable, StreamError

    async def inner() -> int:
        engine = await KafkaEngine.connect(at)
        try:
            return await work(ClusterSearch(engine, LoopClock(asyncio.get_running_loop())))
        finally:
            await engine.close()

    try:
        Matcher.of(query, now_ms=0)  # before anybody is asked for anything
    except QueryError as error:
        click.echo(f"mainstem: {error.message}\n  {query}\n  {' ' * error.column}^", err=True)
        return Exit.USAGE
    try:
        return asyncio.run(inner())
    except NotReachable:
        raise
    except StreamError as error:
        click.echo(f"mainstem: {error}", err=True)
        return Exit.USAGE


async def follow(search: Search, request: SearchRequest, found: Callable[[Event], None]) -> Done:
    """Run a search, give each hit to `found`, show progress if a person is there, and tell of what could
    not be read."""
    from mainstem.search.service import Done, Hit, Progress

    watched = sys.stderr.isatty()
    shown = False
    async with aclosing(search.search(request)) as updates:
        async for update in updates:
            if shown and not isinstance(update, Progress):
                sys.stderr.write(SHOW)
                shown = False
            if isinstance(update, Hit):
                found(update.event)
            elif isinstance(update, Progress):
                if watched:
                    sys.stderr.write(SHOW + progress_line(update.totals))
                    sys.stderr.flush()
                    shown = True
            elif isinstance(update, Done):
                if watched:
                    click.echo(f"{progress_line(update.totals)}, read through the Kafka protocol", err=True)
                if update.reason == "limit":
                    click.echo(f"mainstem: stopped at {request.limit:,} matches (-n 0: all)", err=True)
                return update
            else:
                at = update.position
                click.echo(
                    f"mainstem: {at.topic} {at.partition}@{at.offset}: not searched: {update.reason}",
                    err=True,
                )
    raise AssertionError("a search ends with Done")


def progress_line(totals: Totals) -> str:
    """`searched 38 %, 1.2 GB (310 MB/s), back to 2013-06-01T12:00:00.000Z, 57 matches, 0 unreadable`."""
    rate = totals.scanned_bytes / totals.elapsed_s if totals.elapsed_s > 0 else 0
    reached = f" back to {iso(totals.reached_ms)}," if totals.reached_ms is not None else ""
    return (
        f"searched {totals.share:.0%}, {size(totals.scanned_bytes)} ({size(rate)}/s),{reached}"
        f" {totals.matches:,} matches, {totals.undecodable:,} unreadable"
    )


def exit_code(done: Done) -> int:
    """As grep's; what could not be read may have hidden a match."""
    if done.totals.undecodable:
        return Exit.BAD_INPUT
    return Exit.DONE if done.totals.matches else Exit.FAILED


def csv_row(event: Event) -> tuple[object, ...]:
    """The columns of CSV: topic, partition, offset, time, key, value (base64 where it is not UTF-8)."""
    from mainstem.cli.show import text_or_base64

    key, value = text_or_base64(event.key)[0], text_or_base64(event.value)[0]
    return event.topic, event.partition, event.offset, iso(event.timestamp_ms), key, value


CSV_HEAD = ("topic", "partition", "offset", "time", "key", "value")
