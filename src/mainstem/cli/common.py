"""What the commands share: `--at`, reaching the server, and output for people or for programs.

Owns: the one decision between the two: a terminal gets aligned columns and colours, a pipe gets
tab-separated lines without a header, `--json` gets one JSON object a line. Used by the files beside it
only.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mainstem.contract import Engine

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_AT = "127.0.0.1:9092"


def at_option(command: F) -> F:
    """`--at HOST:PORT`, or MAINSTEM_AT."""
    return click.option(
        "--at",
        envvar="MAINSTEM_AT",
        default=DEFAULT_AT,
        show_default=True,
        metavar="HOST:PORT",
        help="A mainstem server or any Kafka cluster; also MAINSTEM_AT.",
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")(command)


def with_engine(at: str, work: Callable[[Engine], Awaitable[T]]) -> T:
    """Run `work` on the engine at HOST:PORT, and close it. NotReachable when nobody answers there."""
    import asyncio

    from mainstem.engines.kafka.engine import KafkaEngine

    async def inner() -> T:
        engine = await KafkaEngine.connect(at)
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(inner())


def is_terminal() -> bool:
    """Whether a person reads standard output."""
    return sys.stdout.isatty()


def check_stdout_open() -> None:
    """BrokenPipeError if nobody reads standard output any more. A pipe tells that only to who writes, and a
    command that waits for events may not write for days."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError


def has_colour() -> bool:
    """Colours are for terminals, unless NO_COLOR is set (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def style(text: str, **style: Any) -> str:
    """`click.style` where colours are shown."""
    return click.style(text, **style) if has_colour() else text


def style_error(text: str, **style: Any) -> str:
    """`paint`, for standard error."""
    shown = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return click.style(text, **style) if shown else text


def print_json(row: object) -> None:
    """One line of JSON."""
    import msgspec

    click.echo(msgspec.json.encode(row).decode())


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> None:
    """Columns: aligned under their headings on a terminal, numbers to the right; tab-separated for a
    program."""
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(tab_cell(cell) for cell in row))
        return
    shown = [[terminal_cell(cell) for cell in row] for row in rows]
    widths = [max(len(line[at]) for line in [list(headings), *shown]) for at in range(len(headings))]
    right = [any(isinstance(row[at], int) for row in rows) for at in range(len(headings))]

    def lay(cells: Sequence[str]) -> str:
        fitted = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(cells, widths, right, strict=True)]
        return indent + "  ".join(fitted).rstrip()

    click.echo(style(lay(headings), dim=True))
    for line in shown:
        click.echo(lay(line))


def tab_cell(cell: object) -> str:
    """For a program: numbers as digits, nothing as nothing, no tabs or line ends within a column."""
    text = "" if cell is None else str(cell)
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def terminal_cell(cell: object) -> str:
    """For a person: 1,234,567 and - for nothing."""
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else escape_controls(str(cell))


def escape_controls(text: str) -> str:
    """Without control characters: an event must not be able to write to the terminal's settings."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(character) or f"\\u{ord(character):04x}"


def format_size(count: float) -> str:
    """Bytes for people: 101.2 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person; without a terminal, `--yes` must have been given."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can answer here: add --yes")
    if not click.confirm(question, err=True):
        raise click.Abort
