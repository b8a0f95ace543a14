"""`mainstem search`."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import has_colour, is_terminal, json_option, print_json, print_rows, tab_cell
from mainstem.cli.search_options import (
    CSV_COLUMNS,
    csv_row,
    exit_code,
    run_search,
    run_updates,
    scope_options,
    with_search,
)

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.contract import Event
    from mainstem.search.contract import Facets, Hit, SearchRequest

DEFAULT_MATCHES = 100
FACET_VALUES = 20


@click.command("search", short_help="Find events in all topics: by words, fields, ranges and patterns.")
@click.argument("query")
@scope_options
@click.option(
    "-n",
    "limit",
    type=click.IntRange(min=0),
    help=f"Matches at most; 0: all.  [default: {DEFAULT_MATCHES}; of --count and --facet: all]",
)
@click.option("--oldest-first", is_flag=True, help="Begin at the oldest events.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values, with a header.")
@click.option("--count", "count", is_flag=True, help="Only the number of matches.")
@click.option(
    "--facet", "fields", metavar="FIELD", multiple=True, help="The most frequent values of a field instead."
)
def command(
    query: str,
    at: str,
    topics: tuple[str, ...],
    since: int | None,
    until: int | None,
    limit: int | None,
    oldest_first: bool,
    as_json: bool,
    as_csv: bool,
    count: bool,
    fields: tuple[str, ...],
) -> int:
    """Find events in all topics: words, "a phrase", field:value, a.b:>60, AND OR NOT, /regex/.

    Newest first; within a partition exactly, between partitions about. In a pipe one JSON object a line.
    Exits as grep: 0 something was found, 1 nothing, 2 or more an error.
    """
    from mainstem.search.contract import SearchRequest

    if as_json + as_csv + count > 1 or (fields and (as_csv or count)):
        raise click.UsageError("of --json, --csv and --count only one can be had, with --facet only --json")
    if limit is None and not count and not fields:
        limit = DEFAULT_MATCHES
    request = SearchRequest(
        query=query,
        topics=topics,
        since_ms=since,
        until_ms=until,
        limit=limit or None,
        newest_first=not oldest_first,
        only_count=count,
    )

    async def work(reached: SearchTarget) -> int:
        if fields:
            return await _facets(reached, request, fields, as_json)
        show = _printer(as_json, as_csv)
        done = await run_search(reached, request, show)
        if count:
            click.echo(str(done.totals.matches))
        return exit_code(done)

    return with_search(at, query, work)


def _printer(as_json: bool, as_csv: bool) -> Callable[[Event], None]:
    from mainstem.cli.commands.show import event_printer

    if as_csv:
        write = csv.writer(sys.stdout, lineterminator="\n").writerow
        write(CSV_COLUMNS)

        def show_csv(event: Event) -> None:
            write(csv_row(event))

        return show_csv
    terminal = is_terminal() and not as_json
    show = event_printer(as_json=not terminal, terminal=terminal, colour=has_colour(), several=True)
    return lambda event: show([event])


async def _facets(
    reached: SearchTarget, request: SearchRequest, fields: tuple[str, ...], as_json: bool
) -> int:
    from mainstem.search.contract import Facets

    counted: list[Facets] = []

    def take(update: Hit | Facets) -> None:
        assert isinstance(update, Facets)
        counted.append(update)

    done = await run_updates(reached, request, reached.search.facets(request, fields, FACET_VALUES), take)
    (found,) = counted
    if done.reason == "budget":
        click.echo(f"mainstem: counted only the first {found.events:,} matches", err=True)
    for field in fields:
        values = found.values.get(field, [])
        if as_json:
            print_json(
                {"field": field, "values": [{"value": value, "count": count} for value, count in values]}
            )
        elif is_terminal():
            print_rows((field, "events"), values)
        else:
            for value, count in values:
                click.echo(f"{tab_cell(field)}\t{tab_cell(value)}\t{count}")
    return exit_code(done)
