"""The command `mainstem inspect`: shows the batches of a segment file, the groups of an index file, or the
blocks of a delay run.

Owns: its options and columns. Refuses: changing a file; it is only read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import is_terminal, json_option, print_json, style, tab_cell
from mainstem.cli.exit_codes import ExitCode
from mainstem.timespec import format_iso

if TYPE_CHECKING:
    from mainstem.log.offline.inspect import InspectedBatch, InspectedDamage

COLUMNS = ("position", "bytes", "first", "last", "events", "codec", "latest time", "producer", "state")
WIDTHS = (12, 10, 12, 12, 7, 6, 24, 8, 0)
INDEX_COLUMNS = ("position", "bytes", "namespace", "pages", "events", "entries", "first", "last", "state")
INDEX_WIDTHS = (12, 10, 10, 7, 9, 9, 12, 12, 0)
"""Of an index of routed queues."""
RUN_COLUMNS = ("position", "bytes", "view", "entries", "first due", "last due", "state")
RUN_WIDTHS = (12, 10, 10, 9, 24, 24, 0)
"""Of a run of waiting events."""
LEFT_ALIGNED = ("codec", "latest time", "first due", "last due", "state")
NO_COUNTS = ("producer", "namespace", "view")


@dataclass(slots=True)
class _SegmentSummary:
    """Counts of what a segment file contains."""

    batches: int = 0
    events: int = 0
    first_offset: int | None = None
    last_offset: int = -1
    damaged: int = 0

    def text(self, path: Path) -> str:
        contents = f"{self.batches:,} batches, {self.events:,} events"
        if self.first_offset is not None:
            contents += f", offsets {self.first_offset:,} to {self.last_offset:,}"
        return (
            f"{path}: {contents}; {f'{self.damaged:,} places are damaged' if self.damaged else 'no damage'}"
        )


@dataclass(slots=True)
class _IndexSummary:
    """Counts of what an index file of routed queues contains."""

    groups: int = 0
    pages: int = 0
    events: int = 0
    damaged: int = 0

    def text(self, path: Path) -> str:
        contents = f"{self.groups:,} groups, {self.pages:,} pages, {self.events:,} events"
        damage = "it is damaged, and a start reads the rest from the log" if self.damaged else "no damage"
        return f"{path}: {contents}; {damage}"


@dataclass(slots=True)
class _RunSummary:
    """Counts of what a run of waiting events contains."""

    blocks: int = 0
    entries: int = 0
    damaged: int = 0

    def text(self, path: Path) -> str:
        damage = "it is damaged; no start reads it" if self.damaged else "no damage"
        return f"{path}: {self.blocks:,} blocks, {self.entries:,} waiting events; {damage}"


@click.command("inspect", short_help="Show the contents of a segment file, batch by batch.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show the contents of a segment file (or of all in a partition's folder), batch by batch, and whether
    it is damaged.

    Columns: position, bytes, first offset, last offset, events, codec, latest time, producer id, state
    (`ok`, `damaged`, `gap`: offsets are missing before it, `zeros`: space that was never written). The exit
    code is 4 if there is damage.

    A file of an index of routed queues (routed/*/*.index) is shown group by group. Columns: position, bytes,
    namespace, pages, events, entries of queues, first and last arrival sequence, state.

    A run of waiting events (delays/*.run) is shown block by block. Columns: position, bytes, view, entries,
    due time of the first and of the last, state.
    """
    damaged = False
    try:
        for path in _files(paths):
            columns: tuple[str, ...] = COLUMNS
            widths: tuple[int, ...] = WIDTHS
            summary: _IndexSummary | _RunSummary | _SegmentSummary
            if path.suffix == ".index":
                columns, widths, summary = INDEX_COLUMNS, INDEX_WIDTHS, _IndexSummary()
                rows = _index_rows(path, summary)
            elif path.suffix == ".run":
                columns, widths, summary = RUN_COLUMNS, RUN_WIDTHS, _RunSummary()
                rows = _run_rows(path, summary)
            else:
                summary = _SegmentSummary()
                rows = _segment_rows(path, summary)
            if is_terminal() and not as_json:
                click.echo(style(str(path), bold=True))
                click.echo(style(_aligned(columns, columns, widths), dim=True))
            for row in rows:
                if as_json:
                    names = (name.replace(" ", "_") for name in columns)
                    print_json({"file": str(path), **dict(zip(names, row, strict=True))})
                elif is_terminal():
                    click.echo(style(_aligned(row, columns, widths), fg=None if row[-1] == "ok" else "red"))
                else:
                    click.echo("\t".join(tab_cell(cell) for cell in row))
            click.echo(summary.text(path), err=True)
            damaged = damaged or summary.damaged > 0
    except BrokenPipeError:
        raise  # it is about standard output, not about a file
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    return ExitCode.BAD_INPUT if damaged else ExitCode.DONE


def _files(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            files = sorted(path.glob("*.log")) or sorted(path.glob("*.index")) or sorted(path.glob("*.run"))
            if not files:
                raise click.ClickException(f"{path}: no segment files (*.log) in this folder")
            yield from files
        else:
            yield path


def _segment_rows(path: Path, summary: _SegmentSummary) -> Iterator[tuple[object, ...]]:
    from mainstem.log.offline.inspect import inspect

    return (_row(item, summary) for item in inspect(str(path)))


def _index_rows(path: Path, summary: _IndexSummary) -> Iterator[tuple[object, ...]]:
    from mainstem.coordinator.queues.index_examination import examine_file

    with path.open("rb") as file:

        def pread(length: int, position: int) -> bytes:
            return os.pread(file.fileno(), length, position)

        for group in examine_file(pread, os.fstat(file.fileno()).st_size):
            size_bytes = group.end_position - group.position
            if group.problem:
                summary.damaged += 1
                state = f"damaged: {group.problem}"
                yield (group.position, size_bytes, None, None, None, None, None, None, state)
                return
            summary.groups += 1
            summary.pages += group.pages
            summary.events += group.arrivals
            counts = group.namespace, group.pages, group.arrivals, group.entries
            yield (group.position, size_bytes, *counts, group.first, group.last, "ok")


def _run_rows(path: Path, summary: _RunSummary) -> Iterator[tuple[object, ...]]:
    from mainstem.queues.delay_run import (
        BLOCK_ENTRIES,
        HEADER_BYTES,
        DamagedDelayRun,
        block_range,
        decode_block,
        decode_header,
        unpack_entries,
    )

    with path.open("rb") as file:
        size_bytes, position = os.fstat(file.fileno()).st_size, 0
        try:
            run_id = int(path.stem, 16)
            entries = decode_header(run_id, os.pread(file.fileno(), HEADER_BYTES, 0)).entries
            position = HEADER_BYTES
            for number in range(-(-entries // BLOCK_ENTRIES)):
                position, length = block_range(entries, number)
                block = decode_block(run_id, entries, number, os.pread(file.fileno(), length, position))
                waiting = unpack_entries(block)
                summary.blocks += 1
                summary.entries += len(waiting)
                times = format_iso(waiting[0].due_ms), format_iso(waiting[-1].due_ms)
                yield (position, length, run_id >> 32, len(waiting), *times, "ok")
                position += length
            problem = "bytes after its end" if position < size_bytes else ""
        except DamagedDelayRun as error:
            problem = error.reason
        except ValueError:
            problem = "its name is not the number of a run"
        if problem:
            summary.damaged += 1
            yield (position, size_bytes - position, None, None, None, None, f"damaged: {problem}")


def _row(item: InspectedBatch | InspectedDamage, summary: _SegmentSummary) -> tuple[object, ...]:
    from mainstem.log.offline.inspect import InspectedDamage
    from mainstem.log.storage.codecs import NAMES

    if isinstance(item, InspectedDamage):
        summary.damaged += not item.zeros
        size_bytes = item.end_position - item.position
        state = "zeros" if item.zeros else "damaged"
        return (item.position, size_bytes, None, None, None, None, None, None, state)
    header = item.header
    summary.batches += 1
    summary.events += header.count
    if summary.first_offset is None:
        summary.first_offset = header.base_offset
    summary.last_offset = header.last_offset
    summary.damaged += not item.crc_ok or item.is_out_of_sequence
    codec = NAMES[header.codec] if header.codec < len(NAMES) else str(header.codec)
    return (
        item.position,
        header.total_bytes,
        header.base_offset,
        header.last_offset,
        header.count,
        codec,
        format_iso(header.max_timestamp),
        None if header.producer_id < 0 else header.producer_id,
        "gap" if item.is_out_of_sequence else "ok" if item.crc_ok else "damaged",
    )


def _aligned(cells: tuple[object, ...], columns: tuple[str, ...], widths: tuple[int, ...]) -> str:
    """The cells in columns of fixed widths. A file may have a million batches, and the first must be shown at
    once, so the widths cannot depend on the content."""
    fitted = []
    for name, cell, width in zip(columns, cells, widths, strict=True):
        is_count = isinstance(cell, int) and name not in NO_COUNTS
        text = "-" if cell is None else f"{cell:,}" if is_count else str(cell)
        fitted.append(text.ljust(width) if name in LEFT_ALIGNED else text.rjust(width))
    return "  ".join(fitted).rstrip()
