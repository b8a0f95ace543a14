"""The command `mainstem search`: finds events in all topics.

Owns: its options and output. Refuses: two forms of output at once. Searching, progress and exit codes are in
`search_options.py`.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import (
    has_colour,
    is_terminal,
    json_option,
    print_error,
    print_json,
    print_rows,
    tab_cell,
)
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
    help=f"Stop after N matches; 0: all.  [default: {DEFAULT_MATCHES}; with --count and --facet: all]",
)
@click.option("--oldest-first", is_flag=True, help="Show the oldest matches first; by default, the newest.")
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values, with a header.")
@click.option("--count", "count", is_flag=True, help="Print the number of matches instead of events.")
@click.option(
    "--facet",
    "fields",
    metavar="FIELD",
    multiple=True,
    help="Print the most frequent values of a field instead of events.",
)
def command(
    query: str,
    address: str,
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

    Newest first: exactly within a partition, approximately between partitions. In a pipe, one JSON object
    per line. The exit codes are those of grep: 0 for matches, 1 for none, 2 or more for an error.
    """
    from mainstem.search.contract import SearchRequest

    if as_json + as_csv + count > 1 or (fields and (as_csv or count)):
        raise click.UsageError("give only one of --json, --csv and --count; with --facet only --json")
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

    async def work(target: SearchTarget) -> int:
        if fields:
            return await _print_facets(target, request, fields, as_json)
        done = await run_search(target, request, _printer(as_json, as_csv))
        if count:
            click.echo(str(done.totals.matches))
        return exit_code(done)

    return with_search(address, query, work)


def _printer(as_json: bool, as_csv: bool) -> Callable[[Event], None]:
    from mainstem.cli.event_format import event_printer

    if as_csv:
        write_row = csv.writer(sys.stdout, lineterminator="\n").writerow
        write_row(CSV_COLUMNS)

        def print_csv(event: Event) -> None:
            write_row(csv_row(event))

        return print_csv
    terminal = is_terminal() and not as_json
    print_events = event_printer(
        as_json=not terminal, terminal=terminal, colour=has_colour(), with_topic=True
    )
    return lambda event: print_events([event])


async def _print_facets(
    target: SearchTarget, request: SearchRequest, fields: tuple[str, ...], as_json: bool
) -> int:
    from mainstem.search.contract import Facets

    results: list[Facets] = []

    def on_result(result: Hit | Facets) -> None:
        assert isinstance(result, Facets), "facets are counted without hits"
        results.append(result)

    done = await run_updates(target, request, target.search.facets(request, fields, FACET_VALUES), on_result)
    facets = results[-1]  # the others were results so far
    if done.reason == "budget":
        print_error(f"only the first {facets.events:,} matches were counted")
    for field in fields:
        values = facets.values.get(field, [])
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
