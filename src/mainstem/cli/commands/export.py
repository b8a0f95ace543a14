"""The command `mainstem export`: writes all matches of a query to a file.

Owns: its options and the three file formats. Refuses: an incomplete file under the given name, and Parquet on
a terminal.
"""

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

from mainstem.cli.common import plural
from mainstem.cli.search_options import (
    CSV_COLUMNS,
    csv_row,
    exit_code,
    run_search,
    scope_options,
    with_search,
)

if TYPE_CHECKING:
    from mainstem.cli.search_options import SearchTarget
    from mainstem.contract import Event
    from mainstem.search.contract import SearchRequest

Writer = tuple[Callable[["Event"], None], Callable[[], None]]
"""A function that writes an event, and one that writes the end of the file."""


@click.command("export", short_help="Write all events that match QUERY as NDJSON, CSV or Parquet.")
@click.argument("query", default="")
@scope_options
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["ndjson", "csv", "parquet"]),
    default="ndjson",
    show_default=True,
    help="The format of the file.",
)
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of standard output.")
def command(
    query: str,
    address: str,
    topics: tuple[str, ...],
    since: int | None,
    until: int | None,
    file_format: str,
    output: str | None,
) -> int:
    """Write all events that match QUERY (without it, all events), oldest first in each partition.

    NDJSON and Parquet are exact (docs/CLI.md). CSV has no event headers, and in it no value and an empty
    value look the same. Parquet needs pyarrow: pip install 'mainstem[parquet]'. FILE appears only when it is
    complete. The exit codes are those of grep.
    """
    from mainstem.search.contract import SearchRequest

    if file_format == "parquet":
        from mainstem import parquet
        from mainstem.contract import InvalidArgument

        try:
            parquet.require_pyarrow()
        except InvalidArgument as error:
            raise click.UsageError(str(error)) from None
        if output is None and sys.stdout.isatty():
            raise click.UsageError("Parquet cannot be shown on a terminal: add -o FILE")
    request = SearchRequest(
        query=query, topics=topics, since_ms=since, until_ms=until, limit=None, newest_first=False
    )

    async def work(target: SearchTarget) -> int:
        if output is None:
            return await _write(target, request, file_format, sys.stdout.buffer)
        try:
            with _complete_file(output) as file:
                return await _write(target, request, file_format, file)
        except OSError as error:
            raise click.UsageError(f"{output} cannot be written: {error.strerror}") from None

    return with_search(address, query, work)


@contextmanager
def _complete_file(path: str) -> Iterator[BinaryIO]:
    """A file that gets its name only when it is complete. A path that exists and is not a regular file, such
    as a named pipe, is written to directly."""
    if os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode):
        with open(path, "wb") as file:
            yield file
        return
    partial_path = f"{path}.part"
    try:
        with open(partial_path, "wb") as file:
            yield file
        os.replace(partial_path, path)
    finally:
        if os.path.exists(partial_path):
            os.unlink(partial_path)


async def _write(target: SearchTarget, request: SearchRequest, file_format: str, file: BinaryIO) -> int:
    write, end = {"ndjson": _ndjson, "csv": _csv, "parquet": _parquet}[file_format](file)
    done = await run_search(target, request, write)
    end()
    file.flush()
    if file is not sys.stdout.buffer:
        click.echo(f"exported {plural(done.totals.matches, 'event', 'events')}", err=True)
    return exit_code(done)


def _ndjson(file: BinaryIO) -> Writer:
    from mainstem.cli.event_format import json_line

    def write(event: Event) -> None:
        file.write(json_line(event).encode() + b"\n")

    return write, lambda: None


def _csv(file: BinaryIO) -> Writer:
    text = io.StringIO(newline="")
    format_row = csv.writer(text, lineterminator="\n").writerow

    def write_row(cells: tuple[object, ...]) -> None:
        format_row(cells)
        file.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()

    write_row(CSV_COLUMNS)
    return lambda event: write_row(csv_row(event)), lambda: None


def _parquet(file: BinaryIO) -> Writer:
    from mainstem.parquet import ParquetWriter

    writer = ParquetWriter(file)

    def write(event: Event) -> None:
        if writer.add(event):
            writer.flush()

    return write, writer.close
