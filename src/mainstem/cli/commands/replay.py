"""`mainstem replay`."""

from __future__ import annotations

import os
import secrets
import shlex
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import click

from mainstem.cli.common import is_terminal, json_option, print_json, tab_cell
from mainstem.cli.exit_codes import ExitCode
from mainstem.cli.search_options import StatusLine, plural, scope_options, share_bar, with_search
from mainstem.timespec import format_age, format_iso

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.replay import ReplayProgress
    from mainstem.search.contract import SearchRequest

EVENTS_A_SECOND = 1_000


class ReplayRunner(Protocol):
    """One job, through the HTTP door or by Kafka's protocol."""

    async def count(self) -> tuple[int, ReplayProgress]:
        """How many events it would publish; and what is known before it does."""

    def run(self) -> AsyncGenerator[ReplayProgress, None]:
        """Publish them."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What is replayed, where to, how."""

    request: SearchRequest
    to: str
    rate: int
    job: str
    is_resumed: bool

    def resume_command(self, at: str) -> str:
        """The command that goes on with it. Ages are times by now, so that it means the same events."""
        words = ["mainstem", "replay", self.request.query, "--to", self.to, "--job", self.job]
        for topic in self.request.topics:
            words += ["--topic", topic]
        for option, time_ms in (("--since", self.request.since_ms), ("--until", self.request.until_ms)):
            words += [] if time_ms is None else [option, format_iso(time_ms)]
        return shlex.join([*words, "--rate", str(self.rate), "--at", at])


@click.command("replay", short_help="Publish all events that match QUERY again, into another topic.")
@click.argument("query")
@scope_options
@click.option("--to", required=True, metavar="TOPIC", help="The topic to publish into; it must exist.")
@click.option(
    "--rate",
    type=click.IntRange(1, 1_000_000),
    default=EVENTS_A_SECOND,
    show_default=True,
    metavar="N",
    help="Events a second at most.",
)
@click.option("--job", metavar="ID", help="Go on with a replay that was broken off; or a name for a new one.")
@click.option("--dry-run", is_flag=True, help="Only count what would be published.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def command(
    query: str,
    at: str,
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
    """Publish all events that match QUERY again, into another topic: counted first, then asked about.

    Keys, values and headers stay; a header mainstem-replayed-from says where each event is from. Within a
    partition they go in their order; their own times are not kept. A replay that was broken off goes on with
    --job: no event is published twice, none is left out. Columns: topic, job, events, events that the job
    had published before, unreadable stretches.
    """
    from mainstem.contract import InvalidArgument
    from mainstem.replay import ReplayJob
    from mainstem.search.contract import SearchRequest

    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("nobody can answer here whether to publish: add --yes, or --dry-run")
    request = SearchRequest(
        query=query, topics=topics, since_ms=since, until_ms=until, limit=None, newest_first=False
    )
    order = ReplayRequest(request, to, rate, job or secrets.token_hex(4), job is not None)
    try:
        ReplayJob.of(order.job, request)
    except InvalidArgument as error:
        raise click.BadParameter(str(error), param_hint="--job") from None

    async def work(reached: SearchTarget) -> int:
        replaying = await _runner(reached, order)
        line = StatusLine()
        line.show("counting …")
        try:
            events, told = await replaying.count()
        finally:
            line.clear()
        if dry_run or not events:
            _report(order, events, told, as_json, done="would publish")
            return ExitCode.DONE if events or told.already_published else ExitCode.FAILED
        if not yes and not await _confirmed(_question(order, events, told)):
            raise click.Abort
        await _run(replaying, order, events, at, as_json)
        return ExitCode.DONE

    return with_search(at, query, work)


async def _confirmed(question: str) -> bool:
    """What a person answers. Not `click.confirm`: while that waits, the loop takes no Ctrl-C."""
    import asyncio

    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ready.set)
    try:
        while True:
            click.echo(f"{question} [y/N]: ", nl=False, err=True)
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


async def _runner(reached: SearchTarget, order: ReplayRequest) -> ReplayRunner:
    if reached.engine is None:
        from mainstem.cli.remote_replay import RemoteReplay

        assert reached.door is not None, "either is there"
        return RemoteReplay(reached.door, order)
    from mainstem.cli.local_replay import LocalReplay

    return await LocalReplay.make(reached, order)


def _question(order: ReplayRequest, events: int, told: ReplayProgress) -> str:
    left_out = f" ({told.already_published:,} are there already)" if told.already_published else ""
    takes = format_age(1000 * events // order.rate)
    return (
        f"Publish {plural(events, 'event', 'events')} into topic {order.to}{left_out},"
        f" at most {order.rate:,} a second (about {takes})?"
    )


async def _run(replaying: ReplayRunner, order: ReplayRequest, events: int, at: str, as_json: bool) -> None:
    """Publish, and show how far it is; if it is broken off, tell how to go on."""
    import asyncio

    from mainstem.contract import StreamError
    from mainstem.replay import ReplayProgress

    began = time.monotonic()
    line, told = StatusLine(), ReplayProgress()
    try:
        async with aclosing(replaying.run()) as steps:
            async for told in steps:
                share = min(1.0, told.published / events)
                pace = told.published / max(0.001, time.monotonic() - began)
                line.show(
                    f"{share:4.0%} {share_bar(share)} {told.published:,} of {events:,} events, {pace:,.0f}/s"
                )
    except (asyncio.CancelledError, StreamError):
        line.clear()
        click.echo(
            f"mainstem: broken off after {plural(told.published, 'event', 'events')};"
            f" go on with:\n  {order.resume_command(at)}",
            err=True,
        )
        raise
    line.clear()
    _report(order, told.published, told, as_json, done="published")


def _report(order: ReplayRequest, events: int, told: ReplayProgress, as_json: bool, *, done: str) -> None:
    if told.unreadable:
        stretches = plural(told.unreadable, "stretch", "stretches")
        click.echo(f"mainstem: left out {stretches} that could not be read", err=True)
    if as_json:
        print_json(
            {
                "to": order.to,
                "job": order.job,
                "dry_run": done != "published",
                "events": events,
                "published_before": told.already_published,
                "unreadable": told.unreadable,
            }
        )
    elif is_terminal():
        before = f"; {told.already_published:,} were there already" if told.already_published else ""
        click.echo(f"{done} {plural(events, 'event', 'events')} into {order.to}{before} (job {order.job})")
    else:
        columns = (order.to, order.job, events, told.already_published, told.unreadable)
        click.echo("\t".join(tab_cell(column) for column in columns))
