"""What the commands share: `--at`, connecting to the server, and output for people or for programs.

Owns: the choice between the two forms of output. A terminal gets aligned columns and colours; a pipe gets
lines of columns separated by tabs, without a header; `--json` gives one JSON object per line. Refuses:
importing a client when this module is imported, because `mainstem --help` would wait for it.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mainstem.cli.credentials import credential_options, current_security, keep_protocol
from mainstem.printable import escape_controls

if TYPE_CHECKING:
    from mainstem.contract import Engine

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_ADDRESS = "127.0.0.1:9092"


def at_option(command: F) -> F:
    """Add the option `--at HOST:PORT`, or MAINSTEM_AT, to a command, and those of `credentials`."""
    return click.option(
        "--at",
        "address",
        envvar="MAINSTEM_AT",
        default=DEFAULT_ADDRESS,
        show_default=True,
        metavar="HOST:PORT",
        callback=keep_protocol,
        help="Address of a mainstem server or any Kafka cluster; also MAINSTEM_AT. --ca FILE,"
        " --user NAME, --password-file FILE and others: see docs/CLI.md.",
    )(credential_options(command))


def json_option(command: F) -> F:
    """Add the option `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")(command)


FILE_PARAMETERS = frozenset({"file", "files", "output", "data", "arguments"})
"""Parameters whose bytes need not be UTF-8, because they are paths, or the arguments of another command."""


def refuse_broken_text() -> None:
    """Refuse arguments of the command that are not UTF-8. Names and texts go over the wire, where such bytes
    could not be written; librdkafka would end the process. Raises UsageError."""
    for name, value in click.get_current_context().params.items():
        if isinstance(value, dict):
            value = tuple(f"{key}={text}" for key, text in value.items())
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and name not in FILE_PARAMETERS:
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise click.UsageError(f"{name}: {text[:100]!a} is not UTF-8") from None


def with_engine(address: str, work: Callable[[Engine], Awaitable[T]]) -> T:
    """Run `work` on the engine at HOST:PORT, then close the engine. Raises NotReachable if no server responds
    there."""
    refuse_broken_text()
    import asyncio

    from mainstem.contract import NotReachable
    from mainstem.engines.kafka.engine import KafkaEngine

    async def connect_and_work() -> T:
        engine = await KafkaEngine.connect(address, security=current_security())
        try:
            return await work(engine)
        except NotReachable as error:
            raise await engine.explain(error) from None
        finally:
            await engine.close()

    return asyncio.run(connect_and_work())


def print_error(message: str) -> None:
    """Print one line on standard error: what was wrong, where, and what to do. Names and texts in it may come
    from others: see `escape_lines`."""
    click.echo(escape_lines(f"mainstem: {message}"), err=True)


def escape_lines(text: str) -> str:
    """The text with all that could control a terminal escaped. Lines after the first are indented, so that
    none looks like a message of its own."""
    first, *others = text.split("\n")
    indented = [escape_controls(line.removeprefix("  ")) for line in others]
    return "\n  ".join([escape_controls(first), *indented])


def is_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def check_stdout_open() -> None:
    """Raise BrokenPipeError if the reader of standard output has closed it. Without this check only a write
    would notice, and a command that waits for events may write nothing for days."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError


def has_colour() -> bool:
    """Whether to use colours: on terminals, unless NO_COLOR is set (https://no-color.org)."""
    return is_terminal() and not os.environ.get("NO_COLOR")


def style(text: str, **styles: Any) -> str:
    """`click.style` if standard output has colours."""
    return click.style(text, **styles) if has_colour() else text


def style_error(text: str, **styles: Any) -> str:
    """`click.style` if standard error has colours."""
    shown = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    return click.style(text, **styles) if shown else text


def print_json(row: object) -> None:
    """Print one line of JSON."""
    import msgspec

    click.echo(msgspec.json.encode(row).decode())


def print_rows(headings: Sequence[str], rows: Sequence[Sequence[object]], *, indent: str = "") -> None:
    """Print a table. On a terminal, columns are aligned under headings, numbers to the right; in a pipe they
    are separated by tabs, without headings."""
    if not is_terminal():
        for row in rows:
            click.echo("\t".join(tab_cell(cell) for cell in row))
        return
    lines = [[terminal_cell(cell) for cell in row] for row in rows]
    columns = range(len(headings))
    widths = [max(len(line[column]) for line in [list(headings), *lines]) for column in columns]
    is_number = [any(isinstance(row[column], int) for row in rows) for column in columns]

    def aligned(cells: Sequence[str]) -> str:
        fitted = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, is_number, strict=True)
        ]
        return indent + "  ".join(fitted).rstrip()

    click.echo(style(aligned([escape_controls(heading) for heading in headings]), dim=True))
    for line in lines:
        click.echo(aligned(line))


def print_list(
    items: Sequence[T],
    headings: Sequence[str],
    row: Callable[[T], Sequence[object]],
    *,
    as_json: bool,
    none: str,
) -> None:
    """Print what a command lists, each as a line of JSON or as a row of a table. If there is nothing, a
    terminal shows `none`, and a pipe gets nothing."""
    if as_json:
        for item in items:
            print_json(item)
    elif items or not is_terminal():
        print_rows(headings, [row(item) for item in items])
    else:
        click.echo(none, err=True)


def tab_cell(cell: object) -> str:
    """A cell for programs: None is empty, and tabs and line ends are escaped."""
    text = "" if cell is None else str(cell)
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def terminal_cell(cell: object) -> str:
    """A cell for people: None is -, and numbers have separators: 1,234,567."""
    if cell is None:
        return "-"
    return f"{cell:,}" if isinstance(cell, int) else escape_controls(str(cell))


def format_size(size_bytes: float) -> str:
    """A number of bytes for people, such as `101.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def plural(count: int, singular: str, plural_form: str) -> str:
    """A count with its noun in the right form: `1 match`, `1,204 matches`."""
    return f"{count:,} {singular if count == 1 else plural_form}"


def confirm(question: str, *, yes: bool) -> None:
    """Ask for confirmation on a terminal, unless `yes`. Raises click.Abort for no, UsageError without a
    terminal."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to ask on: add --yes")
    if not click.confirm(question, err=True):
        raise click.Abort
