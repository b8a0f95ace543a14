"""`mainstem export`."""

from __future__ import annotations

import csv
import sys
from typing import IO, TYPE_CHECKING

import click

from mainstem.cli.finding import CSV_HEAD, csv_row, exit_code, follow, where_options, with_search

if TYPE_CHECKING:
    from mainstem.cli.finding import Reached
    from mainstem.search.service import SearchRequest
    from mainstem.stream import Event


@click.command("export")
@click.argument("query", default="")
@where_options
@click.option(
    "--format", "kind", type=click.Choice(["ndjson", "csv"]), default="ndjson", show_default=True, help="How."
)
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of standard output.")
def command(
    query: str,
    at: str,
    topics: tuple[str, ...],
    since: int | None,
    until: int | None,
    kind: str,
    output: str | None,
) -> int:
    """Write all events that match QUERY (none: all events), oldest first in each partition.

    NDJSON is exact (docs/CLI.md); CSV has no headers of events, and tells no value from an empty one.
    Exits as grep.
    """
    from mainstem.search.service import SearchRequest

    request = SearchRequest(
        query=query, topics=topics, since_ms=since, until_ms=until, limit=None, newest_first=False
    )

    async def work(reached: Reached) -> int:
        if output is None:
            return await _write(reached, request, kind, sys.stdout)
        try:
            with open(output, "w", encoding="utf-8", newline="") as file:
                return await _write(reached, request, kind, file)
        except OSError as error:
            raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None

    return with_search(at, query, work)


async def _write(reached: Reached, request: SearchRequest, kind: str, sink: IO[str]) -> int:
    from mainstem.cli.show import json_line

    if kind == "csv":
        row = csv.writer(sink, lineterminator="\n").writerow
        row(CSV_HEAD)

        def write(event: Event) -> None:
            row(csv_row(event))

    else:

        def write(event: Event) -> None:
            sink.write(json_line(event) + "\n")

    done = await follow(reached, request, write)
    sink.flush()
    if sink is not sys.stdout:
        click.echo(f"exported {done.totals.matches:,} events", err=True)
    return exit_code(done)
