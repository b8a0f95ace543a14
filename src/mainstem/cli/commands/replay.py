"""The command `mainstem replay`: publishes all matches of a query again.

Owns: its options, the confirmation and the output. Refuses: a replay without a confirmation (`--yes` is one),
and publishing by itself: `RemoteReplay` or `LocalReplay` does that.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import (
    escape_lines,
    is_terminal,
    json_option,
    plural,
    print_error,
    print_json,
    tab_cell,
)
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.replay_runner import ReplayRequest, ReplayRunner
from mainstem.cli.search_options import StatusLine, scope_options, share_bar, with_search
from mainstem.timespec import format_age

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.replay import ReplayProgress

DEFAULT_EVENTS_PER_S = 1_000


@click.command("replay", short_help="Publish all events that match QUERY again, into another topic.")
@click.argument("query")
@scope_options
@click.option("--to", required=True, metavar="TOPIC", help="The topic to publish into; it must exist.")
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    default=DEFAULT_EVENTS_PER_S,
    show_default=True,
    metavar="N",
    help="Publish at most N events per second.",
)
@click.option(
    "--job", metavar="ID", help="Continue a replay that was interrupted; or a name for a new replay."
)
@click.option("--dry-run", is_flag=True, help="Only count the events that would be published.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
def command(
    query: str,
    address: str,
    topics: tuple[str, ...],
    since: int | None,
    until: int | None,
    to: str,
    rate: int,
    job: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Publish all events that match QUERY again, into another topic: counts them and asks for confirmation.

    Keys, values and headers stay the same; a header mainstem-replayed-from says where each event is from.
    The events of a partition are published in their order, with new timestamps. If a replay is interrupted,
    --job continues it: each event is published exactly once. Columns: topic, job, events, events that the
    job had published before, unreadable ranges.
    """
    from mainstem.contract import InvalidArgument
    from mainstem.replay import ReplayJob
    from mainstem.search.contract import SearchRequest

    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask for confirmation: add --yes, or --dry-run")
    request = SearchRequest(
        query=query, topics=topics, since_ms=since, until_ms=until, limit=None, newest_first=False
    )
    replay = ReplayRequest(request, to, rate, job or secrets.token_hex(4), job is not None)
    try:
        ReplayJob.of(replay.job, request)
    except InvalidArgument as error:
        raise click.BadParameter(str(error), param_hint="--job") from None

    async def work(target: SearchTarget) -> int:
        runner = await _runner(target, replay)
        line = StatusLine()
        line.show("counting …")
        try:
            events, progress = await runner.count()
        finally:
            line.clear()
        if dry_run or not events:
            _report(replay, events, progress, as_json, verb="would publish")
            if progress.unreadable:
                return ExitCode.BAD_INPUT
            return ExitCode.DONE if events or progress.already_published else ExitCode.FAILED
        if not yes and not await _confirmed(_question(replay, events, progress)):
            raise click.Abort
        return await _run(runner, replay, events, address, as_json)

    return with_search(address, query, work)


async def _confirmed(question: str) -> bool:
    """Ask a question on the terminal. Not `click.confirm`, because the loop cannot handle Ctrl-C while that
    waits."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        while True:
            click.echo(escape_lines(f"{question} [y/N]: "), nl=False, err=True)
            ready.clear()
            await ready.wait()
            typed = os.read(sys.stdin.fileno(), 1_000).decode(errors="replace")
            if not typed:  # Ctrl-D
                click.echo(err=True)
            answer = typed.strip().lower()
            if answer in ("y", "yes", "n", "no", ""):
                return answer.startswith("y")
    finally:
        loop.remove_reader(sys.stdin.fileno())


async def _runner(target: SearchTarget, replay: ReplayRequest) -> ReplayRunner:
    if target.engine is None:
        from mainstem.cli.remote_replay import RemoteReplay

        assert target.door is not None, "a target without an engine has an HTTP door"
        return RemoteReplay(target.door, replay)
    from mainstem.cli.local_replay import LocalReplay

    return await LocalReplay.create(target, replay)


def _question(replay: ReplayRequest, events: int, progress: ReplayProgress) -> str:
    already = f" ({progress.already_published:,} are there already)" if progress.already_published else ""
    duration = format_age(1000 * events // replay.rate)
    return (
        f"Publish {plural(events, 'event', 'events')} into topic {replay.to}{already},"
        f" at most {replay.rate:,} per second (about {duration})?"
    )


async def _run(runner: ReplayRunner, replay: ReplayRequest, events: int, address: str, as_json: bool) -> int:
    """Publish the events and show the progress; returns the exit code. If the replay is interrupted, print
    the command that continues it."""
    import asyncio

    from mainstem.contract import StreamError
    from mainstem.replay import ReplayProgress

    started = time.monotonic()
    line, progress = StatusLine(), ReplayProgress()
    try:
        async with aclosing(runner.run()) as reports:
            async for progress in reports:
                share = min(1.0, progress.published / events)
                per_s = progress.published / max(0.001, time.monotonic() - started)
                counts = f"{progress.published:,} of {events:,} events, {per_s:,.0f}/s"
                line.show(f"{share:4.0%} {share_bar(share)} {counts}")
    except (asyncio.CancelledError, StreamError):
        line.clear()
        published = plural(progress.published, "event", "events")
        print_error(f"interrupted after {published}; continue with:\n  {replay.resume_command(address)}")
        raise
    line.clear()
    _report(replay, progress.published, progress, as_json, verb="published")
    return ExitCode.BAD_INPUT if progress.unreadable else ExitCode.DONE


def _report(
    replay: ReplayRequest, events: int, progress: ReplayProgress, as_json: bool, *, verb: str
) -> None:
    if progress.unreadable:
        print_error(f"skipped {plural(progress.unreadable, 'range', 'ranges')} that could not be read")
    if as_json:
        print_json(
            {
                "to": replay.to,
                "job": replay.job,
                "dry_run": verb != "published",
                "events": events,
                "published_before": progress.already_published,
                "unreadable": progress.unreadable,
            }
        )
    elif is_terminal():
        before = f"; {progress.already_published:,} were there already" if progress.already_published else ""
        count = plural(events, "event", "events")
        click.echo(f"{verb} {count} into {replay.to}{before} (job {replay.job})")
    else:
        columns = (replay.to, replay.job, events, progress.already_published, progress.unreadable)
        click.echo("\t".join(tab_cell(column) for column in columns))
