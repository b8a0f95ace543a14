"""The command `mainstem inspect`: shows the batches of a segment file.

Owns: its options and columns. Refuses: changing a file; the segment is only read.
"""

from __future__ import annotations

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
LEFT_ALIGNED = ("codec", "latest time", "state")


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


@click.command("inspect", short_help="Show the contents of a segment file, batch by batch.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show the contents of a segment file (or of all in a partition's folder), batch by batch, and whether
    it is damaged.

    Columns: position, bytes, first offset, last offset, events, codec, latest time, producer id, state
    (`ok`, `damaged`, `gap`: offsets are missing before it, `zeros`: space that was never written). The exit
    code is 4 if there is damage.
    """
    from mainstem.log.offline.inspect import inspect

    damaged = False
    try:
        for path in _segments(paths):
            summary = _SegmentSummary()
            if is_terminal() and not as_json:
                click.echo(style(str(path), bold=True))
                click.echo(style(_aligned(COLUMNS), dim=True))
            for item in inspect(str(path)):
                row = _row(item, summary)
                if as_json:
                    names = (name.replace(" ", "_") for name in COLUMNS)
                    print_json({"file": str(path), **dict(zip(names, row, strict=True))})
                elif is_terminal():
                    click.echo(style(_aligned(row), fg=None if row[-1] == "ok" else "red"))
                else:
                    click.echo("\t".join(tab_cell(cell) for cell in row))
            click.echo(summary.text(path), err=True)
            damaged = damaged or summary.damaged > 0
    except BrokenPipeError:
        raise  # it is about standard output, not about a file
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    return ExitCode.BAD_INPUT if damaged else ExitCode.DONE


def _segments(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            segments = sorted(path.glob("*.log"))
            if not segments:
                raise click.ClickException(f"{path}: no segment files (*.log) in this folder")
            yield from segments
        else:
            yield path


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


def _aligned(cells: tuple[object, ...]) -> str:
    """The cells in columns of fixed widths. A file may have a million batches, and the first must be shown at
    once, so the widths cannot depend on the content."""
    fitted = []
    for name, cell, width in zip(COLUMNS, cells, WIDTHS, strict=True):
        is_count = isinstance(cell, int) and name != "producer"
        text = "-" if cell is None else f"{cell:,}" if is_count else str(cell)
        fitted.append(text.ljust(width) if name in LEFT_ALIGNED else text.rjust(width))
    return "  ".join(fitted).rstrip()
