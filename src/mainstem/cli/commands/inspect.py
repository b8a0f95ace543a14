"""`mainstem inspect`."""

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


@dataclass(slots=True)
class _Summary:
    """What a file holds."""

    batches: int = 0
    events: int = 0
    first: int | None = None
    last: int = -1
    damaged: int = 0

    def text(self, path: Path) -> str:
        held = f"{self.batches:,} batches, {self.events:,} events"
        if self.first is not None:
            held += f", offsets {self.first:,} to {self.last:,}"
        return f"{path}: {held}; {f'{self.damaged:,} places are damaged' if self.damaged else 'whole'}"


@click.command("inspect", short_help="Show what is in a segment file, batch by batch.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
def command(paths: tuple[Path, ...], as_json: bool) -> int:
    """Show what is in a segment file (or in all of a partition's folder), batch by batch, and whether it is
    whole.

    Columns: position, bytes, first offset, last offset, events, codec, latest time, producer id, state
    (`ok`, `damaged`, `gap`: offsets are missing before it, `zeros`: space that was never written). Exit
    code 4 if there is damage.
    """
    from mainstem.log.offline.inspect import inspect

    damaged = False
    try:
        for path in _segments(paths):
            summary = _Summary()
            if is_terminal() and not as_json:
                click.echo(style(str(path), bold=True))
                click.echo(style(_laid(COLUMNS), dim=True))
            for each in inspect(str(path)):
                row = _row(each, summary)
                if as_json:
                    names = (name.replace(" ", "_") for name in COLUMNS)
                    print_json({"file": str(path), **dict(zip(names, row, strict=True))})
                elif is_terminal():
                    click.echo(style(_laid(row), fg=None if row[-1] == "ok" else "red"))
                else:
                    click.echo("\t".join(tab_cell(cell) for cell in row))
            click.echo(summary.text(path), err=True)
            damaged = damaged or summary.damaged > 0
    except BrokenPipeError:
        raise  # of standard output, not of a file
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    return ExitCode.BAD_INPUT if damaged else ExitCode.DONE


def _segments(paths: tuple[Path, ...]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.log"))
            if not found:
                raise click.ClickException(f"{path}: no segment files (*.log) in this folder")
            yield from found
        else:
            yield path


def _row(each: InspectedBatch | InspectedDamage, summary: _Summary) -> tuple[object, ...]:
    from mainstem.log.offline.inspect import InspectedDamage
    from mainstem.log.storage.codecs import NAMES

    if isinstance(each, InspectedDamage):
        summary.damaged += not each.zeros
        size = each.end_position - each.position
        return (each.position, size, None, None, None, None, None, None, "zeros" if each.zeros else "damaged")
    header = each.header
    summary.batches += 1
    summary.events += header.count
    summary.first = header.base_offset if summary.first is None else summary.first
    summary.last = header.last_offset
    summary.damaged += not each.crc_ok or each.is_out_of_sequence
    codec = NAMES[header.codec] if header.codec < len(NAMES) else str(header.codec)
    return (
        each.position,
        header.total_bytes,
        header.base_offset,
        header.last_offset,
        header.count,
        codec,
        format_iso(header.max_timestamp),
        None if header.producer_id < 0 else header.producer_id,
        "gap" if each.is_out_of_sequence else "ok" if each.crc_ok else "damaged",
    )


def _laid(cells: tuple[object, ...]) -> str:
    """Columns of fixed widths: a file may have a million batches, and the first should show at once."""
    fitted = []
    for at, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True)):
        text = "-" if cell is None else f"{cell:,}" if isinstance(cell, int) and at != 7 else str(cell)
        fitted.append(text.ljust(width) if at in (5, 6, 8) else text.rjust(width))
    return "  ".join(fitted).rstrip()
