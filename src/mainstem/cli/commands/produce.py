"""The command `mainstem produce`: publishes lines as events.

Owns: its options, the batches in flight and the report of bad lines. Refuses: more batches in flight than its
limit, so that memory stays bounded for input of any length.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click

from mainstem.cli.common import at_option, escape_lines, format_size, plural, with_engine
from mainstem.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    import asyncio

    from mainstem.cli.input_lines import InputLines
    from mainstem.contract import Engine, NewEvent, StreamError

BATCH_EVENTS = 4_000
BATCH_BYTES = 1 << 20
BATCHES_IN_FLIGHT_MAX = 6
BAD_LINES_SHOWN_MAX = 20
"""Maximum number of bad lines that are shown one by one; further ones are only counted."""


@dataclass(slots=True)
class ProduceTally:
    """Counts of what a run of `produce` has done so far."""

    events: int = 0
    bytes: int = 0
    bad_lines: int = 0
    started: float = field(default_factory=time.monotonic)

    def summary(self) -> str:
        """The last line of output: `produced 336,776 events, 101.2 MB, in 2.31 s (145,790 events/s, 43.8
        MB/s)`."""
        seconds = max(time.monotonic() - self.started, 1e-6)
        events = plural(self.events, "event", "events")
        bad = f"; {plural(self.bad_lines, 'bad line', 'bad lines')} left out" if self.bad_lines else ""
        return (
            f"produced {events}, {format_size(self.bytes)}, in {seconds:.2f} s"
            f" ({self.events / seconds:,.0f} events/s, {format_size(self.bytes / seconds)}/s){bad}"
        )


@click.command("produce", short_help="Write lines of files or of standard input as events to TOPIC.")
@click.argument("topic")
@click.argument("files", metavar="[FILE]...", nargs=-1)
@at_option
@click.option("--key", metavar="FIELD", help="Field of the JSON line that is the key; a.b for a nested one.")
@click.option(
    "--timestamp",
    metavar="FIELD",
    help="Field with the event's time: ISO 8601, or seconds or milliseconds since 1970.",
)
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="A header for every event.")
@click.option(
    "--partition", type=click.IntRange(min=0), help="Write to this partition; by default, chosen by the key."
)
@click.option("--strict", is_flag=True, help="Stop at the first bad line.")
def command(
    topic: str,
    files: tuple[str, ...],
    address: str,
    key: str | None,
    timestamp: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    strict: bool,
) -> int:
    """Write each line of FILE (by default, or for -, of standard input) as an event to TOPIC.

    The line is the value, unchanged; blank lines are skipped. gzip and zstd are decompressed, whatever the
    names of the files.
    With --key or --timestamp, every line must be a JSON object with that field; a null key makes an event
    without a key. A bad line is reported with its number, and the other lines are written (exit code 4).
    """
    from mainstem.cli.input_lines import InputError, InputLines

    make_event = _event_maker(key, timestamp, _headers(headers), partition)
    try:
        lines = InputLines(files or ("-",))
        tally = ProduceTally()
        try:
            with_engine(address, _Producer(topic, lines, make_event, tally, strict).run)
        finally:
            click.echo(tally.summary(), err=True)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    return ExitCode.BAD_INPUT if tally.bad_lines else ExitCode.DONE


def _headers(texts: tuple[str, ...]) -> tuple[tuple[str, bytes | None], ...]:
    headers: list[tuple[str, bytes | None]] = []
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--header")
        headers.append((name, value.encode()))
    return tuple(headers)


def _event_maker(
    key: str | None,
    timestamp: str | None,
    headers: tuple[tuple[str, bytes | None], ...],
    partition: int | None,
) -> Callable[[bytes], NewEvent]:
    """The function that makes an event of a line; it raises ValueError for a bad line."""
    from mainstem.contract import NewEvent

    if key is None and timestamp is None:
        return lambda line: NewEvent(line, None, headers, None, partition)
    from mainstem.cli.field_extractor import FieldExtractor, decoded, key_bytes
    from mainstem.timespec import parse_event_time

    extractor = FieldExtractor([path for path in (key, timestamp) if path is not None])

    def make_event(line: bytes) -> NewEvent:
        values = extractor.extract(line)
        event_key = key_bytes(values[0]) if key is not None else None
        time_ms = parse_event_time(decoded(values[-1])) if timestamp is not None else None
        return NewEvent(line, event_key, headers, time_ms, partition)

    return make_event


class _Producer:
    """One run of `produce`: makes batches of lines and publishes several of them at a time."""

    def __init__(
        self,
        topic: str,
        lines: InputLines,
        make_event: Callable[[bytes], NewEvent],
        tally: ProduceTally,
        strict: bool,
    ) -> None:
        self._topic = topic
        self._lines = lines
        self._make_event = make_event
        self._tally = tally
        self._strict = strict
        self._stopped = False
        self._fatal_error: StreamError | None = None
        """The error that ends the run. It is not raised in the task of its batch, because other batches in
        flight may fail with the same error."""

    async def run(self, engine: Engine) -> None:
        """Publish all lines of all files. With --strict, lines after a bad one are not published."""
        import asyncio

        in_flight: set[asyncio.Task[None]] = set()
        with _progress_bar(self._lines, self._tally) as update:
            try:
                for batch in self._batches():
                    if len(in_flight) >= BATCHES_IN_FLIGHT_MAX:
                        done, in_flight = await asyncio.wait(in_flight, return_when=asyncio.FIRST_COMPLETED)
                        _raise_first(done)
                        if self._fatal_error is not None:
                            break
                    in_flight.add(asyncio.create_task(self._publish(engine, batch)))
                    update()
                    await asyncio.sleep(0)
            finally:
                if in_flight:
                    await asyncio.wait(in_flight)
            _raise_first(in_flight)
            if self._fatal_error is not None:
                raise self._fatal_error
            update()

    async def _publish(self, engine: Engine, batch: _LineBatch) -> None:
        from mainstem.contract import EventTooLarge, InvalidArgument, Position, StreamError

        results: Sequence[Position | StreamError]
        try:
            results = await engine.publish(self._topic, batch.events)
        except StreamError as error:
            results = error.results
            if not results:
                self._fail(error)
                return
        refused = _LineBatch(batch.path)
        problem = ""
        for number, event, result in zip(batch.line_numbers, batch.events, results, strict=True):
            if isinstance(result, Position):
                self._tally.events += 1
                self._tally.bytes += len(event.value or b"")
            elif isinstance(result, (EventTooLarge, InvalidArgument)):
                refused.add(number, event)
                problem = str(result)
            else:
                self._fail(result)
        if len(refused.events) == 1:
            self._report_bad_line(batch.path, refused.line_numbers[0], problem)
        elif refused.events and not self._stopped:
            # A server refuses all events that travel together because of one of them. So they travel again,
            # in ever smaller groups.
            for half in refused.halves():
                await self._publish(engine, half)

    def _fail(self, error: StreamError) -> None:
        self._stopped = True
        self._fatal_error = self._fatal_error or error

    def _batches(self) -> Iterator[_LineBatch]:
        for path in self._lines.paths:
            batch = _LineBatch(path)
            for number, line in self._lines.read(path):
                self._add(batch, number, line)
                if self._stopped:
                    break
                if len(batch.events) >= BATCH_EVENTS or batch.bytes >= BATCH_BYTES:
                    yield batch
                    batch = _LineBatch(path)
            if batch.events:
                yield batch
            if self._stopped:
                return

    def _add(self, batch: _LineBatch, number: int, line: bytes | None) -> None:
        if line is None:
            self._report_bad_line(batch.path, number, "longer than 64 MiB")
        elif line:
            try:
                event = self._make_event(line)
            except ValueError as error:
                self._report_bad_line(batch.path, number, str(error))
            else:
                batch.add(number, event)

    def _report_bad_line(self, path: str, number: int, why: str) -> None:
        self._tally.bad_lines += 1
        if self._strict:
            self._stopped = True
        if self._tally.bad_lines <= BAD_LINES_SHOWN_MAX:
            source = "standard input" if path == "-" else path
            click.echo(escape_lines(f"{source}, line {number}: {why}"), err=True)
        elif self._tally.bad_lines == BAD_LINES_SHOWN_MAX + 1:
            click.echo("further bad lines are only counted", err=True)


@dataclass(slots=True)
class _LineBatch:
    """Events of one file that are published together, and the numbers of their lines."""

    path: str
    line_numbers: list[int] = field(default_factory=list)
    events: list[NewEvent] = field(default_factory=list)
    bytes: int = 0

    def add(self, line_number: int, event: NewEvent) -> None:
        """Add the event of a line."""
        self.line_numbers.append(line_number)
        self.events.append(event)
        self.bytes += len(event.value or b"")

    def halves(self) -> tuple[_LineBatch, _LineBatch]:
        """The events in two batches, in the same order."""
        middle = len(self.events) // 2
        return (
            _LineBatch(self.path, self.line_numbers[:middle], self.events[:middle]),
            _LineBatch(self.path, self.line_numbers[middle:], self.events[middle:]),
        )


def _raise_first(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.result()


@contextmanager
def _progress_bar(lines: InputLines, tally: ProduceTally) -> Iterator[Callable[[], None]]:
    """Show a bar if standard error is a terminal; yields a function that updates it."""
    if not sys.stderr.isatty() or lines.paths == ("-",):
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]} events"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as progress:
        task = progress.add_task("producing", total=lines.total_bytes or None, count="0")
        yield lambda: progress.update(task, completed=lines.read_bytes, count=f"{tally.events:,}")
