"""The command `mainstem trace`: follows an id through all topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mainstem.cli.common import has_colour, is_terminal, json_option, style
from mainstem.cli.search_options import exit_code, run_search, scope_options, with_search
from mainstem.timespec import format_age

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.contract import Event

EVENTS_MAX = 10_000


@click.command("trace", short_help="Follow an id through all topics, in the order of time.")
@click.argument("value")
@scope_options
@json_option
def command(
    value: str, address: str, topics: tuple[str, ...], since: int | None, until: int | None, as_json: bool
) -> int:
    """Follow an id through all topics: every event that contains VALUE, sorted by time, with the time that
    passed between them.

    At most 10,000 events, the newest. In a pipe, one JSON object per line. The exit codes are those of grep.
    """
    from mainstem.cli.event_format import json_line, terminal_line
    from mainstem.search.contract import SearchRequest

    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    query = f'"{escaped}"'
    request = SearchRequest(query=query, topics=topics, since_ms=since, until_ms=until, limit=EVENTS_MAX)

    async def work(target: SearchTarget) -> int:
        events: list[Event] = []
        done = await run_search(target, request, events.append)
        events.sort(key=lambda event: (event.timestamp_ms, event.topic, event.partition, event.offset))
        previous_ms: int | None = None
        for event in events:
            if as_json or not is_terminal():
                click.echo(json_line(event))
                continue
            gap = "" if previous_ms is None else f"+{format_age(event.timestamp_ms - previous_ms)}"
            previous_ms = event.timestamp_ms
            line = terminal_line(event, colour=has_colour(), with_topic=True)
            click.echo(f"{style(gap.rjust(9), dim=True)}  {line}")
        return exit_code(done)

    return with_search(address, query, work)
