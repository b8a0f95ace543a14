"""`mainstem export`."""

from __future__ import annotations

import csv
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import click

from mainstem.cli.search_options import (
    CSV_COLUMNS,
    csv_row,
    exit_code,
    plural,
    run_search,
    scope_options,
    with_search,
)

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.contract import Event
    from mainstem.search.contract import SearchRequest

Writing = tuple[Callable[["Event"], None], Callable[[], None]]
"""What writes an event, and what writes the end of the file."""


@click.command("export")
@click.argument("query", default="")
@scope_options
@click.option(
    "--format",
    "kind",
    type=click.Choice(["ndjson", "csv", "parquet"]),
    default="ndjson",
    show_default=True,
    help="How.",
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

    NDJSON and Parquet are exact (docs/CLI.md); CSV has no headers of events, and tells no value from an empty
    one. Parquet needs pyarrow: pip install 'mainstem[parquet]'. FILE appears when it is whole. Exits as grep.
    """
    from mainstem.search.contract import SearchRequest

    if kind == "parquet":
        from mainstem import parquet
        from mainstem.contract import InvalidArgument

        try:
            parquet.require_pyarrow()
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from None
        if output is None and sys.stdout.isatty():
            raise click.UsageError("Parquet is not for terminals: add -o FILE")
    request = SearchRequest(
        query=query, topics=topics, since_ms=since, until_ms=until, limit=None, newest_first=False
    )

    async def work(reached: SearchTarget) -> int:
        if output is None:
            return await _write(reached, request, kind, sys.stdout.buffer)
        try:
            with _whole(output) as file:
                return await _write(reached, request, kind, file)
        except OSError as error:
            raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None

    return with_search(at, query, work)


@contextmanager
def _whole(path: str) -> Iterator[BinaryIO]:
    """A file that has its name only when all of it is written. What is no file (a pipe) is written to."""
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as sink:
            yield sink
        return
    part = f"{path}.part"
    try:
        with open(part, "wb") as sink:
            yield sink
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.unlink(part)


async def _write(reached: SearchTarget, request: SearchRequest, kind: str, sink: BinaryIO) -> int:
    write, end = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}[kind](sink)
    done = await run_search(reached, request, write)
    end()
    sink.flush()
    if sink is not sys.stdout.buffer:
        click.echo(f"exported {plural(done.totals.matches, 'event', 'events')}", err=True)
    return exit_code(done)


def _ndjson(sink: BinaryIO) -> Writing:
    from mainstem.cli.commands.show import json_line

    def write(event: Event) -> None:
        sink.write(json_line(event).encode() + b"\n")

    return write, lambda: None


def _csv(sink: BinaryIO) -> Writing:
    text = io.StringIO(newline="")
    row = csv.writer(text, lineterminator="\n").writerow

    def write_row(cells: tuple[object, ...]) -> None:
        row(cells)
        sink.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()

    write_row(CSV_COLUMNS)
    return lambda event: write_row(csv_row(event)), lambda: None


def _parquet(sink: BinaryIO) -> Writing:
    from mainstem.parquet import ParquetWriter

    writer = ParquetWriter(sink)

    def write(event: Event) -> None:
        if writer.add(event):
            writer.flush()

    return write, writer.close
