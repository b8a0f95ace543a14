"""`mainstem trace`."""

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
    value: str, at: str, topics: tuple[str, ...], since: int | None, until: int | None, as_json: bool
) -> int:
    """Follow an id through all topics: every event with VALUE in it, by time, with the gaps between them.

    At most 10,000 events, the newest. In a pipe one JSON object a line. Exits as grep.
    """
    from mainstem.cli.commands.show import json_line, terminal_line
    from mainstem.search.contract import SearchRequest

    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    query = f'"{escaped}"'
    request = SearchRequest(query=query, topics=topics, since_ms=since, until_ms=until, limit=EVENTS_MAX)

    async def work(reached: SearchTarget) -> int:
        found: list[Event] = []
        done = await run_search(reached, request, found.append)
        found.sort(key=lambda event: (event.timestamp_ms, event.topic, event.partition, event.offset))
        before: int | None = None
        for event in found:
            if as_json or not is_terminal():
                click.echo(json_line(event))
                continue
            gap = "" if before is None else f"+{format_age(event.timestamp_ms - before)}"
            before = event.timestamp_ms
            line = terminal_line(event, colour=has_colour(), several=True)
            click.echo(f"{style(gap.rjust(9), dim=True)}  {line}")
        return exit_code(done)

    return with_search(at, query, work)
